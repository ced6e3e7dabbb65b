// SPDX-License-Identifier: Apache-2.0
// Equal pieces of memory, all taken at the start, known by their index.
#ifndef WAXVM_SRC_COAP_SLAB_H_
#define WAXVM_SRC_COAP_SLAB_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>

#include "src/coap/table_memory.h"

namespace waxvm::coap {

/// No index, and the end of a list.
inline constexpr std::uint32_t kNil = 0xffffffff;

/// Pieces that were never used are not touched.
/// T has a member `std::uint32_t next`, by which the free ones are chained; whatever else it holds
/// stays as it was until it is taken again.
/// Thread safety: none.
template <typename T>
class Slab {
 public:
  static_assert(std::is_trivially_destructible_v<T>);

  /// Valid is false where there is not so much memory.
  explicit Slab(std::size_t capacity)
      : memory_(static_cast<std::byte*>(AllocateTable(capacity * sizeof(T)))),
        capacity_(static_cast<std::uint32_t>(capacity)) {}

  bool valid() const { return memory_ != nullptr; }
  /// kNil: all are taken.
  std::uint32_t Take() {
    std::uint32_t index = free_;
    if (index != kNil) {
      free_ = (*this)[index].next;
    } else {
      if (fresh_ == capacity_) return kNil;
      index = fresh_++;
      new (memory_.get() + std::size_t{index} * sizeof(T)) T();
    }
    ++used_;
    return index;
  }
  void Give(std::uint32_t index) {
    (*this)[index].next = free_;
    free_ = index;
    --used_;
  }

  T& operator[](std::uint32_t index) {
    return *std::launder(reinterpret_cast<T*>(memory_.get() + std::size_t{index} * sizeof(T)));
  }
  const T& operator[](std::uint32_t index) const { return const_cast<Slab&>(*this)[index]; }

  std::size_t used() const { return used_; }
  std::size_t capacity() const { return capacity_; }
  bool full() const { return used_ == capacity_; }
  /// One behind the highest index that was ever taken.
  std::uint32_t touched() const { return fresh_; }
  std::size_t memory_bytes() const { return std::size_t{capacity_} * sizeof(T); }

 private:
  std::unique_ptr<std::byte[], FreeTable> memory_;
  std::uint32_t capacity_;
  std::uint32_t fresh_ = 0;
  std::uint32_t free_ = kNil;
  std::uint32_t used_ = 0;
};

}  // namespace waxvm::coap

#endif  // WAXVM_SRC_COAP_SLAB_H_
