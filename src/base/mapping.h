// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_BASE_MAPPING_H_
#define WAXVM_SRC_BASE_MAPPING_H_

#include <sys/types.h>

#include <cstddef>
#include <utility>

#include "absl/status/statusor.h"

namespace waxvm {

/// Owns one mmap()ed range of the host process and unmaps it. Move-only.
/// Thread safety: none for the object; the memory is the caller's to share.
class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { reset(); }

  /// mmap() with the given arguments. Units: bytes. Errors: as ErrnoStatus of mmap.
  static absl::StatusOr<Mapping> Map(std::size_t size, int protection, int flags, int fd = -1,
                                     off_t offset = 0);
  /// Private zeroed memory, reserved but not backed until it is touched. `alignment` is a power
  /// of two and a multiple of the page size.
  static absl::StatusOr<Mapping> Reserve(std::size_t size, std::size_t alignment);

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  bool valid() const { return data_ != nullptr; }
  void reset();

 private:
  Mapping(std::byte* data, std::size_t size) : data_(data), size_(size) {}

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace waxvm

#endif  // WAXVM_SRC_BASE_MAPPING_H_
