// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_VFS_PATH_WALK_H_
#define WAXVM_SRC_LINUX_ABI_VFS_PATH_WALK_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "src/linux_abi/errno_or.h"
#include "src/linux_abi/vfs/host_folder.h"
#include "src/linux_abi/vfs/place.h"

namespace waxvm::linux_abi {

/// What a walk does with the last component.
enum class Last {
  kFollow,        ///< goes there, through a symbolic link
  kNoFollow,      ///< goes there
  kParent,        ///< stops at the directory it is in
  kCreate,        ///< as kParentFollow, but what a link calls a directory (by a slash) stays behind
  kParentFollow,  ///< the same, but a symbolic link leads on to where it points
};

/// Where a walk ended.
struct Spot {
  Place place;
  /// Set when the place is in a granted folder.
  HostObject host;
  /// After kParent: the component left over; "/", "." or ".." when there is no plain name.
  std::string name;
  bool trailing_slash = false;
  /// Set where a link of /proc/self/fd led to an open file that is no directory.
  std::shared_ptr<OpenFile> file;

  bool on_host() const { return host.fd.valid(); }
  bool has_plain_name() const { return name != "/" && name != "." && name != ".."; }
  mode_t mode() const {
    if (file != nullptr) {
      struct stat status {};
      return file->Stat(status) < 0 ? 0 : status.st_mode;
    }
    return on_host() ? host.status.st_mode : place.anchor()->mode;
  }
};

/// Follows one path through the instance's namespace, the way path_resolution(7) says: ".." stays
/// within the root, symbolic links continue in the instance's own namespace wherever they were
/// found, and at most 40 of them. Used once.
class PathWalk {
 public:
  /// `resolve`: the RESOLVE_* flags of openat2(2).
  PathWalk(const Place& root, const Place& base, Last last, std::uint64_t resolve = 0);

  ErrnoOr<Spot> Walk(std::string_view path);

 private:
  // These return 0 or a negated errno.
  std::int64_t Run();
  std::int64_t Step();
  std::int64_t GoToHost();
  std::int64_t FollowNode(const MemoryNode& node);
  std::int64_t FollowLinkOnTheWay(const HostLink& link, const std::string& host_path);
  std::int64_t Expand(std::string_view text, Place directory);
  /// Whether the last component was a symbolic link, which is now being followed.
  ErrnoOr<bool> FollowLast();
  void Push(std::string_view path);
  bool parent_wanted() const {
    return last_ == Last::kParent || last_ == Last::kParentFollow || last_ == Last::kCreate;
  }

  /// True where the walk may not leave where it started.
  bool scoped() const;
  bool AtBase() const;

  Place root_;
  Place base_;
  Last last_;
  std::uint64_t resolve_;
  Spot at_;
  std::vector<std::string> pending_;  ///< components still to go, the next one at the back
  int links_ = 0;
};

/// Looks up the component that a kParent walk left over; no link is followed.
ErrnoOr<Spot> LookUp(const Spot& parent);

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_VFS_PATH_WALK_H_
