// SPDX-License-Identifier: Apache-2.0
#include "src/capability/host_sources.h"

#include <sys/random.h>

#include <cerrno>
#include <chrono>
#include <ctime>
#include <system_error>

#include "src/base/status.h"

namespace waxvm {
namespace {

std::chrono::nanoseconds Read(clockid_t id) {
  timespec now = {};
  ::clock_gettime(id, &now);  // cannot fail for these clocks
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

class HostClock final : public ClockSource {
 public:
  std::chrono::nanoseconds RealTime() override { return Read(CLOCK_REALTIME); }
  std::chrono::nanoseconds MonotonicTime() override { return Read(CLOCK_MONOTONIC); }
};

class HostRandom final : public RandomSource {
 public:
  // getrandom was seen to work (NewHostRandom), so that only an interruption is left. What cannot
  // be filled must not be returned either: predictable bytes would pass for random ones.
  void Fill(std::span<std::byte> buffer) override {
    while (!buffer.empty()) {
      const ssize_t got = ::getrandom(buffer.data(), buffer.size(), 0);
      if (got > 0) buffer = buffer.subspan(static_cast<std::size_t>(got));
    }
  }
};

}  // namespace

std::shared_ptr<ClockSource> NewHostClock() { return std::make_shared<HostClock>(); }

absl::StatusOr<std::shared_ptr<RandomSource>> NewHostRandom() {
  char probe = 0;
  while (::getrandom(&probe, sizeof probe, 0) != sizeof probe) {
    if (errno != EINTR)
      return Unavailable("getrandom does not work here: %s",
                         std::generic_category().message(errno));
  }
  return std::make_shared<HostRandom>();
}

}  // namespace waxvm
