// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_VFS_HOST_FOLDER_H_
#define WAXVM_SRC_LINUX_ABI_VFS_HOST_FOLDER_H_

#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/unique_fd.h"
#include "src/linux_abi/errno_or.h"
#include "src/linux_abi/vfs/open_file.h"
#include "waxvm/access.h"
#include "waxvm/provider.h"

namespace waxvm::linux_abi {

/// A symbolic link met on the way: the component [begin, end) of the path, and what it says.
struct HostLink {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::string text;
};

/// What a path within a granted folder leads to: an O_PATH descriptor of a regular file, directory
/// or symbolic link, or a link that has to be followed first.
struct HostObject {
  UniqueFd fd;
  struct stat status {};
  std::optional<HostLink> link;
};

/// One granted host folder or file. Paths are relative, normalised (no "." or ".." and no empty
/// component) and lead through no symbolic link: the kernel refuses everything else with
/// RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS and RESOLVE_NO_MAGICLINKS, so that neither the guest nor a
/// race with another process can lead out of the folder. Devices, sockets, FIFOs and the host's
/// kernel file systems (proc, sys and their kind) are refused and recorded.
/// Thread safety: none.
class HostFolder {
 public:
  /// `mount` and `gate` outlive the folder.
  HostFolder(const FileMount& mount, AccessGate& gate);

  bool is_directory() const { return mount_.is_directory; }
  bool read_only() const { return mount_.rights == Rights::kReadOnly; }
  /// The absolute path the guest knows `path` by.
  std::string GuestPath(std::string_view path) const;

  /// Asks the gate before an access; a change in a read-only folder is refused without asking.
  /// Returns 0, -EACCES or -EROFS.
  std::int64_t Permit(std::string_view path, bool write) const;

  ErrnoOr<HostObject> Resolve(const std::string& path) const;

  /// Opens for real what Resolve found, and makes sure that it is still the same object.
  ErrnoOr<UniqueFd> Open(const std::string& path, const struct stat& expected, int flags) const;

  /// Reads the directory at `path`. Devices, sockets and FIFOs are left out.
  std::int64_t List(const std::string& path, const struct stat& expected,
                    std::vector<DirectoryEntry>& entries, std::uint64_t max_bytes) const;

  /// RLIMIT_FSIZE of the host process: a write past it would raise SIGXFSZ there.
  std::uint64_t file_size_limit() const { return file_size_limit_; }

 private:
  ErrnoOr<HostObject> ResolveStepwise(const std::string& path) const;
  /// Fills `object.status`; 0, or -EACCES for what a grant does not pass.
  std::int64_t Examine(HostObject& object, std::string_view path, bool check_file_system) const;
  std::int64_t Refuse(std::string_view path) const;

  const FileMount& mount_;
  AccessGate& gate_;
  std::uint64_t file_size_limit_ = 0;
  bool kernel_file_system_ = false;
};

/// What the symbolic link behind an O_PATH descriptor says. Errors: EINVAL for what is no link.
ErrnoOr<std::string> ReadHostLink(int fd);

/// These make a file or directory that is not there yet; `name` is one component. Never with
/// set-user-id, set-group-id or sticky bits, which would count on the host.
std::int64_t MakeHostDirectory(int directory, const std::string& name, mode_t mode);
ErrnoOr<UniqueFd> CreateHostFile(int directory, const std::string& name, int flags, mode_t mode);
/// The same without a name: O_TMPFILE. Errors: EOPNOTSUPP where the host's file system has none.
ErrnoOr<UniqueFd> CreateUnnamedHostFile(int directory, int flags, mode_t mode);

/// Hides what the host's accounts are called: its own user is the guest's root, others nobody.
void TranslateOwner(struct stat& status);

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_VFS_HOST_FOLDER_H_
