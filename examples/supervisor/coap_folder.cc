// SPDX-License-Identifier: Apache-2.0
#include "coap_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "words.h"

namespace waxvm::cli {
namespace {

constexpr int kTemporaryNames = 16;

/// Closes itself.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_;
};

absl::Status NotThere() { return absl::NotFoundError("there is no such file"); }

/// What others may know of an error: nothing about what is outside, or why.
absl::Status StatusOf(int error) {
  switch (error) {
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError("not allowed");
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return absl::ResourceExhaustedError("no room");
    case EISDIR:
    case ENOTEMPTY:
      return absl::FailedPreconditionError("something else is there");
    case ENOENT:
    case ENOTDIR:
    case ELOOP:  // a link
    case EXDEV:  // a way out
    case ENAMETOOLONG:
    case ENXIO:
      return NotThere();
    default:
      return absl::InternalError("the file cannot be used");
  }
}

FileState StateOf(const struct stat& status) {
  const auto nanoseconds = [](const timespec& time) {
    return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
  };
  return {.inode = status.st_ino,
          .bytes = static_cast<std::uint64_t>(status.st_size),
          .modified = nanoseconds(status.st_mtim),
          .changed = nanoseconds(status.st_ctim)};
}

/// "a/b", or nullopt where a segment is none that is served.
std::optional<std::string> Join(const std::vector<std::string>& path) {
  std::string joined;
  for (const std::string& name : path) {
    if (!Folder::IsServed(name)) return std::nullopt;
    if (!joined.empty()) joined.push_back('/');
    joined += name;
  }
  if (joined.empty() || joined.size() >= 4096) return std::nullopt;
  return joined;
}

/// The folder that the last name is in, and that name.
std::pair<std::string, std::string> Split(const std::string& joined) {
  const std::size_t slash = joined.rfind('/');
  if (slash == joined.npos) return {".", joined};
  return {joined.substr(0, slash), joined.substr(slash + 1)};
}

bool WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = write(fd, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

/// A new file in that folder, which nobody is served, and its name. fd -1: errno says why.
std::pair<int, std::string> OpenTemporary(int folder, mode_t mode) {
  for (int attempt = 0; attempt < kTemporaryNames; ++attempt) {
    char random[8] = {};
    if (getrandom(random, sizeof random, 0) != sizeof random) break;
    std::string name = ".waxvm-" + Hex(std::string_view(random, sizeof random));
    const int fd =
        openat(folder, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd >= 0 || errno != EEXIST) return {fd, std::move(name)};
  }
  return {-1, ""};
}

}  // namespace

bool Folder::IsServed(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name.front() != '.' &&
         name.find_first_of(std::string_view("/\0", 2)) == name.npos;
}

absl::StatusOr<Folder> Folder::Open(const std::string& path, const Limits& limits) {
  const int fd = open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, "cannot open the folder " + path);
  Folder folder(fd, limits);
  const Descriptor probe(folder.OpenBelow(".", O_RDONLY | O_DIRECTORY));
  if (!probe && errno == ENOSYS)
    return absl::UnimplementedError("the kernel lacks openat2; Linux 5.6 has it");
  if (!probe) return absl::ErrnoToStatus(errno, "cannot read the folder " + path);
  return folder;
}

Folder::Folder(Folder&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), limits_(other.limits_) {}
Folder::~Folder() {
  if (fd_ >= 0) close(fd_);
}

int Folder::OpenBelow(const std::string& path, int flags) const {
  open_how how = {};
  // A pipe or a terminal must neither wait nor become the process's own.
  const int more = (flags & O_PATH) != 0 ? 0 : O_NONBLOCK | O_NOCTTY;
  how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC | more);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  // EAGAIN: something was renamed meanwhile, so that the kernel could not be sure.
  for (int attempt = 0; attempt < 8; ++attempt) {
    const long fd = syscall(SYS_openat2, fd_, path.c_str(), &how, sizeof how);
    if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) return static_cast<int>(fd);
  }
  return -1;
}

