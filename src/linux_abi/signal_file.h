// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_SIGNAL_FILE_H_
#define WAXVM_SRC_LINUX_ABI_SIGNAL_FILE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "src/linux_abi/signals.h"
#include "src/linux_abi/vfs/open_file.h"

namespace waxvm::linux_abi {

/// A signalfd: the pending signals of a set, as records of 128 bytes. Whoever reads or polls takes
/// its own signals and the process's. Spec: signalfd(2).
class SignalFile final : public AnonymousFile {
 public:
  /// `process` outlives the file. `flags`: O_NONBLOCK or 0.
  SignalFile(Process& process, SignalSet set, int flags);

  void set_signals(SignalSet set) { set_ = set & ~kUnblockable; }

  std::int64_t Read(std::span<std::byte> to) override;
  std::int64_t Stat(struct stat& status) const override;
  short Poll() const override;
  Edges edges() const override;
  bool can_write() const override { return false; }

 private:
  friend class FilesKeeper;
  Process& process_;
  SignalSet set_ = 0;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_SIGNAL_FILE_H_
