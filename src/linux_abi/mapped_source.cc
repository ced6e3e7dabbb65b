// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/mapped_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_format.h"
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

std::shared_ptr<MappedSource> FileSource::Freeze() {
  if (const int file = file_->host_descriptor(); file >= 0)
    return DescriptorSource::Duplicate(file, *this);
  return nullptr;
}

std::int64_t FileSource::Size() const {
  struct stat status {};
  const std::int64_t result = file_->Stat(status);
  return result < 0 ? result : status.st_size;
}

std::shared_ptr<MappedSource> DescriptorSource::Duplicate(int file, const MappedSource& of) {
  // An open file of its own: a lock that the program holds goes with the program's.
  UniqueFd copy(::open(absl::StrFormat("/proc/self/fd/%d", file).c_str(), O_RDONLY | O_CLOEXEC));
  if (!copy) return nullptr;
  return std::make_shared<DescriptorSource>(std::move(copy), of.identity(), of.path());
}

std::int64_t DescriptorSource::PRead(std::span<std::byte> to, std::uint64_t offset) {
  const ssize_t got = ::pread(file_.get(), to.data(), to.size(), static_cast<off_t>(offset));
  return got < 0 ? -errno : got;
}

std::int64_t DescriptorSource::PWrite(std::span<const std::byte>, std::uint64_t) { return -EROFS; }

std::int64_t DescriptorSource::Size() const {
  struct stat status {};
  return ::fstat(file_.get(), &status) != 0 ? -errno : status.st_size;
}

std::int64_t BytesSource::PRead(std::span<std::byte> to, std::uint64_t offset) {
  if (offset >= bytes_->size()) return 0;
  const std::size_t count = std::min<std::size_t>(to.size(), bytes_->size() - offset);
  std::memcpy(to.data(), bytes_->data() + offset, count);
  return static_cast<std::int64_t>(count);
}

std::int64_t BytesSource::PWrite(std::span<const std::byte>, std::uint64_t) { return -EROFS; }

std::int64_t BytesSource::Size() const { return static_cast<std::int64_t>(bytes_->size()); }

}  // namespace waxvm::linux_abi
