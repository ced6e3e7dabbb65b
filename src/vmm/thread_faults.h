// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_VMM_THREAD_FAULTS_H_
#define WAXVM_SRC_VMM_THREAD_FAULTS_H_

#include <pthread.h>
#include <sys/resource.h>
#include <time.h>

#include <optional>

namespace waxvm::vmm {

/// How many page faults the kernel has served for one thread so far, whoever caused them: the
/// thread's own instructions, a system call of its, or a guest that runs on it. Two that are equal
/// were taken with no fault in between.
/// Spec: getrusage(2), RUSAGE_THREAD; handle_mm_fault() of Linux counts for the current task.
struct ThreadFaults {
  clockid_t thread =
      0;  ///< its CPU clock, which has the kernel's thread id in it and costs no call
  long minor = 0;
  long major = 0;

  friend bool operator==(const ThreadFaults&, const ThreadFaults&) = default;

  /// Empty where the kernel does not tell.
  static std::optional<ThreadFaults> OfThisThread() {
    ThreadFaults faults;
    rusage usage;
    if (::pthread_getcpuclockid(::pthread_self(), &faults.thread) != 0 ||
        ::getrusage(RUSAGE_THREAD, &usage) != 0)
      return std::nullopt;
    faults.minor = usage.ru_minflt;
    faults.major = usage.ru_majflt;
    return faults;
  }
};

}  // namespace waxvm::vmm

#endif  // WAXVM_SRC_VMM_THREAD_FAULTS_H_
