// SPDX-License-Identifier: Apache-2.0
// mmap and its kind.
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <vector>

#include "src/base/checked.h"
#include "src/linux_abi/process.h"
#include "src/linux_abi/vfs/fd_table.h"
#include "src/linux_abi/vfs/open_file.h"

namespace waxvm::linux_abi {
namespace {

constexpr std::size_t kCopyBytes = 64 * 1024;

PageRights RightsOf(std::uint64_t protection) {
  return {.read = (protection & PROT_READ) != 0,
          .write = (protection & PROT_WRITE) != 0,
          .execute = (protection & PROT_EXEC) != 0};
}

// Copies a file's bytes into a fresh mapping. Returns 0 or a negated errno.
std::int64_t FillFromFile(Process& process, OpenFile& file, std::uint64_t address,
                          std::uint64_t bytes, std::uint64_t offset) {
  std::vector<std::byte> chunk(std::min<std::uint64_t>(bytes, kCopyBytes));
  while (bytes != 0) {
    const std::size_t wanted = std::min<std::uint64_t>(bytes, chunk.size());
    const std::int64_t got = file.PRead({chunk.data(), wanted}, offset);
    if (got < 0) return got;
    if (got == 0) return 0;  // the rest of the last page reads as zero
    if (!process.memory().WriteForced(address, {chunk.data(), static_cast<std::size_t>(got)}))
      return -ENOMEM;
    address += static_cast<std::uint64_t>(got);
    offset += static_cast<std::uint64_t>(got);
    bytes -= static_cast<std::uint64_t>(got);
  }
  return 0;
}

std::int64_t MapFile(Process& process, const SyscallArguments& a, bool fixed, bool no_replace) {
  OpenFile* file = process.files().Get(a[4]);
  if (file == nullptr) return -EBADF;
  if (!file->readable()) return -EACCES;
  if (a[5] % kPageBytes != 0 || !CheckedAdd(a[5], a[1])) return -EINVAL;
  // Pages are private copies: a shared mapping that would have to write back is not offered.
  if ((a[3] & MAP_TYPE) != MAP_PRIVATE && (a[2] & PROT_WRITE) != 0) return -ENODEV;
  struct stat status;
  if (const std::int64_t error = file->Stat(status); error < 0) return error;
  if (!S_ISREG(status.st_mode)) return -ENODEV;
  const std::int64_t address = process.memory().Map(a[0], a[1], RightsOf(a[2]),
                                                    AddressSpace::Kind::kFile, fixed, no_replace);
  if (address < 0) return address;
  const auto start = static_cast<std::uint64_t>(address);
  if (const std::int64_t error = FillFromFile(process, *file, start, a[1], a[5]); error < 0) {
    process.memory().Unmap(start, *PageCeil(a[1]));
    return error;
  }
  return address;
}

std::int64_t Mmap(Process& process, const SyscallArguments& a) {
  const std::uint64_t flags = a[3];
  const std::uint64_t type = flags & MAP_TYPE;
  if (type != MAP_PRIVATE && type != MAP_SHARED && type != MAP_SHARED_VALIDATE) return -EINVAL;
  const bool no_replace = (flags & MAP_FIXED_NOREPLACE) != 0;
  const bool fixed = (flags & MAP_FIXED) != 0 || no_replace;
  if ((flags & MAP_ANONYMOUS) == 0) return MapFile(process, a, fixed, no_replace);
  // With one process shared and private anonymous memory are the same.
  return process.memory().Map(a[0], a[1], RightsOf(a[2]), AddressSpace::Kind::kAnonymous, fixed,
                              no_replace);
}

std::int64_t Munmap(Process& process, const SyscallArguments& a) {
  return process.memory().Unmap(a[0], a[1]);
}

std::int64_t Mprotect(Process& process, const SyscallArguments& a) {
  if ((a[2] & ~std::uint64_t{PROT_READ | PROT_WRITE | PROT_EXEC}) != 0) return -EINVAL;
  return process.memory().Protect(a[0], a[1], RightsOf(a[2]));
}

std::int64_t Brk(Process& process, const SyscallArguments& a) {
  return static_cast<std::int64_t>(process.memory().MoveHeapEnd(a[0]));
}

std::int64_t Mremap(Process& process, const SyscallArguments& a) {
  const std::uint64_t flags = a[3];
  if ((flags & ~std::uint64_t{MREMAP_MAYMOVE | MREMAP_FIXED}) != 0) return -EINVAL;
  const bool may_move = (flags & MREMAP_MAYMOVE) != 0;
  if ((flags & MREMAP_FIXED) != 0 && !may_move) return -EINVAL;
  return process.memory().Remap(a[0], a[1], a[2], may_move,
                                (flags & MREMAP_FIXED) != 0 ? std::optional(a[4]) : std::nullopt);
}

std::int64_t Madvise(Process& process, const SyscallArguments& a) {
  switch (a[2]) {
    case MADV_DONTNEED:
    case MADV_FREE:
      return process.memory().Discard(a[0], a[1]);
    case MADV_NORMAL:
    case MADV_RANDOM:
    case MADV_SEQUENTIAL:
    case MADV_WILLNEED:
    case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE:
    case MADV_DONTDUMP:
    case MADV_DODUMP:
    case MADV_DONTFORK:
    case MADV_DOFORK:
    case MADV_COLD:
    case MADV_PAGEOUT:
      return a[0] % kPageBytes == 0 ? 0 : -EINVAL;
    default:
      return -EINVAL;
  }
}

std::int64_t Msync(Process&, const SyscallArguments& a) {
  return a[0] % kPageBytes == 0 ? 0 : -EINVAL;
}

// Guest memory is as resident as the host decides.
std::int64_t Mlock(Process&, const SyscallArguments&) { return 0; }

std::int64_t Mincore(Process& process, const SyscallArguments& a) {
  const auto end = CheckedAdd(a[0], a[1]);
  if (a[0] % kPageBytes != 0) return -EINVAL;
  if (!end || *end > kUserEnd) return -ENOMEM;
  const std::array<std::byte, 512> ones = [] {
    std::array<std::byte, 512> bytes;
    bytes.fill(std::byte{1});
    return bytes;
  }();
  std::uint64_t left = (a[1] + kPageBytes - 1) / kPageBytes;
  for (std::uint64_t at = a[2]; left != 0;) {
    const std::size_t part = std::min<std::uint64_t>(left, ones.size());
    if (!process.memory().Write(at, {ones.data(), part})) return -EFAULT;
    at += part;
    left -= part;
  }
  return 0;
}

constexpr SyscallEntry kCalls[] = {
    {SYS_mmap, "mmap", Mmap, Support::kPartial,
     "file mappings are private copies; writable shared ones give ENODEV"},
    {SYS_munmap, "munmap", Munmap},
    {SYS_mprotect, "mprotect", Mprotect, Support::kPartial, "PROT_GROWSDOWN and PROT_GROWSUP"},
    {SYS_brk, "brk", Brk},
    {SYS_mremap, "mremap", Mremap, Support::kPartial, "MREMAP_DONTUNMAP and duplicating"},
    {SYS_madvise, "madvise", Madvise, Support::kPartial,
     "MADV_DONTNEED keeps the pages of files; unknown advice gives EINVAL"},
    {SYS_msync, "msync", Msync, Support::kPartial, "nothing is ever written back"},
    {SYS_mlock, "mlock", Mlock, Support::kPartial, "accepted, without effect"},
    {SYS_mlock2, "mlock2", Mlock, Support::kPartial, "accepted, without effect"},
    {SYS_munlock, "munlock", Mlock, Support::kPartial, "accepted, without effect"},
    {SYS_mlockall, "mlockall", Mlock, Support::kPartial, "accepted, without effect"},
    {SYS_munlockall, "munlockall", Mlock, Support::kPartial, "accepted, without effect"},
    {SYS_mincore, "mincore", Mincore, Support::kPartial, "says that every page is resident"},
};

}  // namespace

std::span<const SyscallEntry> MemoryCalls() { return kCalls; }

}  // namespace waxvm::linux_abi
