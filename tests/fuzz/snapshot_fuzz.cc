// SPDX-License-Identifier: Apache-2.0
// What a snapshot file holds, behind its checksums: whoever forges one forges them, too. The first
// byte says which section follows. A process that is made from a forged state stays within its
// memory limit and gives everything back; a machine's page tables lead nowhere but to frames that
// are its own, once each.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <set>
#include <span>
#include <vector>

#include "src/base/byte_archive.h"
#include "src/linux_abi/image_codec.h"
#include "src/linux_abi/testing/fake_process.h"
#include "src/vmm/saved_image.h"

namespace waxvm {
namespace {

constexpr std::uint64_t kMemoryBytes = std::uint64_t{8} << 20;
constexpr std::uint64_t kFeatures = 7;

void Require(bool condition) {
  if (!condition) __builtin_trap();
}

void PlayState(std::span<const std::byte> bytes) {
  linux_abi::FakeProcess fake(kMemoryBytes);
  const auto image = linux_abi::DecodeImage(bytes, fake.spec, kFeatures);
  if (!image.ok()) return;
  {
    auto process =
        linux_abi::Process::CreateFrom(*image, fake.spec, fake.pages, fake.host, fake.account);
    Require(fake.account.used_bytes() <= kMemoryBytes);
    if (process.ok()) {
      static_cast<void>((*process)->CompleteHostCall(std::string("reply")));
      for (int i = 0; i < 4 && !(*process)->ending(); ++i) {
        fake.host.now += std::chrono::milliseconds(5);
        (*process)->Tick();
        if (!(*process)->ending() && (*process)->thread().asleep) break;
      }
    }
  }
  Require(fake.account.used_bytes() <= fake.pages.page_count() * kPageBytes);
}

void PlayMachine(std::span<const std::byte> bytes) {
  if (bytes.size() < 8) return;
  std::uint64_t length;
  std::memcpy(&length, bytes.data(), sizeof length);
  bytes = bytes.subspan(sizeof length);
  if (length > bytes.size()) return;
  ByteReader reader(bytes.first(length));
  vmm::SavedMachine saved;
  reader(saved);
  if (!reader.ok() || !reader.at_end()) return;
  std::span<const std::byte> pages = bytes.subspan(length);
  auto loader = vmm::MachineLoader::Create(std::move(saved), kMemoryBytes);
  if (!loader.ok()) return;
  for (const vmm::PageRun& run : loader->saved().runs) {
    const std::uint64_t run_bytes = run.pages * kPageBytes;
    if (pages.size() < run_bytes || !loader->Put(run.first, pages.first(run_bytes)).ok()) return;
    pages = pages.subspan(run_bytes);
  }
  std::set<std::uint64_t> frames;
  vmm::HostTraits traits;
  const auto image = std::move(*loader).Finish(traits, {}, {}, [&](const auto& leaf) {
    for (std::uint64_t at = leaf.frame; at < leaf.frame + leaf.bytes; at += kPageBytes)
      Require(frames.insert(at).second);
    return true;
  });
  if (!image.ok()) return;
  for (const std::uint64_t table : (*image)->tables) Require(!frames.contains(table));
  Require(!frames.contains((*image)->frames.stub) && !frames.contains((*image)->frames.stack));
  for (const std::uint64_t frame : (*image)->memory->free_small) Require(!frames.contains(frame));
}

}  // namespace
}  // namespace waxvm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data + 1), size - 1);
  if (data[0] % 2 == 0) {
    waxvm::PlayState(bytes);
  } else {
    waxvm::PlayMachine(bytes);
  }
  return 0;
}
