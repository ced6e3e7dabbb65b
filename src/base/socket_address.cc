// SPDX-License-Identifier: Apache-2.0
#include "waxvm/socket_address.h"

#include <charconv>

#include "absl/strings/str_cat.h"
#include "src/base/status.h"

namespace waxvm {
namespace {

/// A number in decimal digits alone.
template <typename T>
bool ReadNumber(std::string_view text, T& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

std::string SocketAddress::ToText() const {
  std::string text = absl::StrCat("[", address.ToText());
  if (zone != 0) absl::StrAppend(&text, "%", zone);
  absl::StrAppend(&text, "]:", port);
  return text;
}

absl::StatusOr<SocketAddress> SocketAddress::Parse(std::string_view text) {
  const auto refuse = [&] {
    return InvalidArgument("'%s' is no address with a port, like [::1]:5683 or 127.0.0.1:5683",
                           text.substr(0, 80));
  };
  SocketAddress result;
  const std::size_t colon = text.rfind(':');
  if (colon == text.npos || !ReadNumber(text.substr(colon + 1), result.port)) return refuse();
  std::string_view host = text.substr(0, colon);
  std::string mapped;
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
    if (const std::size_t percent = host.find('%'); percent != host.npos) {
      if (!ReadNumber(host.substr(percent + 1), result.zone) || result.zone == 0) return refuse();
      host = host.substr(0, percent);
    }
  } else {
    // A last group in hexadecimal digits would do for IPv6 as well.
    if (host.find(':') != host.npos || host.find('.') == host.npos) return refuse();
    mapped = "::ffff:" + std::string(host);
    host = mapped;
  }
  const absl::StatusOr<Address> address = Address::Parse(host);
  if (!address.ok()) return refuse();
  result.address = *address;
  return result;
}

}  // namespace waxvm
