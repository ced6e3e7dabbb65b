// SPDX-License-Identifier: Apache-2.0
#include "waxvm/value.h"

#include <limits>
#include <memory>
#include <string_view>
#include <type_traits>
#include <utility>

#include "absl/strings/str_format.h"
#include "support.h"
#include "waxvm_c_value.h"

using waxvm::Data;
using waxvm::Value;
using waxvm::ValueList;
using waxvm::ValueMap;
using waxvm::c::Guard;

namespace {

template <int kKind, typename T>
constexpr bool kIs = std::is_same_v<std::variant_alternative_t<kKind, Value::Kinds>, T>;
static_assert(kIs<WAXVM_VALUE_NULL, std::monostate> && kIs<WAXVM_VALUE_BOOL, bool> &&
              kIs<WAXVM_VALUE_INT64, std::int64_t> && kIs<WAXVM_VALUE_UINT64, std::uint64_t> &&
              kIs<WAXVM_VALUE_FLOAT64, double> && kIs<WAXVM_VALUE_TEXT, std::string> &&
              kIs<WAXVM_VALUE_DATA, Data> && kIs<WAXVM_VALUE_LIST, ValueList> &&
              kIs<WAXVM_VALUE_MAP, ValueMap>);
static_assert(WAXVM_MOST_VALUE_DEPTH == waxvm::kMaxValueDepth &&
              WAXVM_MOST_VALUES == waxvm::kMaxValues);

// The handle is the value itself, so that the values inside of one are handles too.
Value* FromHandle(waxvm_value* value) { return reinterpret_cast<Value*>(value); }
const Value* FromHandle(const waxvm_value* value) { return reinterpret_cast<const Value*>(value); }
const waxvm_value* ToHandle(const Value* value) {
  return reinterpret_cast<const waxvm_value*>(value);
}

template <typename Make>
waxvm_value* New(Make make) noexcept {
  try {
    return reinterpret_cast<waxvm_value*>(new Value(make()));
  } catch (...) {
    return nullptr;  // no memory
  }
}

template <typename T>
T* As(Value* value) {
  return value != nullptr ? std::get_if<T>(&value->kind) : nullptr;
}
template <typename T>
const T* As(const waxvm_value* value) {
  return value != nullptr ? FromHandle(value)->As<T>() : nullptr;
}

template <typename T>
int Get(const waxvm_value* value, T* to) {
  const T* const found = As<T>(value);
  if (found == nullptr || to == nullptr) return 0;
  *to = *found;
  return 1;
}

absl::Status IntoItself() {
  return absl::InvalidArgumentError("a value cannot be put into itself");
}

const char* Text(const std::string* text, size_t* byte_count) {
  if (byte_count != nullptr) *byte_count = text != nullptr ? text->size() : 0;
  return text != nullptr ? text->c_str() : nullptr;
}

}  // namespace

extern "C" {

waxvm_value* waxvm_value_new_null(void) {
  return New([] { return Value(); });
}
waxvm_value* waxvm_value_new_bool(int value) {
  return New([&] { return Value(value != 0); });
}
waxvm_value* waxvm_value_new_int64(int64_t value) {
  return New([&] { return Value(std::int64_t{value}); });
}
waxvm_value* waxvm_value_new_uint64(uint64_t value) {
  return New([&] { return Value(std::uint64_t{value}); });
}
waxvm_value* waxvm_value_new_float64(double value) {
  return New([&] { return Value(value); });
}
waxvm_value* waxvm_value_new_text(const char* text, size_t byte_count) {
  if (text == nullptr && byte_count != 0) return nullptr;
  return New([&] { return Value(std::string_view(text, byte_count)); });
}
waxvm_value* waxvm_value_new_data(const void* bytes, size_t byte_count) {
  if (bytes == nullptr && byte_count != 0) return nullptr;
  return New([&] {
    return Value(Data{std::string(std::string_view(static_cast<const char*>(bytes), byte_count))});
  });
}
waxvm_value* waxvm_value_new_list(void) {
  return New([] { return Value(ValueList()); });
}
waxvm_value* waxvm_value_new_map(void) {
  return New([] { return Value(ValueMap()); });
}
void waxvm_value_close(waxvm_value* value) { delete FromHandle(value); }

waxvm_status waxvm_value_append(waxvm_value* list, waxvm_value* item, waxvm_error* error) {
  if (item != nullptr && item == list) return waxvm::c::Finish(IntoItself(), error);
  const std::unique_ptr<Value> taken(FromHandle(item));
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(list);
    WAXVM_C_REQUIRE(item);
    auto* const to = As<ValueList>(FromHandle(list));
    if (to == nullptr) return absl::InvalidArgumentError("the value that was given is no list");
    to->push_back(std::move(*taken));
    return absl::OkStatus();
  });
}

