// SPDX-License-Identifier: Apache-2.0
#include "waxvm/value.h"

#include <utility>

namespace waxvm {

// Here, where an entry of a map is complete.
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
