// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_VFS_FILE_SYSTEM_H_
#define WAXVM_SRC_LINUX_ABI_VFS_FILE_SYSTEM_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "src/base/memory_account.h"
#include "src/linux_abi/errno_or.h"
#include "src/linux_abi/host.h"
#include "src/linux_abi/vfs/memory_node.h"
#include "src/linux_abi/vfs/open_file.h"
#include "src/linux_abi/vfs/path_walk.h"
#include "src/linux_abi/vfs/pipe.h"
#include "src/linux_abi/vfs/place.h"
#include "src/linux_abi/vfs/process_view.h"
#include "waxvm/provider.h"

namespace waxvm::linux_abi {

class FilesKeeper;

/// The one namespace of an instance: its own in-memory tree with a private /tmp, the devices
/// /dev/{null,zero,full,random,urandom,tty}, a /proc and /sys that tell of the instance alone, and
/// the granted host folders laid over it. Paths are
/// the guest's; results are 0 or negated errno values. `base` is where a relative path starts.
/// Outlives the open files it makes. Thread safety: none; used by the instance's thread.
class FileSystem {
 public:
  /// All arguments outlive the file system.
  /// Errors: kResourceExhausted when the memory limit does not even hold the empty tree.
  static absl::StatusOr<std::unique_ptr<FileSystem>> Create(const InstanceSpec& spec,
                                                            MemoryAccount& account, Host& host);
  ~FileSystem();

  /// Lets /proc tell of the process. Called once, before the program starts.
  void ShowProcess(std::unique_ptr<ProcessView> view);

  VfsContext& context() { return context_; }
  const Place& working_directory() const { return working_directory_; }
  void set_working_directory(const Place& place) { working_directory_ = place; }
  const Place& root() const { return root_; }

  /// `resolve`: the RESOLVE_* flags of openat2.
  ErrnoOr<std::shared_ptr<OpenFile>> Open(const Place& base, std::string_view path, int flags,
                                          mode_t mode, std::uint64_t resolve = 0);
  /// An O_PATH handle, on which attributes are read and changed; open(2) with O_PATH.
  ErrnoOr<std::shared_ptr<OpenFile>> Locate(const Place& base, std::string_view path, bool follow,
                                            int flags = 0, std::uint64_t resolve = 0);
  /// An unnamed file in memory, open for reading and writing.
  ErrnoOr<std::shared_ptr<OpenFile>> CreateUnnamed(mode_t mode);

  /// Where the working directory is; what /proc says of it when it was removed.
  std::string WorkingDirectoryText() const;
  /// Ends of FIFOs that are being opened, by a number of the file system's own: they stay while
  /// the thread that opens sleeps. TakeOpening returns null for a number it does not know.
  std::uint64_t KeepOpening(std::shared_ptr<FifoOpening> opening);
  std::shared_ptr<FifoOpening> FindOpening(std::uint64_t number) const;
  void ForgetOpening(std::uint64_t number) { openings_.erase(number); }

  /// access(2) for root: writing fails in a read-only folder, executing needs an execute bit.
  std::int64_t CheckAccess(const Place& base, std::string_view path, int access, bool follow);
  std::int64_t MakeDirectory(const Place& base, std::string_view path, mode_t mode);
  /// mknod for FIFOs and sockets, which the instance's own tree alone can hold. `node` gets it.
  std::int64_t MakeSpecial(const Place& base, std::string_view path, mode_t mode,
                           std::shared_ptr<MemoryNode>* node = nullptr);
  /// The node at `path`, links followed. Errors: also ECONNREFUSED for what is no socket.
  ErrnoOr<std::shared_ptr<MemoryNode>> FindSocket(const Place& base, std::string_view path);
  std::int64_t MakeSymbolicLink(std::string_view target, const Place& base, std::string_view path);
  std::int64_t Link(const Place& from_base, std::string_view from, const Place& to_base,
                    std::string_view to, bool follow);
  /// A name for an open file that still has one or was made without (linkat with AT_EMPTY_PATH).
  std::int64_t LinkOpenFile(const OpenFile& file, const Place& to_base, std::string_view to);
  std::int64_t Remove(const Place& base, std::string_view path, bool directory);
  /// `flags`: RENAME_NOREPLACE or RENAME_EXCHANGE.
  std::int64_t Rename(const Place& from_base, std::string_view from, const Place& to_base,
                      std::string_view to, unsigned flags);

  std::int64_t ChangeDirectory(const Place& base, std::string_view path);
  mode_t umask() const { return umask_; }
  mode_t set_umask(mode_t mask);

  /// Places a regular file with its directories, while the instance is being made.
  absl::Status AddFile(std::string_view path, std::span<const std::byte> contents, mode_t mode);
  absl::Status AddSymbolicLink(std::string_view path, std::string_view target);

 private:
  friend class FilesKeeper;
  FileSystem(const InstanceSpec& spec, MemoryAccount& account, Host& host);
  absl::Status Build();
  absl::Status BuildDevices();
  absl::Status AddMount(const FileMount& mount);
  /// The directory `path` (absolute, normalised) of the instance's own tree, made where missing.
  /// `show_host`: the rest of a host folder it lies in stays visible through it.
  absl::StatusOr<std::shared_ptr<MemoryNode>> AddDirectories(std::string_view path, bool show_host);
  absl::StatusOr<std::shared_ptr<MemoryNode>> AddNode(MemoryNode& directory, std::string_view name,
                                                      mode_t mode);

  ErrnoOr<Spot> Walk(const Place& base, std::string_view path, Last last,
                     std::uint64_t resolve = 0);
  ErrnoOr<std::shared_ptr<OpenFile>> OpenOnce(const Place& base, std::string_view path, int flags,
                                              mode_t mode, std::uint64_t resolve);
  ErrnoOr<std::shared_ptr<OpenFile>> OpenFound(Spot spot, int flags);
  ErrnoOr<std::shared_ptr<OpenFile>> Reopen(const std::shared_ptr<OpenFile>& file, int flags);
  ErrnoOr<std::shared_ptr<OpenFile>> OpenMemoryNode(const Spot& spot, int flags);
  ErrnoOr<std::shared_ptr<OpenFile>> OpenHostFile(const Spot& spot, int flags);
  ErrnoOr<std::shared_ptr<OpenFile>> CreateFile(const Spot& parent, int flags, mode_t mode);
  /// O_TMPFILE.
  ErrnoOr<std::shared_ptr<OpenFile>> CreateTemporary(const Spot& directory, int flags, mode_t mode);
  /// `brief`: nobody keeps it longer than one call.
  std::shared_ptr<OpenFile> Handle(Spot spot, int flags, bool brief = false);
  /// 0 when a name may be made at `parent`: a valid one, not there yet, in a writable folder.
  std::int64_t CheckCreatable(const Spot& parent, bool directory);
  std::int64_t RemoveNode(const Spot& parent, bool directory);
  std::int64_t RenameNode(const Spot& from, const Spot& to);
  std::int64_t ExchangeNodes(const Spot& from, const Spot& to);
  std::int64_t RenameOnHost(const Spot& from, const Spot& to, unsigned flags);

  VfsContext context_;
  Place root_;
  Place working_directory_;
  mode_t umask_ = 022;
  std::unique_ptr<ProcessView> view_;
  std::map<std::uint64_t, std::shared_ptr<FifoOpening>> openings_;
  std::uint64_t last_opening_ = 0;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_VFS_FILE_SYSTEM_H_
