// SPDX-License-Identifier: Apache-2.0
#include "src/provider_process/refusals.h"

#include <linux/seccomp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <thread>
#include <utility>

#include "src/provider_process/process_tree.h"

namespace waxvm::process {
namespace {

using std::chrono::steady_clock;

// A call that was let through has made its process by then, as far as the next count can see.
constexpr std::chrono::milliseconds kStartTime{2};
// How long a full tree is taken to stay full: a fork bomb must not make the host count at its pace.
constexpr std::chrono::milliseconds kFullTime{5};

Resource AskedBy(int number) {
  if (number == SYS_getrandom) return Resource::kRandom;
  return number == SYS_adjtimex ? Resource::kClock : Resource::kSystemCall;
}

}  // namespace

Refusals::Refusals(UniqueFd listener, const RefusalOptions& options)
    : listener_(std::move(listener)), options_(options) {
  if (!listener_) return;
  // A newer kernel's structures may be larger than the headers'.
  seccomp_notif_sizes sizes{};
  syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes);
  request_.resize(std::max<std::size_t>(sizes.seccomp_notif, sizeof(seccomp_notif)));
  response_.resize(std::max<std::size_t>(sizes.seccomp_notif_resp, sizeof(seccomp_notif_resp)));
}

void Refusals::Serve() {
  std::fill(request_.begin(), request_.end(), std::byte{0});
  auto& request = *reinterpret_cast<seccomp_notif*>(request_.data());
  // Fails when the caller was killed meanwhile.
  if (ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_RECV, &request) != 0) return;
  const Answer answer = Decide(static_cast<pid_t>(request.pid), request.data);
  std::fill(response_.begin(), response_.end(), std::byte{0});
  auto& response = *reinterpret_cast<seccomp_notif_resp*>(response_.data());
  response.id = request.id;
  response.error = -answer.error;
  if (answer.error == 0) response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
  ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_SEND, &response);
}

Refusals::Answer Refusals::Decide(pid_t task, const seccomp_data& call) {
  const bool clone = call.nr == SYS_clone || call.nr == SYS_fork || call.nr == SYS_vfork;
  if (clone) return DecideFork(call.args[0], call.nr);
  if (call.nr == SYS_memfd_create && options_.policy.deny_memory_files) return Refuse(call.nr);
  if (SetsId(call.nr, call.args)) return Refuse(call.nr);
  if (options_.policy.announce_opens) {
    const int count = DescriptorsOpened(call.nr, call.args[0], call.args[1]);
    if (count > 0) return DecideOpen(task, count);
  }
  return Refuse(call.nr);
}

Refusals::Answer Refusals::Refuse(int number) {
  const std::string name = SystemCallName(number);
  if (options_.gate != nullptr) options_.gate->RecordDenial({AskedBy(number), name});
  return {RefusalErrno(number)};
}

Refusals::Answer Refusals::Bound(LimitKind limit, int error) {
  if (options_.gate != nullptr) options_.gate->RecordDenial({Resource::kLimit, LimitName(limit)});
  return {error};
}

Refusals::Answer Refusals::DecideFork(std::uint64_t flags, int number) {
  if (!IsFork(number, flags)) return Refuse(number);
  if (!TaskFits()) return Bound(LimitKind::kProcesses, EAGAIN);
  ++tasks_;
  last_start_ = steady_clock::now();
  if (number != SYS_clone || (flags & CLONE_THREAD) == 0) started_processes_ = true;
  return {};
}

/// Every start was counted; ends are only found by looking, which is done when the bound is near.
bool Refusals::TaskFits() {
  if (tasks_ < options_.max_tasks) return true;
  const auto now = steady_clock::now();
  if (now < full_until_) return false;
  std::this_thread::sleep_until(std::min(last_start_, now) + kStartTime);
  const auto sample = SampleTree(options_.init);
  if (sample) tasks_ = sample->tasks;
  if (tasks_ < options_.max_tasks) return true;
  full_until_ = steady_clock::now() + kFullTime;
  return false;
}

/// RLIMIT_NOFILE is what bounds; the look beforehand is only for the report's count.
Refusals::Answer Refusals::DecideOpen(pid_t task, int count) {
  if (!options_.max_descriptors) return {};
  const auto held = CountDescriptors(task);
  // The channel for host calls is not the program's.
  if (held && *held - 1 + static_cast<std::uint64_t>(count) > *options_.max_descriptors) {
    return Bound(LimitKind::kOpenFiles, EMFILE);
  }
  return {};
}

}  // namespace waxvm::process
