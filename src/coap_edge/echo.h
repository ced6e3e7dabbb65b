// SPDX-License-Identifier: Apache-2.0
// Proof that a client receives at the address that it sends from.
#ifndef WAXVM_SRC_COAP_EDGE_ECHO_H_
#define WAXVM_SRC_COAP_EDGE_ECHO_H_

#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "waxvm/socket_address.h"

namespace waxvm::coap::edge {

/// Makes and checks values of Echo without keeping any: the time, and a keyed hash of it and of the
/// peer. Thread safety: may be used from any number of threads at once.
/// Spec: RFC 9175 section 2.3 and appendix A, item 2.
class EchoIssuer {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  static constexpr std::size_t kKeyBytes = 16;
  static constexpr std::size_t kValueBytes = 12;

  /// `key`: random, of this process; values of another one are not accepted. `lifetime` is at most
  /// 49 days.
  EchoIssuer(const std::array<std::uint8_t, kKeyBytes>& key, std::chrono::milliseconds lifetime)
      : key_(key), lifetime_(lifetime) {}

  /// What goes with 4.01.
  std::string Make(const SocketAddress& peer, TimePoint now) const;
  /// Whether a request's Echo was made for this peer within the lifetime.
  bool IsFresh(std::string_view value, const SocketAddress& peer, TimePoint now) const;

 private:
  std::array<std::uint8_t, 8> TagOf(std::uint32_t milliseconds, const SocketAddress& peer) const;

  std::array<std::uint8_t, kKeyBytes> key_;
  std::chrono::milliseconds lifetime_;
};

}  // namespace waxvm::coap::edge

#endif  // WAXVM_SRC_COAP_EDGE_ECHO_H_
