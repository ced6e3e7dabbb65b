// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_VFS_NODE_SOURCE_H_
#define WAXVM_SRC_LINUX_ABI_VFS_NODE_SOURCE_H_

#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "src/linux_abi/errno_or.h"

namespace waxvm::linux_abi {

class MemoryNode;
class OpenFile;

/// Where a node gets from what it does not hold itself. Thread safety: none.
class NodeSource {
 public:
  virtual ~NodeSource() = default;

  /// The bytes of a regular file, or what a symbolic link says.
  virtual ErrnoOr<std::string> Text() { return Errno{EINVAL}; }
  /// What is written to a regular file. Returns 0 or a negated errno.
  virtual std::int64_t SetText(std::string_view) { return -EACCES; }
  /// The open file that a link leads to, whatever its text says; null for ordinary links.
  virtual std::shared_ptr<OpenFile> LinkedFile() { return nullptr; }
  /// Brings the names of a directory up to date, before they are looked at.
  virtual void Refresh(MemoryNode&) {}
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_VFS_NODE_SOURCE_H_
