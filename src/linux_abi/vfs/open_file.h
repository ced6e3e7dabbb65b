// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_LINUX_ABI_VFS_OPEN_FILE_H_
#define WAXVM_SRC_LINUX_ABI_VFS_OPEN_FILE_H_

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "src/linux_abi/errno_or.h"

namespace waxvm::linux_abi {

class FilesKeeper;
class FilesRestorer;
class Place;

struct DirectoryEntry {
  std::uint64_t inode = 0;
  unsigned char type = 0;  ///< DT_*
  std::string name;
};

/// How often something came in that can be read, and room was made for writing: how an
/// edge-triggered waiter tells that what is ready now is not what was reported last.
struct Edges {
  std::uint64_t in = 0;
  std::uint64_t out = 0;
  bool operator==(const Edges&) const = default;
};

/// An open file description: what descriptors made by dup share, offset and status flags included.
/// Results are bytes or negated errno values. The callers have checked readable() and writable().
/// Nothing here waits: what cannot be done yet is -EAGAIN, whether nonblocking() or not.
/// Thread safety: none; used by the instance's thread.
class OpenFile : public std::enable_shared_from_this<OpenFile> {
 public:
  /// `flags` as given to open(2); those that only matter while opening are dropped.
  explicit OpenFile(int flags);
  virtual ~OpenFile() = default;
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  /// Access mode and status flags, as F_GETFL tells them.
  int flags() const { return flags_; }
  /// F_SETFL: changes O_APPEND, O_NONBLOCK, O_NOATIME and O_DIRECT, ignores the rest.
  void SetStatusFlags(int flags);
  bool path_only() const { return (flags_ & O_PATH) != 0; }
  bool readable() const { return !path_only() && (flags_ & O_ACCMODE) != O_WRONLY; }
  bool writable() const { return !path_only() && (flags_ & O_ACCMODE) != O_RDONLY; }
  bool nonblocking() const { return (flags_ & O_NONBLOCK) != 0; }

  /// At the shared offset, where there is one.
  virtual std::int64_t Read(std::span<std::byte> to);
  virtual std::int64_t Write(std::span<const std::byte> from);
  /// At `offset`, which callers keep below 2^63; leaves the shared offset alone.
  virtual std::int64_t PRead(std::span<std::byte> to, std::uint64_t offset);
  virtual std::int64_t PWrite(std::span<const std::byte> from, std::uint64_t offset);
  virtual std::int64_t Seek(std::int64_t offset, int whence);
  /// True where PRead and PWrite have a meaning: pread(2) of anything else is ESPIPE, whatever it
  /// is open for.
  virtual bool has_positions() const { return false; }
  /// False where reading or writing is not a thing the kind of file can do, not even of no bytes.
  virtual bool can_read() const { return true; }
  virtual bool can_write() const { return true; }
  /// True where each range of a writev is a write of its own.
  virtual bool writes_ranges_apart() const { return false; }
  /// Whether bytes go from and to it without a buffer of the guest's: sendfile, splice.
  virtual bool spliceable() const { return true; }

  virtual std::int64_t Stat(struct stat& status) const = 0;
  /// The path it was opened by, as the guest knows it; empty where there is none.
  virtual std::string GuestPath() const { return {}; }
  virtual std::int64_t StatFs(struct statfs& status) const;
  virtual std::int64_t Truncate(std::uint64_t bytes);
  /// fallocate with mode 0, or FALLOC_FL_KEEP_SIZE, or PUNCH_HOLE | KEEP_SIZE.
  virtual std::int64_t Allocate(int mode, std::uint64_t offset, std::uint64_t bytes);
  virtual std::int64_t Sync();
  virtual std::int64_t SetMode(mode_t mode);
  /// chown; -1 leaves one as it is.
  virtual std::int64_t SetOwner(uid_t owner, gid_t group);
  /// Access and modification time; UTIME_NOW and UTIME_OMIT as in utimensat(2).
  virtual std::int64_t SetTimes(const std::array<timespec, 2>& times);
  virtual ErrnoOr<std::string> ReadLink() const;
  /// Locks that the host keeps, so that its other processes see them; empty: the instance keeps
  /// them. `operation`: of flock(2), LOCK_NB included. `command`: F_OFD_SETLK or F_OFD_GETLK;
  /// `for_process`: for the process as a whole instead of this open file.
  virtual std::optional<std::int64_t> FlockOnHost(int) { return std::nullopt; }
  virtual std::optional<std::int64_t> LockOnHost(bool, int, struct flock&) { return std::nullopt; }
  /// Destroyed together with the open file: lets go of what it has locked.
  void KeepForLocks(std::shared_ptr<void> token) { lock_token_ = std::move(token); }
  bool keeps_for_locks() const { return lock_token_.use_count() > 0; }
  /// Where it was found. Errors: ENOENT for what never had a name.
  virtual ErrnoOr<std::string> Path() const { return Errno{ENOENT}; }
  /// The host's descriptor of a regular file, which stays this object's; -1 where there is none.
  virtual int host_descriptor() const { return -1; }
  /// Another open file of the same thing, as opening /proc/self/fd/N makes it. Errors: ENXIO for
  /// what cannot be opened by name.
  virtual ErrnoOr<std::shared_ptr<OpenFile>> Reopen(int flags);

