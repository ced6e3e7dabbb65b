// SPDX-License-Identifier: Apache-2.0
// Functions of a guest in C++.
#include <algorithm>
#include <cstdint>
#include <iterator>
#include <set>
#include <sstream>
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
  guest::Export("sort", [](std::string_view text) {
    std::istringstream in{std::string(text)};
    const std::set<std::string> words{std::istream_iterator<std::string>(in), {}};
    std::string sorted;
    for (const std::string& word : words) sorted += (sorted.empty() ? "" : " ") + word;
    return sorted;
  });
  // A list of numbers to {"sum": …, "count": …}.
  guest::Export("sum", [](std::string_view arguments) -> guest::Value {
    const guest::Value list = guest::DecodeValue(arguments);
    std::int64_t total = 0;
    for (std::size_t i = 0; i < waxvm_value_count(list.get()); ++i) {
      std::int64_t number = 0;
      if (!waxvm_value_get_int64(waxvm_value_at(list.get(), i), &number))
        throw std::runtime_error("not a number");
      total += number;
    }
    guest::Value made(waxvm_value_new_map());
    waxvm_value_insert(made.get(), "sum", 3, waxvm_value_new_int64(total));
    waxvm_value_insert(made.get(), "count", 5,
                       waxvm_value_new_uint64(waxvm_value_count(list.get())));
    return made;
  });
  return guest::ServeCalls() == 0 ? 0 : 1;
}
