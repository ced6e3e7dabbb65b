// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/guest_copy.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>

#include "src/base/checked.h"
#include "src/linux_abi/mapped_files.h"
#include "src/linux_abi/signals.h"
#include "src/linux_abi/vfs/fd_table.h"
#include "src/linux_abi/vfs/file_system.h"

namespace waxvm::linux_abi {
namespace {

// A copy of this length between two looks at whether the run is being ended takes milliseconds.
constexpr std::uint64_t kBytesBetweenLooks = std::uint64_t{8} << 20;

std::uint64_t Total(std::span<const GuestRange> ranges) {
  std::uint64_t total = 0;
  for (const GuestRange& range : ranges) total += range.bytes;
  return total;
}

// As much as is mapped, page by page where the whole is not.
template <typename Copy>
std::size_t CopyMapped(std::uint64_t address, std::size_t bytes, Copy copy) {
  if (copy(address, std::size_t{0}, bytes)) return bytes;
  std::size_t done = 0;
  while (done < bytes) {
    const std::uint64_t at = address + done;
    const std::size_t piece = std::min<std::size_t>(bytes - done, kPageBytes - at % kPageBytes);
    if (!copy(at, done, piece)) break;
    done += piece;
  }
  return done;
}

std::size_t CopyToGuest(Process& process, std::uint64_t address, std::span<const std::byte> from) {
  return CopyMapped(address, from.size(), [&](std::uint64_t at, std::size_t done, std::size_t n) {
    return process.memory().Write(at, from.subspan(done, n));
  });
}

std::size_t CopyFromGuest(Process& process, std::uint64_t address, std::span<std::byte> to) {
  return CopyMapped(address, to.size(), [&](std::uint64_t at, std::size_t done, std::size_t n) {
    return process.memory().Read(at, to.subspan(done, n));
  });
}

/// Hands out the pieces of a transfer, and says when it has to stop between two of them.
class Pieces {
 public:
  Pieces(Process& process, std::span<const GuestRange> ranges)
      : process_(process), ranges_(ranges), rest_(std::min(Total(ranges), kMaxTransferBytes)) {}

  bool Done() {
    while (!ranges_.empty() && within_ == ranges_.front().bytes) {
      ranges_ = ranges_.subspan(1);
      within_ = 0;
    }
    return ranges_.empty() || rest_ == 0;
  }
  bool MustStop() {
    if (moved_ < next_look_) return false;
    next_look_ = moved_ + kBytesBetweenLooks;
    return RunIsEnding(process_);
  }
  GuestRange Next() const {
    const std::uint64_t bytes =
        std::min<std::uint64_t>({ranges_.front().bytes - within_, rest_, kBounceBytes});
    return {ranges_.front().address + within_, bytes};
  }
  void Advance(std::uint64_t bytes) {
    within_ += bytes;
    moved_ += bytes;
    rest_ -= bytes;
  }
  std::uint64_t moved() const { return moved_; }
  /// What the call returns: the bytes moved, or `error` when there are none.
  std::int64_t Result(std::int64_t error) const {
    return moved_ > 0 ? static_cast<std::int64_t>(moved_) : error;
  }

