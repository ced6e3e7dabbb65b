// SPDX-License-Identifier: Apache-2.0
#include "src/coap_edge/echo.h"

#include <sodium.h>

#include <algorithm>

namespace waxvm::coap::edge {
namespace {

static_assert(EchoIssuer::kKeyBytes == crypto_shorthash_KEYBYTES);

std::uint32_t Milliseconds(EchoIssuer::TimePoint now) {
  return static_cast<std::uint32_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count());
}

/// `bytes` of a number, the highest first.
template <typename Number, typename Out>
Out PutNumber(Number number, std::size_t bytes, Out out) {
  while (bytes-- > 0) *out++ = static_cast<std::uint8_t>(number >> (8 * bytes));
  return out;
}

}  // namespace

std::array<std::uint8_t, 8> EchoIssuer::TagOf(std::uint32_t milliseconds,
                                              const SocketAddress& peer) const {
  std::array<std::uint8_t, 4 + kAddressBytes + 2 + 4> message;
  auto at = PutNumber(milliseconds, 4, message.begin());
  at = std::copy(peer.address.bytes.begin(), peer.address.bytes.end(), at);
  at = PutNumber(std::uint32_t{peer.port}, 2, at);
  PutNumber(peer.zone, 4, at);
  std::array<std::uint8_t, 8> tag;
  static_assert(crypto_shorthash_BYTES == 8);
  crypto_shorthash(tag.data(), message.data(), message.size(), key_.data());
  return tag;
}

std::string EchoIssuer::Make(const SocketAddress& peer, TimePoint now) const {
  const std::uint32_t milliseconds = Milliseconds(now);
  std::array<std::uint8_t, kValueBytes> value;
  const auto at = PutNumber(milliseconds, 4, value.begin());
  const auto tag = TagOf(milliseconds, peer);
  std::copy(tag.begin(), tag.end(), at);
  return std::string(value.begin(), value.end());
}

bool EchoIssuer::IsFresh(std::string_view value, const SocketAddress& peer, TimePoint now) const {
  if (value.size() != kValueBytes) return false;
  std::uint32_t milliseconds = 0;
  for (const char c : value.substr(0, 4))
    milliseconds = milliseconds << 8 | static_cast<unsigned char>(c);
  // The clock of 32 bits goes round; a time to come is one long past.
  const std::uint32_t age = Milliseconds(now) - milliseconds;
  if (age > static_cast<std::uint64_t>(std::max<std::int64_t>(lifetime_.count(), 0))) return false;
  const auto tag = TagOf(milliseconds, peer);
  return sodium_memcmp(tag.data(), value.data() + 4, tag.size()) == 0;
}

}  // namespace waxvm::coap::edge
