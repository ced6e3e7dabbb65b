// SPDX-License-Identifier: Apache-2.0
#include "src/base/atomic_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "absl/strings/str_format.h"
#include "src/base/status.h"
#include "src/base/unique_fd.h"

namespace waxvm {
namespace {

constexpr mode_t kOwnerOnly = 0600;

absl::StatusOr<std::string> TemporaryName() {
  std::uint64_t number = 0;
  if (::getrandom(&number, sizeof number, 0) != sizeof number)
    return ErrnoStatus(errno, "random numbers for a temporary name");
  return absl::StrFormat(".waxvm-%016x.tmp", number);
}

// Sync, name, sync the folder: in this order, or a crash could leave the name without the bytes.
absl::Status Publish(int folder, int file, bool has_name, const std::string& temporary,
                     const std::string& name, const std::string& path) {
  if (::fsync(file) != 0) return ErrnoStatus(errno, path);
  if (!has_name && ::linkat(AT_FDCWD, absl::StrFormat("/proc/self/fd/%d", file).c_str(), folder,
                            temporary.c_str(), AT_SYMLINK_FOLLOW) != 0)
    return ErrnoStatus(errno, path);
  if (::renameat(folder, temporary.c_str(), folder, name.c_str()) != 0) {
    const absl::Status status = ErrnoStatus(errno, path);
    ::unlinkat(folder, temporary.c_str(), 0);
    return status;
  }
  if (::fsync(folder) != 0) return ErrnoStatus(errno, path);
  return absl::OkStatus();
}

}  // namespace

absl::Status ReplaceFile(const std::string& path, absl::FunctionRef<absl::Status(int file)> write) {
  const std::size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "."
                                : slash == 0               ? "/"
                                                           : path.substr(0, slash);
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  if (name.empty() || name == "." || name == "..")
    return InvalidArgument("\"%s\" is no name of a file", path);
  const UniqueFd folder(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return ErrnoStatus(errno, directory);
  WAXVM_ASSIGN_OR_RETURN(const std::string temporary, TemporaryName());
  // Without a name nothing is left behind; some file systems have no such files.
  UniqueFd file(::openat(folder.get(), ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, kOwnerOnly));
  const bool has_name = !file;
  if (has_name)
    file = UniqueFd(::openat(folder.get(), temporary.c_str(),
                             O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, kOwnerOnly));
  if (!file) return ErrnoStatus(errno, path);
  absl::Status status = write(file.get());
  if (status.ok()) status = Publish(folder.get(), file.get(), has_name, temporary, name, path);
  if (!status.ok() && has_name) ::unlinkat(folder.get(), temporary.c_str(), 0);
  return status;
}

}  // namespace waxvm
