// SPDX-License-Identifier: Apache-2.0
// Functions of a guest in C++.
#include <algorithm>
#include <stdexcept>
#include <string>

#include "waxvm/guest_cpp.h"

namespace guest = waxvm::guest;

int main() {
  guest::Export("upper", [](std::string_view text) {
    std::string upper(text);
    std::transform(upper.begin(), upper.end(), upper.begin(),
                   [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
    return upper;
  });
  guest::Export("same", [](std::string_view text) { return text; });
  guest::Export("nothing", [](std::string_view) {});
  guest::Export("refuse", [](std::string_view text) {
    return guest::Error{WAXVM_CODE_PERMISSION_DENIED, "not " + std::string(text)};
  });
  guest::Export("throw", [](std::string_view text) -> std::string {
    throw std::runtime_error("thrown: " + std::string(text));
  });
  guest::Export("greet", [sum = 0](std::string_view name) mutable -> guest::Result {
    ++sum;
    guest::Log("greeting " + std::to_string(sum));
    return guest::Call("greet", name);
  });
  return guest::ServeCalls() == 0 ? 0 : 1;
}
