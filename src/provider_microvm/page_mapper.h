// SPDX-License-Identifier: Apache-2.0
// Joins the personality's view of pages with the machine's: the same words, two modules.
#ifndef WAXVM_SRC_PROVIDER_MICROVM_PAGE_MAPPER_H_
#define WAXVM_SRC_PROVIDER_MICROVM_PAGE_MAPPER_H_

#include <cerrno>

#include "src/linux_abi/host.h"
#include "src/vmm/machine.h"

namespace waxvm::microvm {

class MachinePages final : public linux_abi::PageMapper {
 public:
  explicit MachinePages(vmm::Machine& machine) : machine_(machine) {}

  bool Populate(std::uint64_t address, std::uint64_t bytes, linux_abi::PageRights rights) override {
    return machine_.pages().Populate(address, bytes, Access(rights));
  }
  void Protect(std::uint64_t address, std::uint64_t bytes, linux_abi::PageRights rights) override {
    machine_.pages().Protect(address, bytes, Access(rights));
  }
  void Unmap(std::uint64_t address, std::uint64_t bytes) override {
    machine_.pages().Unmap(address, bytes);
  }
  bool Move(std::uint64_t from, std::uint64_t to, std::uint64_t bytes) override {
    return machine_.pages().Move(from, to, bytes);
  }
  bool IsPresent(std::uint64_t address) const override {
    return machine_.pages().IsPresent(address);
  }
  std::size_t CopyFrom(std::uint64_t address, std::span<std::byte> to) const override {
    return machine_.pages().CopyFrom(address, to);
  }
  std::size_t CopyTo(std::uint64_t address, std::span<const std::byte> from) override {
    return machine_.pages().CopyTo(address, from);
  }
  std::int64_t Fill(std::uint64_t address, std::uint64_t bytes, linux_abi::PageRights rights,
                    PageReader read) override {
    if (!machine_.pages().Populate(address, bytes, Access(rights))) return -ENOMEM;
    return machine_.pages().Fill(address, bytes, read);
  }
  std::optional<SharedFrame> NewSharedFrame() override { return machine_.memory().AllocateFrame(); }
  void FreeSharedFrame(SharedFrame frame) override { machine_.memory().FreeFrames(frame, 1); }
  bool MapShared(std::uint64_t address, SharedFrame frame, linux_abi::PageRights rights) override {
    return machine_.pages().MapShared(address, frame, Access(rights));
  }
  void ReadShared(SharedFrame frame, std::span<std::byte> to) const override {
    machine_.memory().Read(frame, to);
  }
  void WriteShared(SharedFrame frame, std::span<const std::byte> from) override {
    machine_.memory().Write(frame, from);
  }
  std::uint64_t ReclaimUntouched() override { return machine_.pages().ReclaimUntouched(); }
  std::uint64_t FreeBytes() const override { return machine_.memory().FreeBytes(); }

 private:
  static vmm::PageAccess Access(linux_abi::PageRights rights) {
    return {.read = rights.read, .write = rights.write, .execute = rights.execute};
  }

  vmm::Machine& machine_;
};

}  // namespace waxvm::microvm

#endif  // WAXVM_SRC_PROVIDER_MICROVM_PAGE_MAPPER_H_
