// SPDX-License-Identifier: Apache-2.0
// Typed values beside the bytes of a call: docs/formats/value.md.
#ifndef WAXVM_VALUE_H_
#define WAXVM_VALUE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"

namespace waxvm {

struct Value;

/// Bytes that are no text.
struct Data {
  std::string bytes = {};
  bool operator==(const Data&) const = default;
};

struct MapEntry;
using ValueList = std::vector<Value>;
/// In the order of the message; no key is there twice.
using ValueMap = std::vector<MapEntry>;

/// Null, a number, text (UTF-8), bytes, or lists and maps of values.
struct Value {
  using Kinds = std::variant<std::monostate, bool, std::int64_t, std::uint64_t, double, std::string,
                             Data, ValueList, ValueMap>;

  Value() = default;
  Value(bool v) : kind(v) {}                           // NOLINT: a value is what it holds
  Value(int v) : kind(std::int64_t{v}) {}              // NOLINT
  Value(std::int64_t v) : kind(v) {}                   // NOLINT
  Value(std::uint64_t v) : kind(v) {}                  // NOLINT
  Value(double v) : kind(v) {}                         // NOLINT
  Value(const char* v) : kind(std::string(v)) {}       // NOLINT
  Value(std::string_view v) : kind(std::string(v)) {}  // NOLINT
  Value(std::string v) : kind(std::move(v)) {}         // NOLINT
  Value(Data v) : kind(std::move(v)) {}                // NOLINT
  Value(ValueList v) : kind(std::move(v)) {}           // NOLINT
  Value(ValueMap v);                                   // NOLINT
  Value(const Value&);
  Value(Value&&) noexcept;
  Value& operator=(const Value&);
  Value& operator=(Value&&) noexcept;
  ~Value();

  bool operator==(const Value&) const;

  /// The value as `T`, one of Kinds; null where it is another.
  template <typename T>
  const T* As() const {
    return std::get_if<T>(&kind);
  }
  /// The value under `key` where this is a map that has it; otherwise null.
  const Value* Find(std::string_view key) const;

  Kinds kind;
};

struct MapEntry {
  std::string key = {};
  Value value = {};
  bool operator==(const MapEntry&) const = default;
};

/// Lists and maps inside of each other, the outermost included.
inline constexpr int kMaxValueDepth = 32;
/// Values in one message, all levels together.
inline constexpr std::size_t kMaxValues = std::size_t{1} << 20;

/// The message that a call takes as its arguments, or gives as its result.
/// Errors: kInvalidArgument for text that is not UTF-8, a key that is there twice, and what is over
/// a bound: kMaxValueDepth, kMaxValues, kMaxCallBytes.
absl::StatusOr<std::string> EncodeValue(const Value& value);

/// The value in a message that anybody may have written. Errors: kInvalidArgument with what is
/// wrong; the bounds are those of EncodeValue.
absl::StatusOr<Value> DecodeValue(std::string_view message);

}  // namespace waxvm

#endif  // WAXVM_VALUE_H_
