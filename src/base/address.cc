// SPDX-License-Identifier: Apache-2.0
#include "waxvm/address.h"

#include <arpa/inet.h>

#include <cstring>

#include "src/base/status.h"

namespace waxvm {

std::string Address::ToText() const {
  char text[INET6_ADDRSTRLEN] = {};
  inet_ntop(AF_INET6, bytes.data(), text, sizeof text);
  return text;
}

absl::StatusOr<Address> Address::Parse(std::string_view text) {
  Address address;
  // With a zero byte inside, inet_pton would see a part of it.
  if (text.size() >= INET6_ADDRSTRLEN || text.find('\0') != text.npos ||
      inet_pton(AF_INET6, std::string(text).c_str(), address.bytes.data()) != 1)
    return InvalidArgument("'%s' is no IPv6 address", text.substr(0, 80));
  return address;
}

absl::StatusOr<Address> Address::FromBytes(std::string_view bytes) {
  if (bytes.size() != kAddressBytes)
    return InvalidArgument("an IPv6 address has %d bytes, not %d", kAddressBytes, bytes.size());
  Address address;
  std::memcpy(address.bytes.data(), bytes.data(), kAddressBytes);
  return address;
}

}  // namespace waxvm
