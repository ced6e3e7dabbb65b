// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/vfs/timer_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "src/linux_abi/vfs/pipe.h"

namespace waxvm::linux_abi {
namespace {

using std::chrono::nanoseconds;

// How soon somebody may be woken again for a timer that has run out and was not read.
constexpr nanoseconds kShortestWait = std::chrono::milliseconds(1);

}  // namespace

TimerFile::TimerFile(VfsContext& context, int clock, int flags)
    : AnonymousFile(O_RDWR | flags), context_(context), clock_(clock) {}

void TimerFile::Set(const TimerValue& value) {
  expired_before_ += Expirations();
  value_ = value;
  next_.reset();
  if (value.left.count() == 0) return;
  const nanoseconds now = context_.host.Now();
  next_ = now + std::min(value.left, nanoseconds::max() - now);
}

std::uint64_t TimerFile::Expirations() const {
  if (!next_) return 0;
  const nanoseconds now = context_.host.Now();
  if (now < *next_) return 0;
  if (value_.interval.count() == 0) return 1;
  return 1 + static_cast<std::uint64_t>((now - *next_) / value_.interval);
}

TimerValue TimerFile::Get() const {
  if (!next_) return {.left = nanoseconds(0), .interval = value_.interval};
  if (context_.spec.clock == nullptr) return value_;
  const nanoseconds now = context_.host.Now();
  TimerValue value{.left = *next_ - now, .interval = value_.interval};
  if (value.left.count() > 0) return value;
  const bool again = value_.interval.count() > 0;
  value.left = again ? value_.interval - (now - *next_) % value_.interval : nanoseconds(0);
  return value;
}

std::int64_t TimerFile::Read(std::span<std::byte> to) {
  std::uint64_t count = Expirations();
  if (to.size() < sizeof count) return -EINVAL;
  if (count == 0) return -EAGAIN;
  expired_before_ += count;
  if (value_.interval.count() == 0) {
    next_.reset();
  } else {
    *next_ += value_.interval * static_cast<std::int64_t>(count);
  }
  if (context_.spec.clock == nullptr) count = 1;
  std::memcpy(to.data(), &count, sizeof count);
  return sizeof count;
}

std::int64_t TimerFile::Stat(struct stat& status) const {
  StatUnnamed(1, 0600, status);
  return 0;
}

std::optional<nanoseconds> TimerFile::ReadyAt() const {
  if (!next_) return std::nullopt;
  const nanoseconds now = context_.host.Now();
  if (now < *next_) return next_;
  if (value_.interval.count() == 0) return std::nullopt;
  return now + std::max(value_.interval, kShortestWait);
}

}  // namespace waxvm::linux_abi
