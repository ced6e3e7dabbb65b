// SPDX-License-Identifier: Apache-2.0
// Moves bytes between guest memory and open files, and the arguments that name either.
#ifndef WAXVM_SRC_LINUX_ABI_GUEST_COPY_H_
#define WAXVM_SRC_LINUX_ABI_GUEST_COPY_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "src/linux_abi/errno_or.h"
#include "src/linux_abi/process.h"
#include "src/linux_abi/vfs/open_file.h"
#include "src/linux_abi/vfs/place.h"

namespace waxvm::linux_abi {

/// MAX_RW_COUNT: no call moves more, however much it is asked to.
inline constexpr std::uint64_t kMaxTransferBytes = 0x7ffff000;
/// What the host copies through at a time, so that a guest's huge count costs the host nothing.
inline constexpr std::size_t kBounceBytes = 65536;

struct GuestRange {
  std::uint64_t address = 0;
  std::uint64_t bytes = 0;
};

/// An array of iovec. Errors: EINVAL (more than IOV_MAX, or a sum past SSIZE_MAX), EFAULT.
ErrnoOr<std::vector<GuestRange>> ReadVectors(Process& process, std::uint64_t address,
                                             std::uint64_t count);

/// Sleeps until the file may have one of the events: kAsleep, or the error the call then gives.
std::int64_t SleepOnFile(Process& process, OpenFile& file, short events);

/// Reads the file, at `offset` where given, into the ranges; a part, once something was read.
/// Sleeps where nothing is there yet, unless the file is nonblocking or `may_wait` is false.
std::int64_t ReadToGuest(Process& process, OpenFile& file, std::span<const GuestRange> ranges,
                         std::optional<std::uint64_t> offset, bool may_wait = true);
/// Writes the ranges to the file in the same way, and sleeps until all of them are written.
/// `raise`: SIGPIPE where nobody can read it any more.
std::int64_t WriteFromGuest(Process& process, OpenFile& file, std::span<const GuestRange> ranges,
                            std::optional<std::uint64_t> offset, bool may_wait = true,
                            bool raise = true);

/// Copies what the ranges hold behind their first `skip` bytes, as one run of bytes; fewer than
/// asked where guest memory is not mapped.
std::size_t GatherFromGuest(Process& process, std::span<const GuestRange> ranges,
                            std::uint64_t skip, std::span<std::byte> to);
std::size_t ScatterToGuest(Process& process, std::span<const GuestRange> ranges, std::uint64_t skip,
                           std::span<const std::byte> from);

/// True once the run is being ended: a call that can go on for long asks now and then.
bool RunIsEnding(Process& process);

/// What is open at a descriptor, or null. A call that sleeps finds the same again.
OpenFile* FindForCall(Process& process, std::uint64_t fd);
/// The open file of a descriptor argument, found in the same way. Errors: EBADF; also for O_PATH
/// descriptors.
ErrnoOr<OpenFile*> FileArgument(Process& process, std::uint64_t fd);
/// A path argument. Errors: EFAULT, ENAMETOOLONG.
ErrnoOr<std::string> PathArgument(Process& process, std::uint64_t address);
/// Where a path relative to `fd` starts, AT_FDCWD included. An absolute path ignores `fd`.
/// Errors: EBADF, ENOTDIR, ENOENT for an empty path.
ErrnoOr<Place> BaseArgument(Process& process, std::uint64_t fd, const std::string& path);

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_GUEST_COPY_H_
