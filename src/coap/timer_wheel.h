// SPDX-License-Identifier: Apache-2.0
// Timers that cost a few instructions to set and to cancel.
#ifndef WAXVM_SRC_COAP_TIMER_WHEEL_H_
#define WAXVM_SRC_COAP_TIMER_WHEEL_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace waxvm::coap {

/// Part of what it belongs to, which must not move while it is set.
struct Timer {
  Timer* next = nullptr;  ///< null: not set
  Timer* prev = nullptr;
  std::uint64_t tick = 0;
  std::uint32_t kind = 0;  ///< the owner's, as is `index`
  std::uint32_t index = 0;

  bool is_set() const { return next != nullptr; }
};

/// Four levels of 64 slots; a timer moves to a lower level at most three times. Later timers than
/// the levels reach wait in the last one.
/// Thread safety: none.
class TimerWheel {
 public:
  TimerWheel();
  TimerWheel(const TimerWheel&) = delete;
  TimerWheel& operator=(const TimerWheel&) = delete;

  /// Sets it, or sets it anew. A tick that has passed is due at the next one.
  void Set(Timer& timer, std::uint64_t tick);
  void Cancel(Timer& timer) {
    if (timer.is_set()) Unlink(timer);
  }
  /// The next timer with a tick of at most `tick`, no longer set; null: there is none. Ticks come
  /// in their order. To be called until null: other timers may be set and cancelled in between.
  Timer* PopDue(std::uint64_t tick);

  static constexpr std::uint64_t kNever = ~std::uint64_t{0};
  /// When PopDue is to be called next: no later than the next timer's tick.
  std::uint64_t NextTick() const;

 private:
  static constexpr std::size_t kLevels = 4;
  static constexpr unsigned kBits = 6;
  static constexpr std::size_t kSlots = std::size_t{1} << kBits;
  static constexpr std::size_t kDue = kLevels * kSlots;  ///< the slot of those that are due

  void Link(Timer& timer);
  void Append(std::size_t slot, Timer& timer);
  void Unlink(Timer& timer);
  /// The tick at which the level's next occupied slot is reached; kNever: none is occupied.
  std::uint64_t NextOf(std::size_t level) const;
  /// Moves what the slots of this tick hold: to lower levels, and to the due ones.
  void Arrive();
  void Empty(std::size_t slot);

  std::uint64_t now_ = 0;
  std::array<Timer, kDue + 1> heads_;
  std::array<std::uint64_t, kLevels + 1> occupied_{};
};

}  // namespace waxvm::coap

#endif  // WAXVM_SRC_COAP_TIMER_WHEEL_H_
