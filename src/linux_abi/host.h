// SPDX-License-Identifier: Apache-2.0
// What the Linux personality needs from whoever runs it. provider_microvm implements it over a
// vCPU; tests and fuzzers implement it in plain memory.
#ifndef WAXVM_SRC_LINUX_ABI_HOST_H_
#define WAXVM_SRC_LINUX_ABI_HOST_H_

#include <poll.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "waxvm/provider.h"

namespace waxvm::linux_abi {

/// Rights of a page, as the bits of PROT_READ, PROT_WRITE and PROT_EXEC.
struct PageRights {
  bool read = false;
  bool write = false;
  bool execute = false;
  bool none() const { return !read && !write && !execute; }
  bool operator==(const PageRights&) const = default;
};

/// The pages of one guest address space. Addresses and sizes are multiples of the page size.
/// Every method may assume that ranges are in the user half and do not wrap.
class PageMapper {
 public:
  virtual ~PageMapper() = default;

  /// Makes every absent page of the range present: backed by a zeroed frame, with `rights`. Pages
  /// that are present already stay as they are. False when memory ran out: the pages done so far
  /// stay present.
  virtual bool Populate(std::uint64_t address, std::uint64_t bytes, PageRights rights) = 0;

  /// Changes the rights of the pages present in the range. No rights: the pages keep their
  /// contents but cannot be touched. When this returns the guest holds no more than `rights`.
  virtual void Protect(std::uint64_t address, std::uint64_t bytes, PageRights rights) = 0;

  /// Makes the range absent and frees its frames; their contents are gone.
  virtual void Unmap(std::uint64_t address, std::uint64_t bytes) = 0;

  /// Moves the pages present in [from, from+bytes) to `to`, whose range is absent.
  /// False when memory for page tables ran out; nothing has moved then.
  virtual bool Move(std::uint64_t from, std::uint64_t to, std::uint64_t bytes) = 0;

  /// True when the page at `address` is present.
  virtual bool IsPresent(std::uint64_t address) const = 0;

  /// Copies between host memory and present pages, whatever their rights (the caller has checked
  /// them), and returns the bytes copied before the first absent page.
  virtual std::size_t CopyFrom(std::uint64_t address, std::span<std::byte> to) const = 0;
  virtual std::size_t CopyTo(std::uint64_t address, std::span<const std::byte> from) = 0;

  /// Puts bytes at the `offset` of the range that Fill was given; returns how many, 0 for no more,
  /// or a negated errno.
  using PageReader =
      absl::FunctionRef<std::int64_t(std::span<std::byte> piece, std::uint64_t offset)>;
  /// Makes the absent pages of the range present and lets `read` write into them, piece after
  /// piece, with no copy in between. Returns the bytes it put there, its first error, or -ENOMEM;
  /// after an error some of the pages may be present.
  virtual std::int64_t Fill(std::uint64_t address, std::uint64_t bytes, PageRights rights,
                            PageReader read) = 0;

  /// A frame that is not tied to one address: it can be mapped in several places and lives until it
  /// is freed, which needs it to be mapped nowhere. Empty when memory ran out.
  using SharedFrame = std::uint64_t;
  virtual std::optional<SharedFrame> NewSharedFrame() = 0;
  virtual void FreeSharedFrame(SharedFrame frame) = 0;
  /// Maps it at `address`, which is absent or maps the same frame already. Unmap, Protect and Move
  /// work on such a page as on others. False when memory ran out.
  virtual bool MapShared(std::uint64_t address, SharedFrame frame, PageRights rights) = 0;
  /// The whole contents; kPageBytes.
  virtual void ReadShared(SharedFrame frame, std::span<std::byte> to) const = 0;
  virtual void WriteShared(SharedFrame frame, std::span<const std::byte> from) = 0;

  /// Takes back the frames of pages that were made present but never touched; such a page is
  /// absent again. Returns the bytes gained.
  virtual std::uint64_t ReclaimUntouched() = 0;

  /// Bytes of frames that can still be handed out.
  virtual std::uint64_t FreeBytes() const = 0;
};

/// What a thread of the guest has in its registers while it runs ring 3.
struct CpuRegisters {
  std::uint64_t rax = 0, rbx = 0, rcx = 0, rdx = 0, rsi = 0, rdi = 0, rbp = 0, rsp = 0;
  std::uint64_t r8 = 0, r9 = 0, r10 = 0, r11 = 0, r12 = 0, r13 = 0, r14 = 0, r15 = 0;
  std::uint64_t rip = 0;
  std::uint64_t rflags = 0x202;
  std::uint64_t fs_base = 0;
  std::uint64_t gs_base = 0;
};

/// Floating-point and vector registers in the standard format of XSAVE, as much of it as the
/// machine's XCR0 names. Spec: Intel SDM volume 1, section 13.4.
struct ExtendedState {
  static constexpr std::size_t kBytes = 4096;
  alignas(64) std::array<std::byte, kBytes> bytes{};
};

/// Everything else outside the guest.
class Host {
 public:
  virtual ~Host() = default;

  enum class OutputResult { kOk, kLimit, kFailed };
  /// Passes on what the guest wrote. kLimit: the output bound was met; what fitted was delivered.
  virtual OutputResult WriteOutput(Stream stream, std::string_view data) = 0;

  /// Waits until one of the host descriptors is ready or `timeout` (relative; empty: none) is
  /// over, as poll(2). Returns the number ready, 0 on timeout, or -EINTR when the run is being
  /// ended: the guest will not run again, so the caller just unwinds.
  virtual int Wait(std::span<pollfd> descriptors,
                   std::optional<std::chrono::nanoseconds> timeout) = 0;

  /// The registers of the thread that the vCPU holds. After a system call rax is its number.
  virtual CpuRegisters Registers() = 0;
  /// Replaces them; the guest goes on with exactly these.
  virtual void SetRegisters(const CpuRegisters& registers) = 0;
  virtual void SaveExtended(ExtendedState& state) = 0;
  /// False when the machine does not take it (a guest can make it up): nothing has changed then.
  virtual bool LoadExtended(const ExtendedState& state) = 0;
  /// XCR0, and the bytes of ExtendedState that it stands for.
  virtual std::uint64_t ExtendedFeatures() = 0;
  virtual std::size_t ExtendedBytes() = 0;
  /// False while the vCPU stands inside one of the machine's own ring-0 stubs, where its registers
  /// are nobody's: the thread cannot be changed before the next exit.
  virtual bool AtUserMode() = 0;

  /// The clock that timeouts and timers run on; never goes back, unrelated to any grant.
  virtual std::chrono::nanoseconds Now() = 0;
  /// Interrupts the guest at that time of Now(), or soon after it; empty: not at all.
  virtual void InterruptAt(std::optional<std::chrono::nanoseconds> when) = 0;

  /// What gettid answers without leaving the guest.
  virtual void SetThreadId(std::int32_t id) = 0;

  /// CPU time the guest has used.
  virtual std::chrono::nanoseconds CpuTime() = 0;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_HOST_H_
