// SPDX-License-Identifier: Apache-2.0
// Helpers to lay out directories whose files are made when they are looked at.
#ifndef WAXVM_SRC_LINUX_ABI_VFS_PROC_NODES_H_
#define WAXVM_SRC_LINUX_ABI_VFS_PROC_NODES_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "src/linux_abi/vfs/memory_node.h"
#include "src/linux_abi/vfs/node_source.h"
#include "src/linux_abi/vfs/process_view.h"

namespace waxvm::linux_abi {

using MakeText = std::function<ErrnoOr<std::string>()>;
using TakeText = std::function<std::int64_t(std::string_view)>;

/// Adds names to one directory of the instance's own tree. Where memory is out they are not there,
/// which later calls answer with ENOENT.
class DirectoryBuilder {
 public:
  DirectoryBuilder(VfsContext& context, std::shared_ptr<MemoryNode> directory)
      : context_(context), directory_(std::move(directory)) {}

  const std::shared_ptr<MemoryNode>& node() const { return directory_; }
  /// A directory within, made where it is missing; `source` may be null.
  DirectoryBuilder Directory(std::string_view name, std::shared_ptr<NodeSource> source = nullptr);
  void File(std::string_view name, MakeText text, TakeText take = nullptr);
  void File(std::string_view name, std::string text);
  void Link(std::string_view name, MakeText text);
  void Link(std::string_view name, std::string text);
  std::shared_ptr<MemoryNode> Node(std::string_view name, mode_t mode,
                                   std::shared_ptr<NodeSource> source);

 private:
  VfsContext& context_;
  std::shared_ptr<MemoryNode> directory_;
};

/// A directory that is filled when it is first looked at: a program that never does pays nothing.
class FilledLater final : public NodeSource {
 public:
  explicit FilledLater(std::function<void(MemoryNode&)> fill) : fill_(std::move(fill)) {}
  void Refresh(MemoryNode& directory) override {
    if (!fill_) return;
    const auto fill = std::exchange(fill_, nullptr);
    fill(directory);
  }

 private:
  std::function<void(MemoryNode&)> fill_;
};

/// Fill in /proc, /proc/<pid> and /sys. `context` and `view` outlive the nodes.
void FillProc(VfsContext& context, ProcessView& view, MemoryNode& directory);
void FillProcSelf(VfsContext& context, ProcessView& view, MemoryNode& directory);
void FillSys(VfsContext& context, MemoryNode& directory);

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_VFS_PROC_NODES_H_
