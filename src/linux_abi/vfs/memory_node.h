// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_VFS_MEMORY_NODE_H_
#define WAXVM_SRC_LINUX_ABI_VFS_MEMORY_NODE_H_

#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "src/base/memory_account.h"
#include "src/base/unique_fd.h"
#include "src/linux_abi/errno_or.h"
#include "src/linux_abi/host.h"
#include "src/linux_abi/vfs/file_locks.h"
#include "src/linux_abi/vfs/host_folder.h"
#include "src/linux_abi/vfs/sparse_bytes.h"
#include "src/root_image/tree.h"
#include "waxvm/provider.h"

namespace waxvm::linux_abi {

/// A bound of its own beside the memory limit: a guest with a huge limit must not make the host
/// spend minutes on freeing nodes.
inline constexpr std::uint64_t kMaxNodes = 1'000'000;

class FilesKeeper;
class FilesRestorer;
class MemoryNode;
class NodeSource;
class OpenFile;
class UnixSocket;

/// What every file of one instance shares. Outlives them.
struct VfsContext {
  const InstanceSpec& spec;
  MemoryAccount& account;
  Host& host;
  std::uint64_t last_inode = 0;
  std::uint64_t live_nodes = 0;
  std::uint64_t epoll_round = 0;  ///< EpollFile::Round
  int epoll_depth = 0;
  // UnixSocket: all there are, those with abstract names, and the files in their queues.
  std::set<UnixSocket*> sockets = {};
  std::map<std::string, std::weak_ptr<UnixSocket>> abstract_sockets = {};
  std::uint64_t files_in_flight = 0;
  std::uint64_t max_files_in_flight = 1024;
  std::vector<std::shared_ptr<OpenFile>> doomed_files = {};
  bool dooming = false;
  /// The guest changed something in its own tree since this was last cleared.
  bool changed = false;
  FileLocks locks{account};
  /// On files that the host knows: the descriptors that hold the process's own locks.
  std::map<FileLocks::File, UniqueFd> process_locks = {};
  timespec started{};  ///< the host's time when the instance was made; never shown to the guest
  /// Files of the image that have several names, once one of these was looked at.
  std::unordered_map<const root_image::Node*, std::shared_ptr<MemoryNode>> linked_files = {};

  /// The granted clock's time, or the fixed one.
  timespec Now() const;
};

enum class Device { kNone, kNull, kZero, kFull, kRandom, kUrandom, kTty };

/// Where a granted host folder or file shows through a node of the instance's own tree.
struct HostBacking {
  std::shared_ptr<HostFolder> folder;
  std::string path;  ///< within the folder
  explicit operator bool() const { return folder != nullptr; }
};

/// An inode of the instance's own tree: a directory, regular file, symbolic link or device. What
/// the root image has is there from the start, but takes memory only once it is looked at: an image
/// of a million files costs a new instance nothing. Thread safety: none.
class MemoryNode : public std::enable_shared_from_this<MemoryNode> {
 public:
  struct Link {
    std::shared_ptr<MemoryNode> node;
    MemoryCharge charge;
  };
  using Links = std::map<std::string, Link, std::less<>>;

  /// `mode` with the type. Errors: ENOSPC.
  static ErrnoOr<std::shared_ptr<MemoryNode>> Create(VfsContext& context, mode_t mode);
  /// The same as a copy of `image`, which outlives it. Shares the bytes, and for a directory what
  /// is in it.
  static ErrnoOr<std::shared_ptr<MemoryNode>> CreateFrom(VfsContext& context,
                                                         const root_image::Node& image);
  /// An empty one as a snapshot had it. Errors: ENOSPC.
  static ErrnoOr<std::shared_ptr<MemoryNode>> CreateAs(VfsContext& context, mode_t mode,
                                                       std::uint64_t inode);
  ~MemoryNode();
  MemoryNode(const MemoryNode&) = delete;
  MemoryNode& operator=(const MemoryNode&) = delete;

