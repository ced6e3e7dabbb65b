// SPDX-License-Identifier: Apache-2.0
// The three standard streams. They look like pipes, so that a libc buffers them fully.
#ifndef WAXVM_SRC_LINUX_ABI_VFS_STREAM_FILE_H_
#define WAXVM_SRC_LINUX_ABI_VFS_STREAM_FILE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "src/linux_abi/host.h"
#include "src/linux_abi/vfs/open_file.h"

namespace waxvm::linux_abi {

/// Standard input from a host descriptor that stays its owner's; -1 is an empty one.
class InputFile final : public OpenFile {
 public:
  explicit InputFile(int descriptor);

  std::int64_t Read(std::span<std::byte> to) override;
  std::int64_t Stat(struct stat& status) const override;
  short Poll() const override;
  ErrnoOr<std::shared_ptr<OpenFile>> Reopen(int flags) override;
  Edges edges() const override;
  void AddHostDescriptors(std::vector<pollfd>& to) const override;
  std::int64_t Available() const override;

 private:
  std::int64_t ReadNow(std::span<std::byte> to) const;

  int descriptor_;
  bool regular_ = false;
};

/// Standard output or error.
class OutputFile final : public OpenFile {
 public:
  /// `on_limit` ends the process; it is called when the output bound is met.
  OutputFile(Host& host, Stream stream, std::function<void()> on_limit);

  std::int64_t Write(std::span<const std::byte> from) override;
  std::int64_t Stat(struct stat& status) const override;
  short Poll() const override { return POLLOUT; }
  ErrnoOr<std::shared_ptr<OpenFile>> Reopen(int flags) override;
  Stream stream() const { return stream_; }

 private:
  Host& host_;
  Stream stream_;
  std::function<void()> on_limit_;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_VFS_STREAM_FILE_H_