absl::StatusOr<std::string> Folder::Read(const std::vector<std::string>& path) const {
  const auto joined = Join(path);
  if (!joined) return NotThere();
  // First what it is: opening a device for reading may do something already.
  const Descriptor place(OpenBelow(*joined, O_PATH));
  if (!place) return StatusOf(errno);
  struct stat status = {};
  if (fstat(place.get(), &status) != 0 || !S_ISREG(status.st_mode)) return NotThere();
  const Descriptor file(OpenBelow(*joined, O_RDONLY));
  if (!file) return StatusOf(errno);
  if (fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) return NotThere();
  const auto too_long = [&] {
    return absl::ResourceExhaustedError(
        absl::StrFormat("the file has more than %d bytes", limits_.file_bytes));
  };
  if (static_cast<std::uint64_t>(status.st_size) > limits_.file_bytes) return too_long();
  std::string bytes(static_cast<std::size_t>(status.st_size), '\0');
  std::size_t have = 0;
  // It may grow or shrink meanwhile.
  for (;;) {
    if (have == bytes.size()) bytes.resize(have + 4096);
    const ssize_t count = read(file.get(), bytes.data() + have, bytes.size() - have);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return StatusOf(errno);
    if (count == 0) break;
    have += static_cast<std::size_t>(count);
    if (have > limits_.file_bytes) return too_long();
  }
  bytes.resize(have);
  return bytes;
}

absl::StatusOr<bool> Folder::Write(const std::vector<std::string>& path,
                                   std::string_view bytes) const {
  const auto joined = Join(path);
  if (!joined) return NotThere();
  if (bytes.size() > limits_.file_bytes)
    return absl::ResourceExhaustedError(
        absl::StrFormat("a file has at most %d bytes", limits_.file_bytes));
  const auto [parent, name] = Split(*joined);
  const Descriptor folder(OpenBelow(parent, O_RDONLY | O_DIRECTORY));
  if (!folder) return StatusOf(errno);
  struct stat old = {};
  const bool exists = fstatat(folder.get(), name.c_str(), &old, AT_SYMLINK_NOFOLLOW) == 0;
  if (exists && !S_ISREG(old.st_mode))
    return absl::FailedPreconditionError("something else is there");
  // What is renamed over keeps nothing of its own; the permission to write it counts all the same.
  if (exists && faccessat(folder.get(), name.c_str(), W_OK, AT_SYMLINK_NOFOLLOW) != 0 &&
      errno != EINVAL)
    return StatusOf(errno);
  const mode_t mode = exists ? old.st_mode & 0777 : 0644;
  const auto made = OpenTemporary(folder.get(), mode);
  const Descriptor file(made.first);
  if (!file) return StatusOf(errno);
  const auto give_up = [&](int error) {
    unlinkat(folder.get(), made.second.c_str(), 0);
    return StatusOf(error);
  };
  if (exists && fchmod(file.get(), mode) != 0) return give_up(errno);
  if (!WriteAll(file.get(), bytes) || fsync(file.get()) != 0) return give_up(errno);
  // A link or folder that was put there meanwhile is replaced or refused, never followed.
  if (renameat(folder.get(), made.second.c_str(), folder.get(), name.c_str()) != 0)
    return give_up(errno);
  return !exists;
}

absl::Status Folder::Remove(const std::vector<std::string>& path) const {
  const auto joined = Join(path);
  if (!joined) return NotThere();
  const auto [parent, name] = Split(*joined);
  const Descriptor folder(OpenBelow(parent, O_RDONLY | O_DIRECTORY));
  if (!folder) return StatusOf(errno);
  struct stat status = {};
  if (fstatat(folder.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 ||
      !S_ISREG(status.st_mode))
    return NotThere();
  if (unlinkat(folder.get(), name.c_str(), 0) != 0) return StatusOf(errno);
  return absl::OkStatus();
}

std::map<std::string, FileState> Folder::List() const {
  std::map<std::string, FileState> files;
  std::vector<std::pair<std::string, std::size_t>> folders = {{"", 0}};
  // Attack: a writer who makes folders without end.
  std::size_t looked_at = 0;
  while (!folders.empty() && files.size() < limits_.files && looked_at < limits_.files * 4) {
    const auto [folder, depth] = std::move(folders.back());
    folders.pop_back();
    const int fd = OpenBelow(folder.empty() ? "." : folder, O_RDONLY | O_DIRECTORY);
    if (fd < 0) continue;
    const std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(fd), closedir);
    if (stream == nullptr) {
      close(fd);
      continue;
    }
    while (const dirent* const entry = readdir(stream.get())) {
      if (++looked_at > limits_.files * 4 || files.size() >= limits_.files) break;
      if (!IsServed(entry->d_name)) continue;
      struct stat status = {};
      if (fstatat(dirfd(stream.get()), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) continue;
      const std::string path =
          folder.empty() ? std::string(entry->d_name) : folder + "/" + entry->d_name;
      if (S_ISREG(status.st_mode)) files.emplace("/" + path, StateOf(status));
      if (S_ISDIR(status.st_mode) && depth + 1 < limits_.depth)
        folders.emplace_back(path, depth + 1);
    }
  }
  return files;
}

}  // namespace waxvm::cli