waxvm_status waxvm_value_insert(waxvm_value* map, const char* key, size_t key_bytes,
                                waxvm_value* item, waxvm_error* error) {
  if (item != nullptr && item == map) return waxvm::c::Finish(IntoItself(), error);
  const std::unique_ptr<Value> taken(FromHandle(item));
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(map);
    WAXVM_C_REQUIRE(item);
    const auto name = waxvm::c::ToView("key", key, key_bytes);
    if (!name.ok()) return name.status();
    auto* const to = As<ValueMap>(FromHandle(map));
    if (to == nullptr) return absl::InvalidArgumentError("the value that was given is no map");
    to->push_back({std::string(*name), std::move(*taken)});
    return absl::OkStatus();
  });
}

waxvm_status waxvm_value_encode(const waxvm_value* value, waxvm_bytes** message,
                                waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(message);
    *message = nullptr;
    WAXVM_C_REQUIRE(value);
    auto encoded = waxvm::EncodeValue(*FromHandle(value));
    if (!encoded.ok()) return encoded.status();
    *message = new waxvm_bytes{*std::move(encoded)};
    return absl::OkStatus();
  });
}

waxvm_status waxvm_value_decode(const void* message, size_t message_bytes, waxvm_value** value,
                                waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(value);
    *value = nullptr;
    const auto view = waxvm::c::ToView("message", message, message_bytes);
    if (!view.ok()) return view.status();
    auto decoded = waxvm::DecodeValue(*view);
    if (!decoded.ok()) return decoded.status();
    *value = reinterpret_cast<waxvm_value*>(new Value(*std::move(decoded)));
    return absl::OkStatus();
  });
}

int waxvm_value_kind(const waxvm_value* value) {
  return value != nullptr ? static_cast<int>(FromHandle(value)->kind.index()) : -1;
}

int waxvm_value_get_bool(const waxvm_value* value, int* to) {
  const bool* const found = As<bool>(value);
  if (found == nullptr || to == nullptr) return 0;
  *to = *found ? 1 : 0;
  return 1;
}

int waxvm_value_get_int64(const waxvm_value* value, int64_t* to) {
  const auto* const other = As<std::uint64_t>(value);
  if (other == nullptr) return Get<std::int64_t>(value, to);
  if (to == nullptr || *other > std::uint64_t{std::numeric_limits<std::int64_t>::max()}) return 0;
  *to = static_cast<std::int64_t>(*other);
  return 1;
}

int waxvm_value_get_uint64(const waxvm_value* value, uint64_t* to) {
  const auto* const other = As<std::int64_t>(value);
  if (other == nullptr) return Get<std::uint64_t>(value, to);
  if (to == nullptr || *other < 0) return 0;
  *to = static_cast<std::uint64_t>(*other);
  return 1;
}

int waxvm_value_get_float64(const waxvm_value* value, double* to) { return Get<double>(value, to); }

const char* waxvm_value_get_bytes(const waxvm_value* value, size_t* byte_count) {
  if (const Data* data = As<Data>(value)) return Text(&data->bytes, byte_count);
  return Text(As<std::string>(value), byte_count);
}

size_t waxvm_value_count(const waxvm_value* value) {
  if (const auto* list = As<ValueList>(value)) return list->size();
  const auto* map = As<ValueMap>(value);
  return map != nullptr ? map->size() : 0;
}

const waxvm_value* waxvm_value_at(const waxvm_value* value, size_t index) {
  if (index >= waxvm_value_count(value)) return nullptr;
  if (const auto* list = As<ValueList>(value)) return ToHandle(&(*list)[index]);
  return ToHandle(&(*As<ValueMap>(value))[index].value);
}

const char* waxvm_value_key(const waxvm_value* map, size_t index, size_t* key_bytes) {
  const auto* entries = As<ValueMap>(map);
  const bool there = entries != nullptr && index < entries->size();
  return Text(there ? &(*entries)[index].key : nullptr, key_bytes);
}

const waxvm_value* waxvm_value_find(const waxvm_value* map, const char* key, size_t key_bytes) {
  if (map == nullptr || (key == nullptr && key_bytes != 0)) return nullptr;
  return ToHandle(FromHandle(map)->Find(std::string_view(key, key_bytes)));
}

}  // extern "C"
