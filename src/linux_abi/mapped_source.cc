// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/mapped_source.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "src/image/program_rep.h"

namespace waxvm::linux_abi {

std::int64_t ProgramSource::PRead(std::span<std::byte> to, std::uint64_t offset) {
  const std::span<const std::byte> bytes = program_.rep().bytes();
  if (offset >= bytes.size()) return 0;
  const std::size_t count = std::min<std::size_t>(to.size(), bytes.size() - offset);
  std::memcpy(to.data(), bytes.data() + offset, count);
  return static_cast<std::int64_t>(count);
}

std::int64_t ProgramSource::PWrite(std::span<const std::byte>, std::uint64_t) { return -EROFS; }

std::int64_t ProgramSource::Size() const {
  return static_cast<std::int64_t>(program_.rep().bytes().size());
}

std::int64_t FileSource::PRead(std::span<std::byte> to, std::uint64_t offset) {
  return file_->PRead(to, offset);
}

std::int64_t FileSource::PWrite(std::span<const std::byte> from, std::uint64_t offset) {
  return file_->PWrite(from, offset);
}

std::int64_t FileSource::Size() const {
  struct stat status {};
  const std::int64_t result = file_->Stat(status);
  return result < 0 ? result : status.st_size;
}

}  // namespace waxvm::linux_abi