  bool is_directory() const { return S_ISDIR(mode); }
  bool is_regular() const { return S_ISREG(mode); }
  bool is_link() const { return S_ISLNK(mode); }
  /// True for a directory that was removed: nothing can be made in it.
  bool is_removed() const { return links_to_this == 0; }
  void Stat(struct stat& status) const;
  std::int64_t SetTimes(const std::array<timespec, 2>& times);
  /// Says where a symbolic link points. Returns 0 or -ENOSPC.
  std::int64_t SetTarget(std::string text);
  void TouchContents();  ///< sets the modification and change time
  void TouchStatus();    ///< sets the change time

  // Directories.
  /// Null for a name that is not there, and for one of the image that memory did not suffice for:
  /// then Add fails for it as well.
  std::shared_ptr<MemoryNode> Find(std::string_view name);
  /// Adds a name that is not there yet. Returns 0, -ENOENT in a removed directory, or -ENOSPC.
  std::int64_t Add(std::string_view name, std::shared_ptr<MemoryNode> node);
  /// Takes away a name that is there.
  void Remove(std::string_view name);
  bool is_empty() const;
  /// Those that were made or looked at; ForEachImageChild has the others.
  const Links& children() const { return children_; }
  /// Calls `visit` with (inode number, mode, name) of every name of the image that is neither in
  /// children() nor was removed.
  template <typename Visit>
  void ForEachImageChild(Visit visit) const {
    if (image_ == nullptr) return;
    for (const auto& [child_name, child] : image_->children) {
      if (ShowsImageChild(child_name, *child)) visit(InodeOf(*child), child->mode(), child_name);
    }
  }
  Links TakeChildren() { return std::move(children_); }
  /// Its absolute path; ENOENT once it was removed, ENAMETOOLONG past PATH_MAX.
  ErrnoOr<std::string> Path() const;

  const std::uint64_t inode;
  mode_t mode;
  uid_t owner = 0;
  gid_t group = 0;
  std::uint64_t links_to_this = 0;
  timespec accessed{};
  timespec modified{};
  timespec changed{};

  std::weak_ptr<MemoryNode> parent;  ///< where it was last given a name
  std::string name;                  ///< and that name
  bool fixed = false;                ///< a mount point or a part of /dev: stays where it is
  HostBacking backing;
  SparseBytes contents;
  std::string target;  ///< of a symbolic link
  Device device = Device::kNone;
  std::shared_ptr<NodeSource> source;  ///< set where the contents are made when asked for
  /// F_SEAL_*: what cannot be done to the contents any more. Only memfd_create makes files that
  /// take seals.
  int seals = F_SEAL_SEAL;
  bool internal = false;         ///< of the kernel's own file system (memfd): on another device
  bool nameable = false;         ///< has no name, but can be given one (O_TMPFILE)
  bool closed = false;           ///< a directory that the guest can make no names in
  std::weak_ptr<void> endpoint;  ///< of a FIFO its Pipe, of a socket who is bound to it

 private:
  friend class FilesKeeper;
  friend class FilesRestorer;
  // Numbers of the image's files stay clear of those that are handed out one by one.
  static constexpr std::uint64_t kFirstImageInode = std::uint64_t{1} << 40;

  MemoryNode(VfsContext& context, mode_t mode, std::uint64_t inode, const root_image::Node* image);
  /// As a snapshot had it: a name, and one of the image that was removed. False: no memory.
  bool Attach(std::string_view child_name, std::shared_ptr<MemoryNode> node);
  bool MarkRemoved(std::string_view child_name);

  static std::uint64_t InodeOf(const root_image::Node& image) {
    return kFirstImageInode + image.number;
  }
  bool ShowsImageChild(const std::string& child_name, const root_image::Node& child) const {
    return child.visible() && !children_.contains(child_name) && !removed_.contains(child_name);
  }
  std::shared_ptr<MemoryNode> TakeFromImage(std::string_view child_name);
  std::uint64_t CountLinks() const;

  VfsContext& context_;
  MemoryCharge charge_;
  const root_image::Node* const origin_;  ///< what it was in the image, or null
  const root_image::Node* const image_;   ///< what a directory shows beside its children, or null
  // Grows where the image is looked at, which changes nothing that can be seen.
  Links children_;
  /// Names of the image that were removed, with what they are charged for.
  std::map<std::string, MemoryCharge, std::less<>> removed_;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_VFS_MEMORY_NODE_H_
