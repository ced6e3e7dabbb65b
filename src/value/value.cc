// SPDX-License-Identifier: Apache-2.0
#include "waxvm/value.h"

#include <utility>

namespace waxvm {

// Here, where an entry of a map is complete.
Value::Value() = default;
Value::Value(bool v) : kind(v) {}
Value::Value(int v) : kind(std::int64_t{v}) {}
Value::Value(std::int64_t v) : kind(v) {}
Value::Value(std::uint64_t v) : kind(v) {}
Value::Value(double v) : kind(v) {}
Value::Value(const char* v) : kind(std::string(v)) {}
Value::Value(std::string_view v) : kind(std::string(v)) {}
Value::Value(std::string v) : kind(std::move(v)) {}
Value::Value(Data v) : kind(std::move(v)) {}
Value::Value(ValueList v) : kind(std::move(v)) {}
Value::Value(ValueMap v) : kind(std::move(v)) {}
Value::Value(const Value&) = default;
Value::Value(Value&&) noexcept = default;
Value& Value::operator=(const Value&) = default;
Value& Value::operator=(Value&&) noexcept = default;
Value::~Value() = default;

bool Value::operator==(const Value& other) const { return kind == other.kind; }

const Value* Value::Find(std::string_view key) const {
  const ValueMap* map = As<ValueMap>();
  if (map == nullptr) return nullptr;
  for (const MapEntry& entry : *map)
    if (entry.key == key) return &entry.value;
  return nullptr;
}

}  // namespace waxvm
