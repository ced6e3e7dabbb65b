// SPDX-License-Identifier: Apache-2.0
// Functions of a guest in C++ over typed values.
#include <map>
#include <string>

#include "waxvm/guest_cpp.h"

namespace guest = waxvm::guest;

int main() {
  guest::Export("same", [](std::string_view arguments) { return guest::DecodeValue(arguments); });
  // The words of a text and how often each of them is there.
  guest::Export("count_words", [](std::string_view arguments) {
    const guest::Value given = guest::DecodeValue(arguments);
    std::size_t bytes = 0;
    const char* text = waxvm_value_get_bytes(given.get(), &bytes);
    std::map<std::string, int> counts;
    std::string word;
    for (const char c : std::string(text != nullptr ? text : "", bytes) + ' ') {
      if (c != ' ') {
        word += c;
      } else if (!word.empty()) {
        ++counts[std::exchange(word, {})];
      }
    }
    guest::Value map(waxvm_value_new_map());
    for (const auto& [key, count] : counts)
      waxvm_value_insert(map.get(), key.data(), key.size(), waxvm_value_new_int64(count));
    return map;
  });
  return guest::ServeCalls() == 0 ? 0 : 1;
}
