// SPDX-License-Identifier: Apache-2.0
// Bytes and messages for tests.
#ifndef WAXVM_SRC_COAP_BYTES_FOR_TEST_H_
#define WAXVM_SRC_COAP_BYTES_FOR_TEST_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "waxvm/coap_owned_message.h"

namespace waxvm::coap {

/// The bytes of pairs of hexadecimal digits; spaces are passed over.
inline std::string Hex(std::string_view hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size();) {
    if (hex[i] == ' ') {
      ++i;
      continue;
    }
    bytes += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
    i += 2;
  }
  return bytes;
}

inline std::vector<std::pair<int, std::string>> ListOf(OptionsView options) {
  std::vector<std::pair<int, std::string>> list;
  for (const OptionView& option : options)
    list.emplace_back(static_cast<int>(option.number), std::string(option.text()));
  return list;
}

/// A message in a datagram of its own.
class Datagram {
 public:
  explicit Datagram(const Message& message, Type type = Type::kCon) : buffer_(70000) {
    MessageWriter writer(buffer_, type, message.code(), 1);
    message.WriteTo(writer);
    view_ = MessageView::Parse(writer.message());
  }
  const MessageView& view() const { return view_; }

 private:
  std::vector<std::byte> buffer_;
  MessageView view_;
};

}  // namespace waxvm::coap

#endif  // WAXVM_SRC_COAP_BYTES_FOR_TEST_H_
