// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_BASE_MEMORY_ACCOUNT_H_
#define WAXVM_SRC_BASE_MEMORY_ACCOUNT_H_

#include <algorithm>
#include <cstdint>
#include <utility>

namespace waxvm {

/// Counts bytes held for one instance, guest frames and host-side objects alike, against one
/// bound, so that a guest cannot make the host hold more by hiding it in files, pipes or
/// descriptors. Thread safety: none; used by the instance's thread.
class MemoryAccount {
 public:
  explicit MemoryAccount(std::uint64_t limit_bytes) : limit_bytes_(limit_bytes) {}

  /// Charges `bytes`; false (and nothing charged) when that would pass the limit.
  [[nodiscard]] bool Charge(std::uint64_t bytes) {
    if (bytes > limit_bytes_ - used_bytes_) {
      refused_ = true;
      return false;
    }
    used_bytes_ += bytes;
    peak_bytes_ = std::max(peak_bytes_, used_bytes_);
    return true;
  }
  void Release(std::uint64_t bytes) { used_bytes_ -= std::min(bytes, used_bytes_); }

  std::uint64_t limit_bytes() const { return limit_bytes_; }
  std::uint64_t used_bytes() const { return used_bytes_; }
  std::uint64_t peak_bytes() const { return peak_bytes_; }
  std::uint64_t free_bytes() const { return limit_bytes_ - used_bytes_; }
  /// Forgets what was held at most, and what was refused.
  void RestartPeak() {
    peak_bytes_ = used_bytes_;
    refused_ = false;
  }
  /// True if a charge was refused since the last call.
  bool TakeRefused() { return std::exchange(refused_, false); }

 private:
  std::uint64_t limit_bytes_;
  std::uint64_t used_bytes_ = 0;
  std::uint64_t peak_bytes_ = 0;
  bool refused_ = false;
};

/// Charges an account for as long as it lives. Move-only.
class MemoryCharge {
 public:
  MemoryCharge() = default;
  MemoryCharge(MemoryCharge&& other) noexcept
      : account_(std::exchange(other.account_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  MemoryCharge& operator=(MemoryCharge&& other) noexcept {
    if (this != &other) {
      Reset();
      account_ = std::exchange(other.account_, nullptr);
      bytes_ = std::exchange(other.bytes_, 0);
    }
    return *this;
  }
  MemoryCharge(const MemoryCharge&) = delete;
  MemoryCharge& operator=(const MemoryCharge&) = delete;
  ~MemoryCharge() { Reset(); }

  /// Replaces what is charged by `bytes` of `account`; false (and unchanged) when refused.
  [[nodiscard]] bool Resize(MemoryAccount& account, std::uint64_t bytes) {
    if (bytes > bytes_) {
      if (!account.Charge(bytes - bytes_)) return false;
    } else {
      account.Release(bytes_ - bytes);
    }
    account_ = &account;
    bytes_ = bytes;
    return true;
  }
  std::uint64_t bytes() const { return bytes_; }
  void Reset() {
    if (account_ != nullptr) account_->Release(bytes_);
    account_ = nullptr;
    bytes_ = 0;
  }

 private:
  MemoryAccount* account_ = nullptr;
  std::uint64_t bytes_ = 0;
};

}  // namespace waxvm

#endif  // WAXVM_SRC_BASE_MEMORY_ACCOUNT_H_