  /// The entries from the offset on; an entry's offset is its index in the directory.
  virtual ErrnoOr<std::span<const DirectoryEntry>> ReadDirectory();
  /// Where paths relative to this descriptor start; null for what is not a directory.
  virtual const Place* directory() const { return nullptr; }

  /// What poll(2) would say now, POLLHUP and POLLERR included. POLLOUT means that a Write which
  /// gave -EAGAIN is worth another try.
  virtual short Poll() const { return POLLIN | POLLOUT; }
  /// Which of POLLRDNORM, POLLWRNORM and POLLWRBAND the file knows: they follow POLLIN and POLLOUT.
  virtual short bands() const { return POLLRDNORM | POLLWRNORM; }
  /// Poll() and the bands.
  short PollWithBands() const;
  /// Two that differ mean that something happened in between.
  virtual Edges edges() const { return {.in = uses_, .out = uses_}; }
  void NoteUse() { ++uses_; }
  /// Adds the host descriptors that become ready when this file does; none where only the guest
  /// itself or the time can make it ready.
  virtual void AddHostDescriptors(std::vector<pollfd>&) const {}
  /// When, on the clock of Host::Now(), the file becomes ready by itself.
  virtual std::optional<std::chrono::nanoseconds> ReadyAt() const { return std::nullopt; }
  /// How long a call may sleep for POLLIN or POLLOUT (SO_RCVTIMEO, SO_SNDTIMEO); empty: no end.
  virtual std::optional<std::chrono::nanoseconds> WaitLimit(short) const { return std::nullopt; }
  /// True where every Read and Write moves one message, which must not be put together or split.
  virtual bool has_messages() const { return false; }
  /// FIONREAD: bytes that can be read at once.
  virtual std::int64_t Available() const;

 protected:
  /// F_GETFL tells O_LARGEFILE, which every open(2) of a 64-bit program asks for, but nothing that
  /// was made without a name has.
  void SetMadeWithoutName();
  /// Changes the offset as lseek(2) does, for a file of `size` bytes.
  std::int64_t SeekWithin(std::int64_t offset, int whence, std::int64_t size);

  std::uint64_t offset_ = 0;

 private:
  friend class FilesKeeper;
  friend class FilesRestorer;
  int flags_;
  std::uint64_t uses_ = 0;
  std::shared_ptr<void> lock_token_;
};

/// A file whose bytes have positions: Read and Write are PRead and PWrite at the offset.
class SeekableFile : public OpenFile {
 public:
  using OpenFile::OpenFile;

  std::int64_t Read(std::span<std::byte> to) override;
  std::int64_t Write(std::span<const std::byte> from) override;
  std::int64_t PRead(std::span<std::byte> to, std::uint64_t offset) override = 0;
  std::int64_t PWrite(std::span<const std::byte> from, std::uint64_t offset) override = 0;
  std::int64_t Seek(std::int64_t offset, int whence) override;
  bool has_positions() const override { return true; }
  std::int64_t Available() const override;

 protected:
  virtual std::int64_t Size() const = 0;
};

/// An eventfd and its kind: made by a call of its own, and all with one inode, which nobody
/// changes.
class AnonymousFile : public OpenFile {
 public:
  explicit AnonymousFile(int flags) : OpenFile(flags) { SetMadeWithoutName(); }

  /// Accepted without effect.
  std::int64_t Seek(std::int64_t, int) override { return 0; }
  bool spliceable() const override { return false; }
  std::int64_t SetMode(mode_t) override { return -EOPNOTSUPP; }
  std::int64_t SetOwner(uid_t, gid_t) override { return -EOPNOTSUPP; }
  std::int64_t SetTimes(const std::array<timespec, 2>&) override { return -EOPNOTSUPP; }
  short bands() const override { return 0; }
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_VFS_OPEN_FILE_H_
