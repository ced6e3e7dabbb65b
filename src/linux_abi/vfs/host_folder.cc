// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/vfs/host_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <memory>

#include "src/base/kernel_filesystem.h"

namespace waxvm::linux_abi {
namespace {

constexpr std::uint64_t kResolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
constexpr int kLook = O_PATH | O_NOFOLLOW | O_CLOEXEC;

int OpenBeneath(int directory, const char* path, int flags, std::uint64_t resolve,
                mode_t mode = 0) {
  struct open_how how {};
  how.flags = static_cast<std::uint64_t>(flags);
  how.mode = mode;
  how.resolve = resolve;
  return static_cast<int>(::syscall(SYS_openat2, directory, path, &how, sizeof how));
}

// Running out of the host's descriptors is ENFILE inside: EMFILE would name the guest's own limit.
Errno LastErrno() { return Errno{errno == EMFILE ? ENFILE : errno}; }

// What cannot be told is refused.
bool IsRefusedFileSystem(int fd) {
  const absl::StatusOr<bool> kernel = IsOnKernelFilesystem(fd);
  return !kernel.ok() || *kernel;
}

bool Passes(mode_t mode) { return S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode); }

}  // namespace

ErrnoOr<std::string> ReadHostLink(int fd) {
  std::array<char, PATH_MAX> text;
  const ssize_t n = ::readlinkat(fd, "", text.data(), text.size());
  // ENOENT is what the kernel says of an empty path on anything but a link.
  if (n < 0) return Errno{errno == ENOENT ? EINVAL : errno};
  if (static_cast<std::size_t>(n) == text.size()) return Errno{ENAMETOOLONG};
  return std::string(text.data(), static_cast<std::size_t>(n));
}

ErrnoOr<UniqueFd> CreateHostFile(int directory, const std::string& name, int flags, mode_t mode) {
  flags = (flags & (O_ACCMODE | O_SYNC)) | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY;
  UniqueFd fd(OpenBeneath(directory, name.c_str(), flags, kResolve, mode & 0777));
  if (!fd.valid()) return LastErrno();
  // The guest's umask has been applied; the host process's must not count as well.
  if (::fchmod(fd.get(), mode & 0777) != 0) return LastErrno();
  return fd;
}

ErrnoOr<UniqueFd> CreateUnnamedHostFile(int directory, int flags, mode_t mode) {
  flags = (flags & (O_ACCMODE | O_SYNC | O_EXCL)) | O_TMPFILE | O_CLOEXEC;
  UniqueFd fd(OpenBeneath(directory, ".", flags, kResolve, mode & 0777));
  if (!fd.valid()) return LastErrno();
  if (::fchmod(fd.get(), mode & 0777) != 0) return LastErrno();
  return fd;
}

std::int64_t MakeHostDirectory(int directory, const std::string& name, mode_t mode) {
  if (::mkdirat(directory, name.c_str(), mode & 0777) != 0) return -errno;
  const UniqueFd made(OpenBeneath(directory, name.c_str(),
                                  O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, kResolve));
  // Where it cannot be opened again it stays with what the host process's umask left of the mode.
  if (made.valid()) ::fchmod(made.get(), mode & 0777);
  return 0;
}

void TranslateOwner(struct stat& status) {
  constexpr uid_t kNobody = 65534;
  status.st_uid = status.st_uid == ::geteuid() ? 0 : kNobody;
  status.st_gid = status.st_gid == ::getegid() ? 0 : kNobody;
}

HostFolder::HostFolder(const FileMount& mount, AccessGate& gate)
    : mount_(mount), gate_(gate), kernel_file_system_(IsRefusedFileSystem(*mount.host_fd)) {
  rlimit limit{};
  const bool known = ::getrlimit(RLIMIT_FSIZE, &limit) == 0;
  file_size_limit_ = known ? std::min<std::uint64_t>(limit.rlim_cur, INT64_MAX) : 0;
}

std::string HostFolder::GuestPath(std::string_view path) const {
  std::string guest_path = mount_.guest_path;
  if (path.empty()) return guest_path;
  if (guest_path != "/") guest_path += '/';
  return guest_path.append(path);
}

std::int64_t HostFolder::Permit(std::string_view path, bool write) const {
  const std::string guest_path = GuestPath(path);
  const Access access{.resource = Resource::kFile, .name = guest_path, .write = write};
  if (write && read_only()) {
    gate_.RecordDenial(access);
    return -EROFS;
  }
  return gate_.Check(access).ok() ? 0 : -EACCES;
}

std::int64_t HostFolder::Refuse(std::string_view path) const {
  const std::string guest_path = GuestPath(path);
  gate_.RecordDenial({.resource = Resource::kFile, .name = guest_path, .write = false});
  return -EACCES;
}

