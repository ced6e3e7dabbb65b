// SPDX-License-Identifier: Apache-2.0
// mmap and its kind.
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>
#include <memory>
#include <utility>

#include "src/base/checked.h"
#include "src/linux_abi/guest_copy.h"
#include "src/linux_abi/process.h"
#include "src/linux_abi/vfs/fd_table.h"
#include "src/linux_abi/vfs/open_file.h"

namespace waxvm::linux_abi {
namespace {

using MapRequest = AddressSpace::MapRequest;

// Newer than Debian 12's headers.
constexpr int kMadvPopulateRead = 22;
constexpr int kMadvPopulateWrite = 23;
constexpr int kMadvDontNeedLocked = 24;
constexpr int kMadvCollapse = 25;
constexpr std::uint64_t kMremapDontUnmap = 4;
constexpr std::uint64_t kMapSync = 0x80000;
constexpr std::uint64_t kMlockOnFault = 1;
// What MAP_SHARED_VALIDATE knows; it refuses other bits, which MAP_SHARED ignores.
constexpr std::uint64_t kKnownMapFlags = MAP_TYPE | MAP_FIXED | MAP_ANONYMOUS | MAP_32BIT |
                                         MAP_GROWSDOWN | MAP_DENYWRITE | MAP_EXECUTABLE |
                                         MAP_LOCKED | MAP_NORESERVE | MAP_POPULATE | MAP_NONBLOCK |
                                         MAP_STACK | MAP_HUGETLB | MAP_FIXED_NOREPLACE;
constexpr std::uint64_t kHugeShiftBits = std::uint64_t{0x3f} << 26;

PageRights RightsOf(std::uint64_t protection) {
  return {.read = (protection & PROT_READ) != 0,
          .write = (protection & PROT_WRITE) != 0,
          .execute = (protection & PROT_EXEC) != 0};
}

bool IsDevZero(const struct stat& status) {
  return S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 5);
}

// Completes `request` for the open file and the offset asked for. Returns 0 or a negated errno.
std::int64_t AddFile(Process& process, const SyscallArguments& a, MapRequest& request) {
  const std::shared_ptr<OpenFile> file = process.files().Share(a[4]);
  if (file == nullptr || file->path_only()) return -EBADF;
  const bool shared = (a[3] & MAP_TYPE) != MAP_PRIVATE;
  struct stat status {};
  if (const std::int64_t error = file->Stat(status); error < 0) return error;
  if (!file->readable()) return -EACCES;
  if (shared && request.rights.write && !file->writable()) return -EACCES;
  if ((a[3] & MAP_GROWSDOWN) != 0) return -EINVAL;
  if (IsDevZero(status)) return 0;
  if ((a[3] & MAP_HUGETLB) != 0) return -EINVAL;
  ErrnoOr<std::shared_ptr<MappedSource>> source = process.memory().SourceOf(file);
  if (!source.ok()) return source.result();
  request.source = *std::move(source);
  request.kind = AddressSpace::Kind::kFile;
  request.offset = a[5];
  request.shared = shared;
  request.may_write = !shared || file->writable();
  return 0;
}

std::int64_t CheckMmap(const SyscallArguments& a) {
  const std::uint64_t flags = a[3];
  const std::uint64_t type = flags & MAP_TYPE;
  if (type != MAP_PRIVATE && type != MAP_SHARED && type != MAP_SHARED_VALIDATE) return -EINVAL;
  if (type == MAP_SHARED_VALIDATE &&
      ((flags & ~(kKnownMapFlags | kHugeShiftBits)) != 0 || (flags & kMapSync) != 0))
    return -EOPNOTSUPP;
  if (a[1] == 0) return -EINVAL;
  const auto length = PageCeil(a[1]);
  if (!length) return -ENOMEM;
  const auto end = CheckedAdd(a[5], *length);
  // Offsets end where off_t does.
  if ((flags & MAP_ANONYMOUS) == 0 && (!end || *end > std::numeric_limits<std::int64_t>::max()))
    return -EOVERFLOW;
  return 0;
}

std::int64_t Mmap(Process& process, const SyscallArguments& a) {
  const std::uint64_t flags = a[3];
  if (a[5] % kPageBytes != 0) return -EINVAL;
  // A descriptor that is none comes before anything else that is wrong.
  if ((flags & MAP_ANONYMOUS) == 0)
    if (const ErrnoOr<OpenFile*> file = FileArgument(process, a[4]); !file.ok())
      return file.result();
  if (const std::int64_t error = CheckMmap(a); error < 0) return error;
  MapRequest request{.rights = RightsOf(a[2]),
                     .fixed = (flags & MAP_FIXED) != 0,
                     .no_replace = (flags & MAP_FIXED_NOREPLACE) != 0,
                     .low = (flags & MAP_32BIT) != 0,
                     .no_reserve = (flags & MAP_NORESERVE) != 0};
  if ((flags & MAP_ANONYMOUS) == 0) {
    if (const std::int64_t error = AddFile(process, a, request); error < 0) return error;
  } else if ((flags & MAP_HUGETLB) != 0) {
    return -ENOMEM;  // as on a host that has set no huge pages aside
  } else if ((flags & MAP_TYPE) != MAP_PRIVATE) {
    if ((flags & MAP_GROWSDOWN) != 0) return -EINVAL;
    request.kind = AddressSpace::Kind::kSharedAnonymous;
  } else if ((flags & MAP_GROWSDOWN) != 0) {
    request.kind = AddressSpace::Kind::kStack;
  }
  const std::int64_t address = process.memory().Map(a[0], a[1], request);
  // MAP_POPULATE is a wish: what cannot be had comes with a fault, or not.
  if (address > 0 && (flags & (MAP_POPULATE | MAP_LOCKED)) != 0 && (flags & MAP_NONBLOCK) == 0 &&
      !request.rights.none())
    process.memory().MakeResident(static_cast<std::uint64_t>(address), a[1],
                                  request.rights.write && !request.shared);
  return address;
}

std::int64_t Munmap(Process& process, const SyscallArguments& a) {
  return process.memory().Unmap(a[0], a[1]);
}

std::int64_t Mprotect(Process& process, const SyscallArguments& a) {
  constexpr std::uint64_t kGrows = PROT_GROWSDOWN | PROT_GROWSUP;
  if ((a[2] & kGrows) == kGrows || a[0] % kPageBytes != 0) return -EINVAL;
  if (a[1] == 0) return 0;
  constexpr std::uint64_t kAtomics = 0x8;  // PROT_SEM
  if ((a[2] & ~(kGrows | kAtomics | PROT_READ | PROT_WRITE | PROT_EXEC)) != 0) return -EINVAL;
  if ((a[2] & PROT_GROWSUP) != 0)  // no stack of x86 does
    return process.memory().CheckMapped(a[0], 1) < 0 ? -ENOMEM : -EINVAL;
  return process.memory().Protect(a[0], a[1], RightsOf(a[2]), (a[2] & PROT_GROWSDOWN) != 0);
}

std::int64_t Brk(Process& process, const SyscallArguments& a) {
  return static_cast<std::int64_t>(process.memory().MoveHeapEnd(a[0]));
}

std::int64_t Mremap(Process& process, const SyscallArguments& a) {
  const std::uint64_t flags = a[3];
  if ((flags & ~(kMremapDontUnmap | MREMAP_MAYMOVE | MREMAP_FIXED)) != 0) return -EINVAL;
  const bool may_move = (flags & MREMAP_MAYMOVE) != 0;
  const bool keep_old = (flags & kMremapDontUnmap) != 0;
  if ((flags & MREMAP_FIXED) != 0 && !may_move) return -EINVAL;
  if (keep_old && (!may_move || a[1] != a[2])) return -EINVAL;
  return process.memory().Remap(a[0], a[1], a[2], may_move,
                                (flags & MREMAP_FIXED) != 0 ? std::optional(a[4]) : std::nullopt,
                                keep_old);
}

// Advice that changes nothing here is taken for memory that is mapped.
std::int64_t Madvise(Process& process, const SyscallArguments& a) {
  const auto advice = static_cast<std::int32_t>(a[2]);
  AddressSpace& memory = process.memory();
  const bool sound_range =
      a[0] % kPageBytes == 0 && PageCeil(a[1]) && CheckedAdd(a[0], *PageCeil(a[1])).has_value();
  switch (advice) {
    case MADV_NORMAL:
    case MADV_RANDOM:
    case MADV_SEQUENTIAL:
    case MADV_WILLNEED:
    case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE:
    case MADV_MERGEABLE:
    case MADV_UNMERGEABLE:
    case MADV_DONTDUMP:
    case MADV_DODUMP:
    case MADV_DONTFORK:
    case MADV_DOFORK:
    case MADV_WIPEONFORK:
    case MADV_KEEPONFORK:
    case MADV_COLD:
    case MADV_PAGEOUT:
    case kMadvCollapse:
      if (!sound_range) return -EINVAL;
      return a[1] == 0 ? 0 : memory.CheckMapped(a[0], a[1]);
    case MADV_DONTNEED:
    case kMadvDontNeedLocked:
    case MADV_FREE:
      if (!sound_range) return -EINVAL;
      return a[1] == 0 ? 0 : memory.Discard(a[0], a[1], advice == MADV_FREE);
    case MADV_REMOVE:
      if (!sound_range) return -EINVAL;
      return a[1] == 0 ? 0 : memory.Remove(a[0], a[1]);
    case kMadvPopulateRead:
    case kMadvPopulateWrite:
      if (!sound_range) return -EINVAL;
      return a[1] == 0 ? 0 : memory.MakeResident(a[0], a[1], advice == kMadvPopulateWrite);
    default:
      return -EINVAL;
  }
}

std::int64_t Msync(Process& process, const SyscallArguments& a) {
  constexpr std::uint64_t kFlags = MS_ASYNC | MS_INVALIDATE | MS_SYNC;
  if (a[0] % kPageBytes != 0 || (a[2] & ~kFlags) != 0) return -EINVAL;
  if ((a[2] & (MS_ASYNC | MS_SYNC)) == (MS_ASYNC | MS_SYNC)) return -EINVAL;
  if (a[1] == 0) return 0;
  const std::int64_t mapped = process.memory().CheckMapped(a[0], a[1]);
  const std::int64_t written = process.memory().SyncFile();
  return written < 0 ? written : mapped;
}

// Guest memory is as resident as the host decides.
std::int64_t Mlock(Process& process, const SyscallArguments& a) {
  if (a[1] == 0) return 0;
  const auto end = CheckedAdd(a[0], a[1]);
  return end && PageCeil(*end) ? process.memory().CheckMapped(a[0], a[1]) : -EINVAL;
}
std::int64_t Mlock2(Process& process, const SyscallArguments& a) {
  return (a[2] & ~kMlockOnFault) != 0 ? -EINVAL : Mlock(process, a);
}
std::int64_t MlockAll(Process&, const SyscallArguments& a) {
  constexpr std::uint64_t kFlags = MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT;
  return a[0] == 0 || (a[0] & ~kFlags) != 0 || a[0] == MCL_ONFAULT ? -EINVAL : 0;
}
std::int64_t MunlockAll(Process&, const SyscallArguments&) { return 0; }

std::int64_t Mincore(Process& process, const SyscallArguments& a) {
  if (a[0] % kPageBytes != 0) return -EINVAL;
  AddressSpace& memory = process.memory();
  if (a[1] == 0) return 0;
  if (const std::int64_t error = memory.CheckMapped(a[0], a[1]); error < 0) return error;
  std::array<std::byte, 4096> residency;
  const std::uint64_t pages = *PageCeil(a[1]) / kPageBytes;
  for (std::uint64_t done = 0; done < pages;) {
    const std::size_t part = std::min<std::uint64_t>(pages - done, residency.size());
    for (std::size_t i = 0; i < part; ++i)
      residency[i] = std::byte{memory.IsPresent(a[0] + (done + i) * kPageBytes)};
    if (!memory.Write(a[2] + done, {residency.data(), part})) return -EFAULT;
    done += part;
    // A range of many terabytes takes seconds.
    if (done % (std::uint64_t{1} << 20) == 0 && RunIsEnding(process)) return -EINTR;
  }
  return 0;
}

constexpr SyscallEntry kCalls[] = {
    {SYS_mmap, "mmap", Mmap, Support::kPartial, "MAP_HUGETLB"},
    {SYS_munmap, "munmap", Munmap},
    {SYS_mprotect, "mprotect", Mprotect},
    {SYS_brk, "brk", Brk},
    {SYS_mremap, "mremap", Mremap},
    {SYS_madvise, "madvise", Madvise, Support::kPartial, "MADV_HWPOISON and MADV_SOFT_OFFLINE"},
    {SYS_msync, "msync", Msync},
    {SYS_mlock, "mlock", Mlock, Support::kPartial, "accepted, without effect"},
    {SYS_mlock2, "mlock2", Mlock2, Support::kPartial, "accepted, without effect"},
    {SYS_munlock, "munlock", Mlock, Support::kPartial, "accepted, without effect"},
    {SYS_mlockall, "mlockall", MlockAll, Support::kPartial, "accepted, without effect"},
    {SYS_munlockall, "munlockall", MunlockAll, Support::kPartial, "accepted, without effect"},
    {SYS_mincore, "mincore", Mincore},
};

}  // namespace

std::span<const SyscallEntry> MemoryCalls() { return kCalls; }

}  // namespace waxvm::linux_abi
