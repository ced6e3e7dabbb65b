// SPDX-License-Identifier: Apache-2.0
// How a system call that cannot go on waits without holding the vCPU.
#ifndef WAXVM_SRC_LINUX_ABI_WAIT_H_
#define WAXVM_SRC_LINUX_ABI_WAIT_H_

#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

namespace waxvm::linux_abi {

class OpenFile;

/// A handler's answer instead of a result: the thread sleeps, as Process::Sleep has arranged, and
/// the handler is called again with the same arguments when what it waits for may have happened.
/// Other threads run meanwhile.
inline constexpr std::int64_t kAsleep = std::numeric_limits<std::int64_t>::min();

/// A result that no guest sees: the call was interrupted by a signal, and starts again behind a
/// handler with SA_RESTART or when no handler ran; otherwise it becomes EINTR. The number is
/// Linux's ERESTARTSYS.
inline constexpr std::int64_t kRestart = -512;
/// The same, but every handler that runs makes it EINTR. Linux's ERESTARTNOHAND.
inline constexpr std::int64_t kRestartWithoutHandler = -514;

/// A file, and the events of poll(2) that are waited for; POLLERR and POLLHUP always count.
struct WatchedFile {
  std::shared_ptr<OpenFile> file;
  short events = 0;
};

/// What a thread sleeps for: any of the files, the time, or a signal.
struct Wait {
  std::vector<WatchedFile> files = {};
  /// Counted from the first time this call went to sleep; empty: no end.
  std::optional<std::chrono::nanoseconds> timeout = {};
  /// What Process::Sleep returns once a signal has ended the sleep: -EINTR, kRestart or
  /// kRestartWithoutHandler.
  std::int64_t interrupted = -4;  // -EINTR
  /// Signals that end the sleep although they are blocked (sigtimedwait); bit n-1 for signal n.
  std::uint64_t signals = 0;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_WAIT_H_
