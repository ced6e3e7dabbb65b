// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/vfs/file_system.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "src/base/status.h"
#include "src/base/strings.h"
#include "src/linux_abi/vfs/directory_file.h"
#include "src/linux_abi/vfs/fd_table.h"
#include "src/linux_abi/vfs/generated_file.h"
#include "src/linux_abi/vfs/host_file.h"
#include "src/linux_abi/vfs/memory_file.h"
#include "src/linux_abi/vfs/unix_socket.h"

namespace waxvm::linux_abi {
namespace {

constexpr int kMaxAttempts = 8;

bool IsPathOnly(int flags) { return (flags & O_PATH) != 0; }
bool WantsWriting(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0; }

}  // namespace

FileSystem::FileSystem(const InstanceSpec& spec, MemoryAccount& account, Host& host)
    : context_{.spec = spec, .account = account, .host = host} {
  context_.max_files_in_flight =
      std::min<std::uint64_t>(spec.limits.open_files.value_or(FdTable::kDefaultLimit), 1 << 20);
  ::clock_gettime(CLOCK_REALTIME_COARSE, &context_.started);
}

FileSystem::~FileSystem() {
  // Sockets that carry each other keep each other: what they hold is taken from them.
  std::vector<std::shared_ptr<OpenFile>> kept;
  for (UnixSocket* socket : context_.sockets) kept.push_back(socket->shared_from_this());
  for (const std::shared_ptr<OpenFile>& file : kept) static_cast<UnixSocket&>(*file).Clear();
}

ErrnoOr<Spot> FileSystem::Walk(const Place& base, std::string_view path, Last last,
                               std::uint64_t resolve) {
  return PathWalk(root_, base, last, resolve).Walk(path);
}

ErrnoOr<std::shared_ptr<OpenFile>> FileSystem::Open(const Place& base, std::string_view path,
                                                    int flags, mode_t mode, std::uint64_t resolve) {
  // Something else took the file's place between looking and opening: look again, but not for
  // ever, or a busy process on the host could hold the guest's thread.
  ErrnoOr<std::shared_ptr<OpenFile>> file = Errno{ESTALE};
  for (int attempt = 0; attempt < kMaxAttempts && file.error().number == ESTALE; ++attempt) {
    file = OpenOnce(base, path, flags, mode, resolve);
    if (file.ok()) break;
  }
  return file;
}

ErrnoOr<std::shared_ptr<OpenFile>> FileSystem::OpenOnce(const Place& base, std::string_view path,
                                                        int flags, mode_t mode,
                                                        std::uint64_t resolve) {
  constexpr int kUnnamed = O_TMPFILE & ~O_DIRECTORY;
  const bool follow = (flags & O_NOFOLLOW) == 0;
  if (IsPathOnly(flags)) return Locate(base, path, follow, flags, resolve);
  if ((flags & O_ACCMODE) == O_ACCMODE) return Errno{EINVAL};
  if ((flags & kUnnamed) != 0) {
    if ((flags & O_DIRECTORY) == 0 || (flags & O_ACCMODE) == O_RDONLY) return Errno{EINVAL};
    const ErrnoOr<Spot> directory = Walk(base, path, Last::kFollow, resolve);
    if (!directory.ok()) return directory.error();
    if (!S_ISDIR(directory->mode())) return Errno{ENOTDIR};
    return CreateTemporary(*directory, flags, mode & ~umask_);
  }
  if ((flags & O_CREAT) == 0) {
    ErrnoOr<Spot> spot = Walk(base, path, follow ? Last::kFollow : Last::kNoFollow, resolve);
    if (!spot.ok()) return spot.error();
    return OpenFound(*std::move(spot), flags);
  }
  if ((flags & O_DIRECTORY) != 0) return Errno{EINVAL};
  const bool exclusive = (flags & O_EXCL) != 0;
  ErrnoOr<Spot> parent =
      Walk(base, path, follow && !exclusive ? Last::kCreate : Last::kParent, resolve);
  if (!parent.ok()) return parent.error();
  if (parent->file != nullptr) return Reopen(parent->file, flags);
  if (!parent->has_plain_name()) return Errno{exclusive ? EEXIST : EISDIR};
  if (parent->trailing_slash) return Errno{EISDIR};
  ErrnoOr<Spot> found = LookUp(*parent);
  if (found.ok()) {
    if (exclusive) return Errno{EEXIST};
    return OpenFound(*std::move(found), flags);
  }
  if (found.error().number != ENOENT) return found.error();
  ErrnoOr<std::shared_ptr<OpenFile>> created = CreateFile(*parent, flags, mode & ~umask_);
  if (!created.ok() && !exclusive && created.error().number == EEXIST) return Errno{ESTALE};
  return created;
}

ErrnoOr<std::shared_ptr<OpenFile>> FileSystem::OpenFound(Spot spot, int flags) {
  if (spot.file != nullptr) return Reopen(spot.file, flags);
  const mode_t mode = spot.mode();
  if (S_ISLNK(mode)) return Errno{(flags & O_DIRECTORY) != 0 ? ENOTDIR : ELOOP};
  if (S_ISDIR(mode)) {
    if (WantsWriting(flags) || (flags & O_CREAT) != 0) return Errno{EISDIR};
    if (spot.on_host()) {
      const std::int64_t permitted = spot.place.folder()->Permit(spot.place.HostPath(), false);
      if (permitted < 0) return ToErrno(permitted);
    }
    return Handle(std::move(spot), flags);
  }
  if ((flags & O_DIRECTORY) != 0) return Errno{ENOTDIR};
  return spot.on_host() ? OpenHostFile(spot, flags) : OpenMemoryNode(spot, flags);
}

ErrnoOr<std::shared_ptr<OpenFile>> FileSystem::Reopen(const std::shared_ptr<OpenFile>& file,
                                                      int flags) {
  if ((flags & O_DIRECTORY) != 0) return Errno{ENOTDIR};
  const auto* memory_file = dynamic_cast<const MemoryFile*>(file.get());
  if (memory_file == nullptr) return file->Reopen(flags);
  Spot spot;
  spot.place = Place(memory_file->node());
  return S_ISLNK(spot.mode()) ? Errno{ELOOP} : OpenMemoryNode(spot, flags);
}

ErrnoOr<std::shared_ptr<OpenFile>> FileSystem::OpenMemoryNode(const Spot& spot, int flags) {
  const std::shared_ptr<MemoryNode>& node = spot.place.anchor();
  switch (node->device) {
    case Device::kNone: {
      if (node->source != nullptr) {
        return std::shared_ptr<OpenFile>(std::make_shared<GeneratedFile>(context_, node, flags));
      }
      if (S_ISSOCK(node->mode)) return Errno{ENXIO};
      if (S_ISFIFO(node->mode)) {
        ErrnoOr<std::shared_ptr<PipeEnd>> end = OpenFifo(context_, node, flags);
        if (!end.ok()) return end.error();
        return std::shared_ptr<OpenFile>(*std::move(end));
      }
      auto file = std::make_shared<MemoryFile>(context_, node, flags);
      if ((flags & O_TRUNC) != 0) static_cast<void>(file->Truncate(0));
      return std::shared_ptr<OpenFile>(std::move(file));
    }
    case Device::kTty:
      return Errno{ENXIO};
    case Device::kRandom:
    case Device::kUrandom: {
      const Access access{.resource = Resource::kRandom, .name = "/dev/urandom"};
      if (!context_.spec.gate->Check(access).ok()) return Errno{EACCES};
      if (context_.spec.random == nullptr) return Errno{EACCES};
      break;
    }
    default:
      break;
  }
  return std::shared_ptr<OpenFile>(std::make_shared<DeviceFile>(context_, node, flags));
}

ErrnoOr<std::shared_ptr<OpenFile>> FileSystem::OpenHostFile(const Spot& spot, int flags) {
  const std::shared_ptr<HostFolder>& folder = spot.place.folder();
  std::string path = spot.place.HostPath();
  const std::int64_t permitted = folder->Permit(path, WantsWriting(flags));
  if (permitted < 0) return ToErrno(permitted);
  constexpr int kPassedOn = O_ACCMODE | O_SYNC;
  int host_flags = flags & kPassedOn;
  // Cut through the descriptor, once it is known to be the right file.
  const bool cut = (flags & O_TRUNC) != 0;
  if (cut && (flags & O_ACCMODE) == O_RDONLY) host_flags = (host_flags & ~O_ACCMODE) | O_RDWR;
  ErrnoOr<UniqueFd> fd = folder->Open(path, spot.host.status, host_flags);
  if (!fd.ok()) return fd.error();
  if (cut && ::ftruncate(fd->get(), 0) != 0) return Errno{errno};
  return std::shared_ptr<OpenFile>(
      std::make_shared<HostFile>(context_, folder, std::move(path), *std::move(fd), flags));
}

ErrnoOr<std::shared_ptr<OpenFile>> FileSystem::CreateFile(const Spot& parent, int flags,
                                                          mode_t mode) {
  if (parent.on_host()) {
    const std::shared_ptr<HostFolder>& folder = parent.place.folder();
    std::string path = parent.place.Child(parent.name).HostPath();
    const std::int64_t permitted = folder->Permit(path, true);
    if (permitted < 0) return ToErrno(permitted);
    ErrnoOr<UniqueFd> fd = CreateHostFile(parent.host.fd.get(), parent.name, flags, mode);
    if (!fd.ok()) return fd.error();
    return std::shared_ptr<OpenFile>(
        std::make_shared<HostFile>(context_, folder, std::move(path), *std::move(fd), flags));
  }
  if (parent.place.anchor()->closed) {
    // In /proc a name that is not there cannot be there.
    const ErrnoOr<std::string> path = parent.place.anchor()->Path();
    return Errno{path.ok() && path->starts_with("/sys") ? EACCES : ENOENT};
  }
  ErrnoOr<std::shared_ptr<MemoryNode>> node =
      MemoryNode::Create(context_, S_IFREG | (mode & 07777));
  if (!node.ok()) return node.error();
  const std::int64_t added = parent.place.anchor()->Add(parent.name, *node);
  if (added < 0) return ToErrno(added);
  return std::shared_ptr<OpenFile>(std::make_shared<MemoryFile>(context_, *std::move(node), flags));
}

ErrnoOr<std::shared_ptr<OpenFile>> FileSystem::CreateTemporary(const Spot& directory, int flags,
                                                               mode_t mode) {
  if (!directory.on_host()) {
    if (directory.place.anchor()->closed) return Errno{EOPNOTSUPP};
    ErrnoOr<std::shared_ptr<MemoryNode>> node =
        MemoryNode::Create(context_, S_IFREG | (mode & 07777));
    if (!node.ok()) return node.error();
    (*node)->nameable = (flags & O_EXCL) == 0;
    (*node)->name = absl::StrFormat("#%d", (*node)->inode);
    return std::shared_ptr<OpenFile>(
        std::make_shared<MemoryFile>(context_, *std::move(node), flags));
  }
  const std::shared_ptr<HostFolder>& folder = directory.place.folder();
  const std::int64_t permitted = folder->Permit(directory.place.HostPath(), /*write=*/true);
  if (permitted < 0) return ToErrno(permitted);
  ErrnoOr<UniqueFd> fd = CreateUnnamedHostFile(directory.host.fd.get(), flags, mode);
  if (!fd.ok()) return fd.error();
  struct stat status {};
  if (::fstat(fd->get(), &status) != 0) return Errno{errno};
  std::string path =
      directory.place.Child(absl::StrFormat("#%d (deleted)", status.st_ino)).HostPath();
  return std::shared_ptr<OpenFile>(
      std::make_shared<HostFile>(context_, folder, std::move(path), *std::move(fd), flags));
}

std::shared_ptr<OpenFile> FileSystem::Handle(Spot spot, int flags, bool brief) {
  if (spot.file != nullptr) return spot.file;
  const bool is_directory = S_ISDIR(spot.mode());
  const int own_flags = is_directory ? O_PATH : flags | O_PATH;
  std::shared_ptr<OpenFile> attributes;
  if (spot.on_host()) {
    const auto file = std::make_shared<HostFile>(
        context_, spot.place.folder(), spot.place.HostPath(), std::move(spot.host.fd), own_flags);
    if (brief) file->ExpectStat(spot.host.status);
    attributes = file;
  } else {
    attributes = std::make_shared<MemoryFile>(context_, spot.place.anchor(), own_flags);
  }
  if (!is_directory) return attributes;
  return std::make_shared<DirectoryFile>(context_, std::move(spot.place), std::move(attributes),
                                         flags);
}

ErrnoOr<std::shared_ptr<OpenFile>> FileSystem::Locate(const Place& base, std::string_view path,
                                                      bool follow, int flags,
                                                      std::uint64_t resolve) {
  ErrnoOr<Spot> spot = Walk(base, path, follow ? Last::kFollow : Last::kNoFollow, resolve);
  if (!spot.ok()) return spot.error();
  if ((flags & O_DIRECTORY) != 0 && !S_ISDIR(spot->mode())) return Errno{ENOTDIR};
  return Handle(*std::move(spot), flags | O_PATH, /*brief=*/flags == 0);
}

ErrnoOr<std::shared_ptr<OpenFile>> FileSystem::CreateUnnamed(mode_t mode) {
  ErrnoOr<std::shared_ptr<MemoryNode>> node =
      MemoryNode::Create(context_, S_IFREG | (mode & 07777));
  if (!node.ok()) return node.error();
  return std::shared_ptr<OpenFile>(
      std::make_shared<MemoryFile>(context_, *std::move(node), O_RDWR));
}

std::int64_t FileSystem::CheckAccess(const Place& base, std::string_view path, int access,
                                     bool follow) {
  const ErrnoOr<Spot> spot = Walk(base, path, follow ? Last::kFollow : Last::kNoFollow);
  if (!spot.ok()) return spot.result();
  if (spot->file != nullptr) return 0;
  const bool executable = S_ISDIR(spot->mode()) || (spot->mode() & 0111) != 0;
  if ((access & X_OK) != 0 && !executable) return -EACCES;
  if (!spot->on_host()) return 0;
  if ((access & W_OK) != 0 && spot->place.folder()->read_only()) return -EROFS;
  if (S_ISLNK(spot->mode())) return 0;
  const int kept = access & (R_OK | W_OK);
  if (kept == 0) return 0;
  return ::faccessat(spot->host.fd.get(), "", kept, AT_EMPTY_PATH | AT_EACCESS) == 0 ? 0 : -errno;
}

std::int64_t FileSystem::ChangeDirectory(const Place& base, std::string_view path) {
  ErrnoOr<Spot> spot = Walk(base, path, Last::kFollow);
  if (!spot.ok()) return spot.result();
  if (!S_ISDIR(spot->mode())) return -ENOTDIR;
  working_directory_ = std::move(spot->place);
  return 0;
}

std::string FileSystem::WorkingDirectoryText() const {
  const ErrnoOr<std::string> path = working_directory_.Path();
  return path.ok() ? *path : "/" + working_directory_.anchor()->name + " (deleted)";
}

std::uint64_t FileSystem::KeepOpening(std::shared_ptr<FifoOpening> opening) {
  openings_[++last_opening_] = std::move(opening);
  return last_opening_;
}

std::shared_ptr<FifoOpening> FileSystem::FindOpening(std::uint64_t number) const {
  const auto found = openings_.find(number);
  return found == openings_.end() ? nullptr : found->second;
}

mode_t FileSystem::set_umask(mode_t mask) { return std::exchange(umask_, mask & 0777); }

}  // namespace waxvm::linux_abi
