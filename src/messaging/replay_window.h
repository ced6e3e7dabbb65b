// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_MESSAGING_REPLAY_WINDOW_H_
#define WAXVM_SRC_MESSAGING_REPLAY_WINDOW_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace waxvm::messaging {

/// Which of the last kBits sequences came. Thread safety: none.
class ReplayWindow {
 public:
  static constexpr std::uint64_t kBits = 1'024;
  enum class Verdict { kNew, kSeen, kTooOld };

  Verdict Look(std::uint64_t sequence) const {
    if (empty_ || sequence > top_) return Verdict::kNew;
    if (top_ - sequence >= kBits) return Verdict::kTooOld;
    return (WordOf(sequence) >> (sequence % 64) & 1) != 0 ? Verdict::kSeen : Verdict::kNew;
  }

  /// After Look said kNew.
  void Set(std::uint64_t sequence) {
    if (empty_ || (sequence > top_ && sequence - top_ >= kBits))
      bits_ = {};
    else
      for (std::uint64_t i = top_; i < sequence;) Clear(++i);
    if (empty_ || sequence > top_) top_ = sequence;
    empty_ = false;
    bits_[Index(sequence)] |= std::uint64_t{1} << (sequence % 64);
  }

  template <class Archive>
  friend void Transfer(Archive& archive, ReplayWindow& window) {
    archive(window.top_, window.empty_, window.bits_);
  }

 private:
  static std::size_t Index(std::uint64_t sequence) {
    return static_cast<std::size_t>(sequence / 64 % (kBits / 64));
  }
  std::uint64_t WordOf(std::uint64_t sequence) const { return bits_[Index(sequence)]; }
  void Clear(std::uint64_t sequence) {
    bits_[Index(sequence)] &= ~(std::uint64_t{1} << (sequence % 64));
  }

  std::uint64_t top_ = 0;
  bool empty_ = true;
  std::array<std::uint64_t, kBits / 64> bits_ = {};
};

}  // namespace waxvm::messaging

#endif  // WAXVM_SRC_MESSAGING_REPLAY_WINDOW_H_
