// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/guest_copy.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>

#include "src/base/checked.h"
#include "src/linux_abi/mapped_files.h"
#include "src/linux_abi/vfs/fd_table.h"
#include "src/linux_abi/vfs/file_system.h"
#include "src/linux_abi/wait.h"

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

/// Goes through the ranges of a transfer, as one run of bytes.
class Cursor {
 public:
  Cursor(Process& process, std::span<const GuestRange> ranges)
      : process_(process), ranges_(ranges), rest_(std::min(Total(ranges), kMaxTransferBytes)) {}

  bool Done() const { return rest_ == 0; }
  std::size_t NextBytes() const { return std::min<std::uint64_t>(rest_, kBounceBytes); }
  /// The same, but not past the end of a range.
  std::size_t NextBytesOfRange() const {
    const std::uint64_t here = ranges_.empty() ? 0 : ranges_.front().bytes - within_;
    return std::min<std::uint64_t>(NextBytes(), here);
  }
  std::uint64_t rest() const { return rest_; }
  bool MustStop() {
    if (moved_ < next_look_) return false;
    next_look_ = moved_ + kBytesBetweenLooks;
    return RunIsEnding(process_);
  }
  /// Copies the next bytes, of however many ranges, without going on. Fewer than asked where
  /// guest memory is not mapped.
  std::size_t Gather(std::span<std::byte> to) const {
    return Walk(to.size(), [&](std::uint64_t at, std::size_t done, std::size_t n) {
      return CopyFromGuest(process_, at, to.subspan(done, n));
    });
  }
  std::size_t Scatter(std::span<const std::byte> from) const {
    return Walk(from.size(), [&](std::uint64_t at, std::size_t done, std::size_t n) {
      return CopyToGuest(process_, at, from.subspan(done, n));
    });
  }
  void Advance(std::uint64_t bytes) {
    moved_ += bytes;
    rest_ -= bytes;
    while (!ranges_.empty() && bytes >= ranges_.front().bytes - within_) {
      bytes -= ranges_.front().bytes - within_;
      ranges_ = ranges_.subspan(1);
      within_ = 0;
    }
    within_ += bytes;
  }
  std::uint64_t moved() const { return moved_; }
  /// What the call returns: the bytes moved, or `error` when there are none.
  std::int64_t Result(std::int64_t error) const {
    return moved_ > 0 ? static_cast<std::int64_t>(moved_) : error;
  }

 private:
  template <typename Copy>
  std::size_t Walk(std::size_t bytes, Copy copy) const {
    std::size_t done = 0;
    std::uint64_t within = within_;
    for (const GuestRange& range : ranges_) {
      const std::size_t piece = std::min<std::uint64_t>(bytes - done, range.bytes - within);
      const std::size_t copied = piece == 0 ? 0 : copy(range.address + within, done, piece);
      done += copied;
      if (copied < piece || done == bytes) break;
      within = 0;
    }
    return done;
  }

  Process& process_;
  std::span<const GuestRange> ranges_;
  std::uint64_t rest_;
  std::uint64_t within_ = 0;
  std::uint64_t moved_ = 0;
  std::uint64_t next_look_ = kBytesBetweenLooks;
};

std::unique_ptr<std::byte[]> BounceBuffer(const Cursor& cursor) {
  return std::make_unique_for_overwrite<std::byte[]>(cursor.NextBytes());
}

}  // namespace

std::size_t GatherFromGuest(Process& process, std::span<const GuestRange> ranges,
                            std::uint64_t skip, std::span<std::byte> to) {
  Cursor cursor(process, ranges);
  cursor.Advance(skip);
  return cursor.Gather(to);
}

std::size_t ScatterToGuest(Process& process, std::span<const GuestRange> ranges, std::uint64_t skip,
                           std::span<const std::byte> from) {
  Cursor cursor(process, ranges);
  cursor.Advance(skip);
  return cursor.Scatter(from);
}

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

std::int64_t SleepOnFile(Process& process, OpenFile& file, short events) {
  const std::int64_t slept = process.Sleep({.files = {{file.shared_from_this(), events}},
                                            .timeout = file.WaitLimit(events),
                                            .interrupted = kRestart});
  return slept == 0 ? -EAGAIN : slept;
}

