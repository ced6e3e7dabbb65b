// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_VFS_PLACE_H_
#define WAXVM_SRC_LINUX_ABI_VFS_PLACE_H_

#include <memory>
#include <string>
#include <string_view>

#include "src/linux_abi/vfs/memory_node.h"

namespace waxvm::linux_abi {

/// "a/b" from "a" and "b"; either may be empty.
inline std::string JoinPath(std::string_view head, std::string_view tail) {
  std::string joined(head);
  if (!head.empty() && !tail.empty()) joined += '/';
  return joined += tail;
}

/// Where something is in the instance's one namespace: a node of its own tree, and for what lies
/// in a granted host folder the rest of the way from there. Holds no host descriptor, so that a
/// guest cannot use them up by going deep.
class Place {
 public:
  Place() = default;
  explicit Place(std::shared_ptr<MemoryNode> anchor, std::string rest = {})
      : anchor_(std::move(anchor)), rest_(std::move(rest)) {}

  const std::shared_ptr<MemoryNode>& anchor() const { return anchor_; }
  const std::string& rest() const { return rest_; }

  /// The host folder behind this place, or null for the instance's own tree.
  const std::shared_ptr<HostFolder>& folder() const { return anchor_->backing.folder; }
  /// The way within folder().
  std::string HostPath() const { return JoinPath(anchor_->backing.path, rest_); }

  Place Child(std::string_view name) const { return Place(anchor_, JoinPath(rest_, name)); }
  /// ".." of a directory: itself at the root, empty (no anchor) above a removed directory.
  Place Parent() const {
    if (rest_.empty()) return Place(anchor_->parent.lock());
    const std::size_t slash = rest_.rfind('/');
    return Place(anchor_, slash == std::string::npos ? "" : rest_.substr(0, slash));
  }

  ErrnoOr<std::string> Path() const {
    ErrnoOr<std::string> path = anchor_->Path();
    if (!path.ok() || rest_.empty()) return path;
    return (*path == "/" ? *path : *path + "/") + rest_;
  }

 private:
  std::shared_ptr<MemoryNode> anchor_;
  std::string rest_;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_VFS_PLACE_H_
