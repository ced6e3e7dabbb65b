// SPDX-License-Identifier: Apache-2.0
#include "src/vmm/fuel.h"

#include <fcntl.h>
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <limits>
#include <utility>

#include "src/base/status.h"
#include "src/base/unique_fd.h"

namespace waxvm::vmm {
namespace {

pid_t ThisThread() { return static_cast<pid_t>(::syscall(SYS_gettid)); }

class PerfCounter final : public FuelCounter {
 public:
  explicit PerfCounter(UniqueFd fd) : fd_(std::move(fd)) {}

  absl::StatusOr<std::uint64_t> Read() const override {
    std::uint64_t value = 0;
    for (;;) {
      const ssize_t got = ::read(fd_.get(), &value, sizeof value);
      if (got == static_cast<ssize_t>(sizeof value)) return value;
      if (got < 0 && errno == EINTR) continue;
      // 0 is the end of file of a pinned event that lost its place in the processor.
      return Internal("the instruction counter cannot be read");
    }
  }

  void Pause() override { ::ioctl(fd_.get(), PERF_EVENT_IOC_DISABLE, 0); }
  void Continue() override { ::ioctl(fd_.get(), PERF_EVENT_IOC_ENABLE, 0); }

 private:
  UniqueFd fd_;
};

absl::Status WhyNot(int error) {
  const std::string text(ErrnoStatus(error, "perf_event_open").message());
  switch (error) {
    case ENOENT:
    case EOPNOTSUPP:
    case ENODEV:
      return Unavailable("this host has no counter for it, as inside most virtual machines (%s)",
                         text);
    case EACCES:
    case EPERM:
      return Unavailable(
          "this process may not use the processor's counters; lower kernel.perf_event_paranoid or "
          "give it CAP_PERFMON (%s)",
          text);
    default:
      return Unavailable("%s", text);
  }
}

}  // namespace

const PerfEvent kGuestInstructions = {
    .type = PERF_TYPE_HARDWARE, .config = PERF_COUNT_HW_INSTRUCTIONS, .guest_only = true};
const PerfEvent kTaskClock = {.type = PERF_TYPE_SOFTWARE, .config = PERF_COUNT_SW_TASK_CLOCK};

// Spec: perf_event_open(2).
absl::StatusOr<std::unique_ptr<FuelCounter>> NewPerfCounter(const PerfEvent& event,
                                                            std::optional<FuelAlarm> alarm) {
  perf_event_attr attributes{};
  attributes.size = sizeof attributes;
  attributes.type = event.type;
  attributes.config = event.config;
  attributes.pinned = 1;  // never multiplexed: an estimate is no count
  attributes.exclude_kernel = event.guest_only;
  attributes.exclude_hv = event.guest_only;
  attributes.exclude_host = event.guest_only;
  attributes.disabled = alarm.has_value();
  if (alarm) attributes.sample_period = alarm->after;
  UniqueFd fd(static_cast<int>(::syscall(SYS_perf_event_open, &attributes, /*pid=*/0, /*cpu=*/-1,
                                         /*group=*/-1, PERF_FLAG_FD_CLOEXEC)));
  if (!fd) return WhyNot(errno);
  if (alarm) {
    f_owner_ex owner{.type = F_OWNER_TID, .pid = ThisThread()};
    // Once: a guest must not fill the embedder's queue of signals.
    if (::fcntl(fd.get(), F_SETOWN_EX, &owner) != 0 ||
        ::fcntl(fd.get(), F_SETSIG, alarm->signal) != 0 ||
        ::fcntl(fd.get(), F_SETFL, O_ASYNC) != 0 ||
        ::ioctl(fd.get(), PERF_EVENT_IOC_REFRESH, 1) != 0)
      return ErrnoStatus(errno, "setting up the counter");
  }
  return std::make_unique<PerfCounter>(std::move(fd));
}

void FuelGauge::Restart(std::optional<std::uint64_t> limit) {
  counter_.reset();
  before_ = 0;
  limit_ = limit;
}

absl::Status FuelGauge::Enter(int signal) {
  if (!limit_ || Over()) return absl::OkStatus();
  if (counter_ != nullptr && thread_ == ThisThread()) {
    counter_->Continue();
    return absl::OkStatus();
  }
  before_ = used();
  counter_.reset();
  thread_ = ThisThread();
  // The counter stops at its alarm, which is therefore one beyond the limit.
  const std::uint64_t most = std::numeric_limits<std::int64_t>::max();
  const std::uint64_t left = *limit_ - before_;
  WAXVM_ASSIGN_OR_RETURN(
      counter_, meter_(FuelAlarm{.after = left < most ? left + 1 : most, .signal = signal}));
  return absl::OkStatus();
}

std::uint64_t FuelGauge::used() const {
  constexpr std::uint64_t kAll = std::numeric_limits<std::uint64_t>::max();
  if (counter_ == nullptr) return before_;
  const absl::StatusOr<std::uint64_t> counted = counter_->Read();
  if (!counted.ok()) return kAll;
  return *counted < kAll - before_ ? before_ + *counted : kAll;
}

}  // namespace waxvm::vmm
