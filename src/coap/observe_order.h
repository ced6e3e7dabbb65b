// SPDX-License-Identifier: Apache-2.0
// In which order notifications were sent, whatever order they come in.
#ifndef WAXVM_SRC_COAP_OBSERVE_ORDER_H_
#define WAXVM_SRC_COAP_OBSERVE_ORDER_H_

#include <chrono>
#include <cstdint>
#include <optional>

namespace waxvm::coap {

/// The Observe option of requests.
inline constexpr std::uint32_t kObserveRegister = 0;
inline constexpr std::uint32_t kObserveDeregister = 1;
inline constexpr std::uint32_t kObserveMask = 0xffffff;

/// Whether a notification with `number` that came at `now` is fresher than one with `last` that
/// came at `then`. Spec: RFC 7641 section 3.4.
constexpr bool IsFresher(std::uint32_t number, std::chrono::steady_clock::time_point now,
                         std::uint32_t last, std::chrono::steady_clock::time_point then) {
  constexpr std::uint32_t kHalf = 1u << 23;
  if (last < number && number - last < kHalf) return true;
  if (last > number && last - number > kHalf) return true;
  return now - then > std::chrono::seconds(128);
}

/// Follows the notifications of one observation.
/// Thread safety: none; distinct objects may be used from distinct threads.
class ObserveOrder {
 public:
  /// True: it is the freshest so far, and what follows is compared with it.
  bool Accept(std::uint32_t number, std::chrono::steady_clock::time_point now) {
    number &= kObserveMask;
    if (last_ && !IsFresher(number, now, *last_, then_)) return false;
    last_ = number;
    then_ = now;
    return true;
  }
  void Reset() { last_.reset(); }

 private:
  std::optional<std::uint32_t> last_;
  std::chrono::steady_clock::time_point then_;
};

}  // namespace waxvm::coap

#endif  // WAXVM_SRC_COAP_OBSERVE_ORDER_H_
