// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/vfs/program_file.h"

#include <linux/magic.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "src/image/program_rep.h"

namespace waxvm::linux_abi {

std::span<const std::byte> ProgramFile::bytes() const {
  return context_.spec.program.rep().bytes();
}

std::int64_t ProgramFile::PRead(std::span<std::byte> to, std::uint64_t offset) {
  const std::span<const std::byte> from = bytes();
  if (offset >= from.size()) return 0;
  const std::size_t count = std::min<std::size_t>(to.size(), from.size() - offset);
  std::copy_n(from.data() + offset, count, to.data());
  return static_cast<std::int64_t>(count);
}

std::int64_t ProgramFile::Stat(struct stat& status) const {
  status = {};
  status.st_ino = inode_;
  status.st_mode = S_IFREG | 0555;
  status.st_nlink = 1;
  status.st_size = Size();
  status.st_blksize = kPageBytes;
  status.st_blocks = (Size() + 511) / 512;
  return 0;
}

std::int64_t ProgramFile::StatFs(struct statfs& status) const {
  status = {};
  status.f_type = TMPFS_MAGIC;
  status.f_bsize = status.f_frsize = kPageBytes;
  status.f_namelen = 255;
  return 0;
}

ErrnoOr<std::shared_ptr<OpenFile>> ProgramFile::Reopen(int flags) {
  if ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0) return Errno{ETXTBSY};
  return std::shared_ptr<OpenFile>(std::make_shared<ProgramFile>(context_, path_, inode_, flags));
}

}  // namespace waxvm::linux_abi
