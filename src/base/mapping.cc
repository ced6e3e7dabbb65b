// SPDX-License-Identifier: Apache-2.0
#include "src/base/mapping.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdint>

#include "src/base/status.h"

namespace waxvm {

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  if (this != &other) {
    reset();
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

void Mapping::reset() {
  if (data_ != nullptr) ::munmap(data_, size_);
  data_ = nullptr;
  size_ = 0;
}

absl::StatusOr<Mapping> Mapping::Map(std::size_t size, int protection, int flags, int fd,
                                     off_t offset) {
  void* data = ::mmap(nullptr, size, protection, flags, fd, offset);
  if (data == MAP_FAILED) return ErrnoStatus(errno, absl::StrFormat("cannot map %d bytes", size));
  return Mapping(static_cast<std::byte*>(data), size);
}

absl::StatusOr<Mapping> Mapping::Reserve(std::size_t size, std::size_t alignment) {
  const std::size_t slack = size + alignment;
  if (slack < size) return InvalidArgument("cannot reserve %d bytes of memory", size);
  WAXVM_ASSIGN_OR_RETURN(Mapping whole, Map(slack, PROT_READ | PROT_WRITE,
                                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE));
  const auto start = reinterpret_cast<std::uintptr_t>(whole.data_);
  const std::size_t head = (alignment - start % alignment) % alignment;
  const std::size_t tail = slack - head - size;
  std::byte* data = whole.data_ + head;
  if (head != 0) ::munmap(whole.data_, head);
  if (tail != 0) ::munmap(data + size, tail);
  whole.data_ = nullptr;
  return Mapping(data, size);
}

}  // namespace waxvm