std::int64_t HostFolder::Examine(HostObject& object, std::string_view path,
                                 bool check_file_system) const {
  if (::fstat(object.fd.get(), &object.status) != 0) return -errno;
  if (!Passes(object.status.st_mode)) return Refuse(path);
  if (check_file_system && !S_ISLNK(object.status.st_mode) &&
      IsRefusedFileSystem(object.fd.get())) {
    return Refuse(path);
  }
  return 0;
}

ErrnoOr<HostObject> HostFolder::Resolve(const std::string& path) const {
  if (kernel_file_system_) return ToErrno(Refuse(path));
  if (!is_directory() && !path.empty()) return Errno{ENOTDIR};
  HostObject object;
  if (path.empty()) {
    object.fd = UniqueFd(::fcntl(*mount_.host_fd, F_DUPFD_CLOEXEC, 0));
  } else {
    // The whole way at once, where it meets neither a symbolic link nor another file system.
    object.fd =
        UniqueFd(OpenBeneath(*mount_.host_fd, path.c_str(), kLook, kResolve | RESOLVE_NO_XDEV));
    if (!object.fd.valid() && (errno == ELOOP || errno == EXDEV)) return ResolveStepwise(path);
  }
  if (!object.fd.valid()) return LastErrno();
  const std::int64_t examined = Examine(object, path, /*check_file_system=*/false);
  if (examined < 0) return ToErrno(examined);
  return object;
}

ErrnoOr<HostObject> HostFolder::ResolveStepwise(const std::string& path) const {
  HostObject object;
  std::size_t begin = 0;
  while (true) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const std::string component = path.substr(begin, end - begin);
    const int directory = object.fd.valid() ? object.fd.get() : *mount_.host_fd;
    object.fd = UniqueFd(OpenBeneath(directory, component.c_str(), kLook, kResolve));
    if (!object.fd.valid()) return LastErrno();
    // Each step crosses into another file system knowingly: nothing below proc or sys is reached.
    const std::int64_t examined = Examine(object, path.substr(0, end), /*check_file_system=*/true);
    if (examined < 0) return ToErrno(examined);
    if (end == path.size()) return object;
    if (S_ISLNK(object.status.st_mode)) {
      ErrnoOr<std::string> text = ReadHostLink(object.fd.get());
      if (!text.ok()) return text.error();
      object.link = HostLink{.begin = begin, .end = end, .text = *std::move(text)};
      return object;
    }
    if (!S_ISDIR(object.status.st_mode)) return Errno{ENOTDIR};
    begin = end + 1;
  }
}

ErrnoOr<UniqueFd> HostFolder::Open(const std::string& path, const struct stat& expected,
                                   int flags) const {
  // O_NONBLOCK and O_NOCTTY: were the file swapped for a FIFO or a terminal since it was looked
  // at, opening it must neither hang nor change the host's session.
  flags |= O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
  UniqueFd fd;
  if (!path.empty()) {
    fd = UniqueFd(OpenBeneath(*mount_.host_fd, path.c_str(), flags, kResolve));
  } else if (is_directory()) {
    fd = UniqueFd(::openat(*mount_.host_fd, ".", flags));
  } else {
    // A granted file is only known by its O_PATH descriptor, which this is the one way to reopen.
    std::array<char, 32> self{};
    std::snprintf(self.data(), self.size(), "/proc/self/fd/%d", *mount_.host_fd);
    fd = UniqueFd(::open(self.data(), flags & ~O_NOFOLLOW));
  }
  if (!fd.valid()) return LastErrno();
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return LastErrno();
  if (status.st_dev != expected.st_dev || status.st_ino != expected.st_ino ||
      (status.st_mode & S_IFMT) != (expected.st_mode & S_IFMT)) {
    return Errno{ESTALE};
  }
  return fd;
}

std::int64_t HostFolder::List(const std::string& path, const struct stat& expected,
                              std::vector<DirectoryEntry>& entries, std::uint64_t max_bytes) const {
  ErrnoOr<UniqueFd> fd = Open(path, expected, O_RDONLY | O_DIRECTORY);
  if (!fd.ok()) return fd.result();
  alignas(dirent64) std::array<char, 32768> buffer;
  while (true) {
    const ssize_t filled = ::getdents64(fd->get(), buffer.data(), buffer.size());
    if (filled < 0) return -errno;
    if (filled == 0) return 0;
    for (ssize_t at = 0; at < filled;) {
      const auto* entry = reinterpret_cast<const dirent64*>(buffer.data() + at);
      at += entry->d_reclen;
      const std::string_view name = entry->d_name;
      const bool known = entry->d_type == DT_REG || entry->d_type == DT_DIR ||
                         entry->d_type == DT_LNK || entry->d_type == DT_UNKNOWN;
      if (name == "." || name == ".." || !known) continue;
      const std::uint64_t bytes = sizeof(DirectoryEntry) + name.size() + 1;
      if (bytes > max_bytes) return -ENOMEM;
      max_bytes -= bytes;
      entries.push_back({entry->d_ino, entry->d_type, std::string(name)});
    }
  }
}

}  // namespace waxvm::linux_abi