 private:
  Process& process_;
  std::span<const GuestRange> ranges_;
  std::uint64_t rest_;
  std::uint64_t within_ = 0;
  std::uint64_t moved_ = 0;
  std::uint64_t next_look_ = kBytesBetweenLooks;
};

std::unique_ptr<std::byte[]> BounceBuffer(std::span<const GuestRange> ranges) {
  return std::make_unique_for_overwrite<std::byte[]>(
      std::min<std::uint64_t>(Total(ranges), kBounceBytes));
}

}  // namespace

bool RunIsEnding(Process& process) {
  return process.ending().has_value() || process.host().Wait({}, std::chrono::nanoseconds(0)) < 0;
}

ErrnoOr<std::vector<GuestRange>> ReadVectors(Process& process, std::uint64_t address,
                                             std::uint64_t count) {
  if (count > IOV_MAX) return Errno{EINVAL};
  std::vector<GuestRange> ranges(count);
  if (!process.memory().Read(address, std::as_writable_bytes(std::span(ranges)))) {
    return Errno{EFAULT};
  }
  std::uint64_t total = 0;
  for (const GuestRange& range : ranges) {
    if (range.bytes > SSIZE_MAX - total) return Errno{EINVAL};
    total += range.bytes;
  }
  return ranges;
}

std::int64_t ReadToGuest(Process& process, OpenFile& file, std::span<const GuestRange> ranges,
                         std::optional<std::uint64_t> offset) {
  file.NoteUse();
  SyncMappings(process, file);
  const std::unique_ptr<std::byte[]> buffer = BounceBuffer(ranges);
  Pieces pieces(process, ranges);
  while (!pieces.Done()) {
    // What comes first must not wait for what may never come.
    if (pieces.moved() > 0 && !offset && (file.Poll() & POLLIN) == 0) break;
    if (pieces.MustStop()) return pieces.Result(-EINTR);
    const GuestRange piece = pieces.Next();
    const std::span<std::byte> to(buffer.get(), piece.bytes);
    const std::int64_t n = offset ? file.PRead(to, *offset + pieces.moved()) : file.Read(to);
    if (n <= 0) return pieces.Result(n);
    const auto filled = static_cast<std::size_t>(n);
    const std::size_t copied = CopyToGuest(process, piece.address, to.first(filled));
    pieces.Advance(copied);
    if (copied < filled) {
      if (!offset) file.Seek(static_cast<std::int64_t>(copied) - n, SEEK_CUR);
      return pieces.Result(-EFAULT);
    }
    if (filled < piece.bytes) break;
  }
  return pieces.Result(0);
}

std::int64_t WriteFromGuest(Process& process, OpenFile& file, std::span<const GuestRange> ranges,
                            std::optional<std::uint64_t> offset) {
  file.NoteUse();
  if (const std::int64_t error = SyncMappings(process, file); error < 0) return error;
  const std::unique_ptr<std::byte[]> buffer = BounceBuffer(ranges);
  Pieces pieces(process, ranges);
  while (!pieces.Done()) {
    if (pieces.moved() > 0 && !offset && (file.Poll() & (POLLOUT | POLLERR)) == 0) break;
    if (pieces.MustStop()) return pieces.Result(-EINTR);
    const GuestRange piece = pieces.Next();
    const std::span<std::byte> from(buffer.get(), piece.bytes);
    const std::size_t copied = CopyFromGuest(process, piece.address, from);
    if (copied == 0) return pieces.Result(-EFAULT);
    const std::span<const std::byte> filled = from.first(copied);
    const std::int64_t n =
        offset ? file.PWrite(filled, *offset + pieces.moved()) : file.Write(filled);
    if (n == -EPIPE) process.RaisePipeSignal();
    if (n <= 0) return pieces.Result(n);
    if (offset)
      RefreshMappings(process, file, *offset + pieces.moved(),
                      *offset + pieces.moved() + static_cast<std::uint64_t>(n));
    else
      RefreshMappings(process, file);
    pieces.Advance(static_cast<std::uint64_t>(n));
    if (static_cast<std::size_t>(n) < piece.bytes) break;
  }
  return pieces.Result(0);
}

ErrnoOr<OpenFile*> FileArgument(Process& process, std::uint64_t fd) {
  OpenFile* file = process.files().Get(fd);
  if (file == nullptr || file->path_only()) return Errno{EBADF};
  return file;
}

ErrnoOr<std::string> PathArgument(Process& process, std::uint64_t address) {
  std::string path;
  const std::int64_t length = process.memory().ReadString(address, PATH_MAX, path);
  if (length < 0) return ToErrno(length);
  return path;
}

ErrnoOr<Place> BaseArgument(Process& process, std::uint64_t fd, const std::string& path) {
  if (path.empty()) return Errno{ENOENT};
  if (path.starts_with('/')) return process.file_system().root();
  if (static_cast<std::int32_t>(fd) == AT_FDCWD) return process.file_system().working_directory();
  const OpenFile* file = process.files().Get(fd);
  if (file == nullptr) return Errno{EBADF};
  if (file->directory() == nullptr) return Errno{ENOTDIR};
  return *file->directory();
}

}  // namespace waxvm::linux_abi
