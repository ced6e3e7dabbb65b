// SPDX-License-Identifier: Apache-2.0
// A machine at one moment, as the part of a snapshot file that is the machine's.
#ifndef WAXVM_SRC_VMM_SAVED_IMAGE_H_
#define WAXVM_SRC_VMM_SAVED_IMAGE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "src/base/mapping.h"
#include "src/base/unique_fd.h"
#include "src/vmm/machine.h"

namespace waxvm::vmm {

/// Adjacent pages that are in a file.
struct PageRun {
  std::uint64_t first = 0;  ///< frame, in bytes
  std::uint64_t pages = 0;
};

/// What a file has of a machine beside its pages. The special registers, the tables' frames and the
/// machine's own pages are not in it: whoever loads it makes them.
struct SavedMachine {
  std::uint64_t bytes = 0;  ///< of physical memory, pages that are not in the file included
  std::uint64_t root = 0;   ///< frame of the root of the page tables
  std::uint64_t charged_bytes = 0;
  std::vector<std::uint64_t> free_small = {};
  std::vector<std::uint64_t> free_large = {};
  std::array<std::uint64_t, 18> general{};  ///< rax … r15, rip, rflags, in the order of kvm_regs
  std::uint64_t fs_base = 0;
  std::uint64_t gs_base = 0;
  std::array<std::byte, kvm::Vcpu::kExtendedBytes> extended{};
  std::vector<PageRun> runs = {};  ///< in order, as their pages follow each other in the file
};
template <typename Archive>
void Transfer(Archive& archive, PageRun& run) {
  archive(run.first, run.pages);
}
template <typename Archive>
void Transfer(Archive& archive, SavedMachine& saved) {
  archive(saved.bytes, saved.root, saved.charged_bytes, saved.free_small, saved.free_large,
          saved.general, saved.fs_base, saved.gs_base, saved.extended, saved.runs);
}

/// What `image` is in a file; its runs are those pages that are not zero, without what is free and
/// without the machine's own.
SavedMachine SaveMachine(const MachineImage& image);

/// The sealed file of pages that a saved machine is loaded into. Thread safety: none.
class MachineLoader {
 public:
  /// Errors: kDataLoss for what no machine can be, kResourceExhausted.
  static absl::StatusOr<MachineLoader> Create(SavedMachine saved, std::uint64_t limit_bytes);

  /// Puts bytes of the runs where they belong, before Finish. Errors: as ErrnoStatus.
  absl::Status Put(std::uint64_t address, std::span<const std::byte> bytes);
  const SavedMachine& saved() const { return saved_; }

  /// A page of the program's that the tables map.
  struct Leaf {
    GuestVirtual address = 0;
    GuestPhysical frame = 0;
    std::uint64_t bytes = 0;
    bool shared = false;  ///< a frame that several addresses may have
  };
  using CheckLeaf = absl::FunctionRef<bool(const Leaf& leaf)>;

  /// The machine: its tables are walked, and hold nothing that those of a running machine could
  /// not; its own pages are written anew. `check` decides about each of the program's pages.
  /// `answers`: what the stub answers. Errors: kDataLoss.
  absl::StatusOr<std::shared_ptr<const MachineImage>> Finish(const HostTraits& traits,
                                                             const MachineOptions& options,
                                                             std::span<const GuestPhysical> shared,
                                                             CheckLeaf check) &&;

 private:
  MachineLoader(SavedMachine saved, UniqueFd file, Mapping memory)
      : saved_(std::move(saved)), file_(std::move(file)), memory_(std::move(memory)) {}

  SavedMachine saved_;
  UniqueFd file_;
  Mapping memory_;
};

}  // namespace waxvm::vmm

#endif  // WAXVM_SRC_VMM_SAVED_IMAGE_H_
