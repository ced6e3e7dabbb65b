// SPDX-License-Identifier: Apache-2.0
#include "src/coap/timer_wheel.h"

#include <algorithm>
#include <bit>

namespace waxvm::coap {

TimerWheel::TimerWheel() {
  for (Timer& head : heads_) head.next = head.prev = &head;
}

void TimerWheel::Set(Timer& timer, std::uint64_t tick) {
  Cancel(timer);
  timer.tick = tick;
  Link(timer);
}

void TimerWheel::Link(Timer& timer) {
  const std::uint64_t delta = timer.tick > now_ ? timer.tick - now_ : 0;
  if (delta == 0) return Append(kDue, timer);
  for (std::size_t level = 0; level < kLevels; ++level) {
    const auto shift = static_cast<unsigned>(kBits * level);
    if (delta >> shift < kSlots)
      return Append(level * kSlots + (timer.tick >> shift) % kSlots, timer);
  }
  // Farther than the wheel reaches: looked at again when its last slot comes round.
  constexpr unsigned kShift = kBits * (kLevels - 1);
  Append((kLevels - 1) * kSlots + ((now_ >> kShift) + kSlots - 1) % kSlots, timer);
}

void TimerWheel::Append(std::size_t slot, Timer& timer) {
  Timer& head = heads_[slot];
  timer.next = &head;
  timer.prev = head.prev;
  head.prev->next = &timer;
  head.prev = &timer;
  occupied_[slot / kSlots] |= std::uint64_t{1} << slot % kSlots;
}

void TimerWheel::Unlink(Timer& timer) {
  timer.prev->next = timer.next;
  timer.next->prev = timer.prev;
  if (timer.next == timer.prev) {
    // Both neighbours are the slot's head: it was the only one.
    const auto slot = static_cast<std::size_t>(timer.next - heads_.data());
    occupied_[slot / kSlots] &= ~(std::uint64_t{1} << slot % kSlots);
  }
  timer.next = timer.prev = nullptr;
}

std::uint64_t TimerWheel::NextOf(std::size_t level) const {
  if (occupied_[level] == 0) return kNever;
  const auto shift = static_cast<unsigned>(kBits * level);
  const std::uint64_t at = (now_ >> shift) + 1;
  const int distance = std::countr_zero(std::rotr(occupied_[level], static_cast<int>(at % kSlots)));
  return (at + static_cast<std::uint64_t>(distance)) << shift;
}

std::uint64_t TimerWheel::NextTick() const {
  if (occupied_[kLevels] != 0) return now_;
  std::uint64_t next = kNever;
  for (std::size_t level = 0; level < kLevels; ++level) next = std::min(next, NextOf(level));
  return next;
}

void TimerWheel::Empty(std::size_t slot) {
  Timer& head = heads_[slot];
  if (head.next == &head) return;
  // Taken off as a whole first: one that waits beyond the wheel's reach may go back to this slot.
  Timer* timer = head.next;
  head.prev->next = nullptr;
  head.next = head.prev = &head;
  occupied_[slot / kSlots] &= ~(std::uint64_t{1} << slot % kSlots);
  while (timer != nullptr) {
    Timer* const next = timer->next;
    Link(*timer);
    timer = next;
  }
}

void TimerWheel::Arrive() {
  for (std::size_t level = kLevels; level-- > 0;) {
    const auto shift = static_cast<unsigned>(kBits * level);
    if ((now_ & ((std::uint64_t{1} << shift) - 1)) != 0) continue;
    Empty(level * kSlots + (now_ >> shift) % kSlots);
  }
}

Timer* TimerWheel::PopDue(std::uint64_t tick) {
  while (true) {
    if (Timer& head = heads_[kDue]; head.next != &head) {
      Timer* const timer = head.next;
      Unlink(*timer);
      return timer;
    }
    const std::uint64_t next = NextTick();
    if (next > tick) {
      now_ = std::max(now_, tick);
      return nullptr;
    }
    now_ = next;
    Arrive();
  }
}

}  // namespace waxvm::coap
