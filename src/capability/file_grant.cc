// SPDX-License-Identifier: Apache-2.0
#include "src/capability/file_grant.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "src/base/kernel_filesystem.h"
#include "src/base/status.h"
#include "src/base/unique_fd.h"

namespace waxvm {
namespace {

/// Linux's PATH_MAX without the terminating zero.
constexpr std::size_t kMaxPathBytes = 4095;

std::shared_ptr<const int> Share(UniqueFd fd) {
  struct Owner {
    UniqueFd fd;
    int number;
  };
  const int number = fd.get();
  auto owner = std::make_shared<const Owner>(Owner{std::move(fd), number});
  return std::shared_ptr<const int>(owner, &owner->number);
}

}  // namespace

absl::Status CheckGuestPath(std::string_view path) {
  if (path.empty()) return InvalidArgument("the guest path of a files grant is empty");
  if (path.size() > kMaxPathBytes)
    return InvalidArgument("the guest path of a files grant has %d bytes, at most %d", path.size(),
                           kMaxPathBytes);
  if (path.find('\0') != std::string_view::npos)
    return InvalidArgument("the guest path of a files grant contains a zero byte");
  if (path.front() != '/') return InvalidArgument("the guest path \"%s\" is not absolute", path);
  if (path == "/") return absl::OkStatus();
  for (std::size_t start = 1; start <= path.size();) {
    const std::size_t end = std::min(path.find('/', start), path.size());
    const std::string_view component = path.substr(start, end - start);
    if (component.empty())
      return InvalidArgument(
          "the guest path \"%s\" has an empty component (\"//\" or a \"/\" at "
          "its end)",
          path);
    if (component == "." || component == "..")
      return InvalidArgument("the guest path \"%s\" contains \"%s\"", path, component);
    start = end + 1;
  }
  return absl::OkStatus();
}

absl::StatusOr<FileMount> OpenFileGrant(const FilesGrant& grant) {
  WAXVM_RETURN_IF_ERROR(CheckGuestPath(grant.guest_path));
  if (grant.host_path.find('\0') != std::string::npos)
    return InvalidArgument("the host path of a files grant contains a zero byte");
  UniqueFd fd(::open(grant.host_path.c_str(), O_PATH | O_CLOEXEC));
  if (!fd) return ErrnoStatus(errno, absl::StrFormat("files grant: \"%s\"", grant.host_path));
  struct stat info;
  if (::fstat(fd.get(), &info) != 0)
    return ErrnoStatus(errno, absl::StrFormat("files grant: \"%s\"", grant.host_path));
  if (!S_ISDIR(info.st_mode) && !S_ISREG(info.st_mode))
    return InvalidArgument("files grant: \"%s\" is neither a folder nor a regular file",
                           grant.host_path);
  WAXVM_ASSIGN_OR_RETURN(const bool kernel, IsOnKernelFilesystem(fd.get()));
  if (kernel)
    return InvalidArgument(
        "files grant: \"%s\" lies on a file system of the kernel (proc, sysfs or "
        "their kind)",
        grant.host_path);
  return FileMount{.host_fd = Share(std::move(fd)),
                   .host_path = grant.host_path,
                   .guest_path = grant.guest_path,
                   .is_directory = S_ISDIR(info.st_mode),
                   .rights = grant.rights};
}

}  // namespace waxvm
