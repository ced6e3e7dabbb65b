// SPDX-License-Identifier: Apache-2.0
// What the Linux personality needs from whoever runs it. provider_microvm implements it over a
// vCPU; tests and fuzzers implement it in plain memory.
#ifndef WAXVM_SRC_LINUX_ABI_HOST_H_
#define WAXVM_SRC_LINUX_ABI_HOST_H_

#include <poll.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

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

  /// Takes back the frames of pages that were made present but never touched; such a page is
  /// absent again. Returns the bytes gained.
  virtual std::uint64_t ReclaimUntouched() = 0;

  /// Bytes of frames that can still be handed out.
  virtual std::uint64_t FreeBytes() const = 0;
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

  /// The clock that timeouts and timers run on; never goes back, unrelated to any grant.
  virtual std::chrono::nanoseconds Now() {
    return std::chrono::steady_clock::now().time_since_epoch();
  }

  /// The guest thread's FS and GS base.
  virtual void SetFsBase(std::uint64_t address) = 0;
  virtual std::uint64_t FsBase() = 0;
  virtual void SetGsBase(std::uint64_t address) = 0;
  virtual std::uint64_t GsBase() = 0;

  /// CPU time the guest has used.
  virtual std::chrono::nanoseconds CpuTime() = 0;
};

}  // namespace waxvm::linux_abi

#endif  // WAXVM_SRC_LINUX_ABI_HOST_H_