std::int64_t ReadToGuest(Process& process, OpenFile& file, std::span<const GuestRange> ranges,
                         std::optional<std::uint64_t> offset, bool may_wait) {
  file.NoteUse();
  SyncMappings(process, file);
  Cursor cursor(process, ranges);
  const std::unique_ptr<std::byte[]> buffer = BounceBuffer(cursor);
  // A read of no bytes still finds out whether it could be one.
  do {
    if (cursor.MustStop()) return cursor.Result(-EINTR);
    const std::span<std::byte> to(buffer.get(), cursor.NextBytes());
    const std::int64_t n = offset ? file.PRead(to, *offset + cursor.moved()) : file.Read(to);
    if (n == -EAGAIN && cursor.moved() == 0 && may_wait && !file.nonblocking()) {
      return SleepOnFile(process, file, POLLIN);
    }
    if (n <= 0) return cursor.Result(n);
    const auto filled = static_cast<std::size_t>(n);
    const std::size_t copied = cursor.Scatter(to.first(filled));
    cursor.Advance(copied);
    if (copied < filled) {
      if (!offset) file.Seek(static_cast<std::int64_t>(copied) - n, SEEK_CUR);
      return cursor.Result(-EFAULT);
    }
    if (filled < to.size() || file.has_messages()) break;
  } while (!cursor.Done());
  return cursor.Result(0);
}

std::int64_t WriteFromGuest(Process& process, OpenFile& file, std::span<const GuestRange> ranges,
                            std::optional<std::uint64_t> offset, bool may_wait, bool raise) {
  file.NoteUse();
  if (const std::int64_t error = SyncMappings(process, file); error < 0) return error;
  Cursor cursor(process, ranges);
  const std::unique_ptr<std::byte[]> buffer = BounceBuffer(cursor);
  // What was written before the call went to sleep.
  std::uint64_t& progress = process.call_progress();
  // The ranges may be shorter now than they were then.
  cursor.Advance(std::min(progress, cursor.rest()));
  const bool apart = file.writes_ranges_apart();
  if (file.has_messages() && !apart && cursor.rest() > kBounceBytes) return -EMSGSIZE;
  do {
    if (cursor.MustStop()) return cursor.Result(-EINTR);
    const std::span<std::byte> from(buffer.get(),
                                    apart ? cursor.NextBytesOfRange() : cursor.NextBytes());
    const std::size_t copied = cursor.Gather(from);
    const bool whole = copied == from.size();
    if (!whole && (copied == 0 || file.has_messages())) return cursor.Result(-EFAULT);
    const std::span<const std::byte> filled = from.first(copied);
    const std::int64_t n =
        offset ? file.PWrite(filled, *offset + cursor.moved()) : file.Write(filled);
    // Only a stream's reader can be missed by surprise.
    if (n == -EPIPE && raise && !file.has_messages()) process.RaisePipeSignal();
    if (n == -EAGAIN && may_wait && !file.nonblocking()) {
      progress = cursor.moved();
      const std::int64_t slept = SleepOnFile(process, file, POLLOUT);
      return slept == kAsleep ? slept : cursor.Result(slept);
    }
    if (n <= 0) return cursor.Result(n);
    if (offset) {
      const std::uint64_t start = *offset + cursor.moved();
      RefreshMappings(process, file, start, start + static_cast<std::uint64_t>(n));
    } else {
      RefreshMappings(process, file);
    }
    cursor.Advance(static_cast<std::uint64_t>(n));
    if (file.has_messages() && !apart) break;
  } while (!cursor.Done());
  return cursor.Result(0);
}

OpenFile* FindForCall(Process& process, std::uint64_t fd) {
  const auto number = static_cast<std::uint32_t>(fd);
  PendingCall& call = process.thread().call;
  for (std::size_t i = 0; i < call.used_count; ++i) {
    if (call.used[i].number == number && call.used[i].file != nullptr) {
      return call.used[i].file.get();
    }
  }
  if (call.used_count < call.used.size()) call.used[call.used_count++].number = number;
  return process.files().Get(fd);
}

ErrnoOr<OpenFile*> FileArgument(Process& process, std::uint64_t fd) {
  OpenFile* file = FindForCall(process, fd);
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
