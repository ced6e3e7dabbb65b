// SPDX-License-Identifier: Apache-2.0
// Memory of tables that are looked into at random.
#ifndef WAXVM_SRC_COAP_TABLE_MEMORY_H_
#define WAXVM_SRC_COAP_TABLE_MEMORY_H_

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>

namespace waxvm::coap {

/// Frees what AllocateTable gave.
struct FreeTable {
  void operator()(void* memory) const { std::free(memory); }
};

/// Uninitialised; null where there is not so much. A large table is put into huge pages, where the
/// host has some left: at thousands of peers, half of the time that a look takes is spent on
/// finding the page. What is never touched costs address space alone, by the page.
inline void* AllocateTable(std::size_t bytes) {
  constexpr std::size_t kLine = 64;
  constexpr std::size_t kHugePage = std::size_t{2} << 20;
  constexpr std::size_t kLarge = kHugePage / 4;
  const std::size_t alignment = bytes >= kLarge ? kHugePage : kLine;
  const std::size_t whole = (bytes + alignment - 1) / alignment * alignment;
  if (whole < bytes) return nullptr;
  void* const memory = std::aligned_alloc(alignment, whole);
  if (memory != nullptr && alignment == kHugePage) madvise(memory, whole, MADV_HUGEPAGE);
  return memory;
}

}  // namespace waxvm::coap

#endif  // WAXVM_SRC_COAP_TABLE_MEMORY_H_
