// SPDX-License-Identifier: Apache-2.0
// Plain data as bytes and back: one function for each structure serves both directions,
//   template <class Archive> void Transfer(Archive& archive, Thing& thing) {
//     archive(thing.number, thing.name);
//   }
// Numbers are little-endian and as wide as their type; a bool is one byte, 0 or 1; strings, lists
// and maps have their length first, as 8 bytes; an optional has a bool first, a variant the index
// of its type as one byte. Nothing is aligned or padded.
#ifndef WAXVM_SRC_BASE_BYTE_ARCHIVE_H_
#define WAXVM_SRC_BASE_BYTE_ARCHIVE_H_

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace waxvm {

static_assert(std::endian::native == std::endian::little);

/// A structure without padding or pointers that is its bytes.
template <typename T>
struct AsBytes {
  static_assert(std::is_trivially_copyable_v<T>);
  T& object;
};
template <typename T>
AsBytes(T&) -> AsBytes<T>;

/// Thread safety: none.
class ByteWriter {
 public:
  static constexpr bool kReads = false;

  template <typename... T>
  void operator()(const T&... items) {
    (Put(items), ...);
  }
  bool ok() const { return true; }
  void Fail() {}
  std::vector<std::byte> Take() { return std::move(bytes_); }

 private:
  void Append(const void* from, std::size_t count) {
    const auto* first = static_cast<const std::byte*>(from);
    bytes_.insert(bytes_.end(), first, first + count);
  }
  void PutSize(std::size_t size) { Put(static_cast<std::uint64_t>(size)); }

  template <typename T>
  void Put(const T& item) {
    if constexpr (std::is_same_v<T, bool>) {
      Put(static_cast<std::uint8_t>(item));
    } else if constexpr (std::is_integral_v<T> || std::is_enum_v<T>) {
      Append(&item, sizeof item);
    } else {
      Transfer(*this, const_cast<T&>(item));
    }
  }
  template <typename T>
  void Put(const AsBytes<T>& raw) {
    Append(&raw.object, sizeof raw.object);
  }
  void Put(const std::string& text) {
    PutSize(text.size());
    Append(text.data(), text.size());
  }
  void Put(const std::vector<std::byte>& bytes) {
    PutSize(bytes.size());
    Append(bytes.data(), bytes.size());
  }
  template <typename T>
  void Put(const std::vector<T>& list) {
    PutSize(list.size());
    for (const T& item : list) Put(item);
  }
  template <typename K, typename V>
  void Put(const std::map<K, V>& map) {
    PutSize(map.size());
    for (const auto& [key, value] : map) (*this)(key, value);
  }
  template <typename T, std::size_t N>
  void Put(const std::array<T, N>& array) {
    if constexpr (std::is_same_v<T, std::byte> || std::is_same_v<T, char>) {
      Append(array.data(), N);
    } else {
      for (const T& item : array) Put(item);
    }
  }
  template <typename A, typename B>
  void Put(const std::pair<A, B>& pair) {
    (*this)(pair.first, pair.second);
  }
  template <typename T>
  void Put(const std::optional<T>& optional) {
    Put(optional.has_value());
    if (optional) Put(*optional);
  }
  template <typename... T>
  void Put(const std::variant<T...>& variant) {
    Put(static_cast<std::uint8_t>(variant.index()));
    std::visit([this](const auto& item) { this->Put(item); }, variant);
  }
  /// What pointers share is written as often as there are pointers.
  template <typename T>
  void Put(const std::shared_ptr<const T>& pointer) {
    Put(pointer != nullptr);
    if (pointer != nullptr) Put(*pointer);
  }

  std::vector<std::byte> bytes_;
};

/// Reads hostile bytes: once something does not fit, ok() is false, and everything read from then
/// on is as it was made. A list grows as its items arrive, each of which takes a byte at least, so
/// a length in a header reserves nothing. Thread safety: none.
class ByteReader {
 public:
  static constexpr bool kReads = true;

  explicit ByteReader(std::span<const std::byte> bytes) : left_(bytes) {}

  template <typename... T>
  void operator()(T&&... items) {
    (Get(items), ...);
  }
  bool ok() const { return ok_; }
  void Fail() { ok_ = false; }
  bool at_end() const { return left_.empty(); }

 private:
  bool Copy(void* to, std::size_t count) {
    ok_ = ok_ && count <= left_.size();
    if (!ok_) return false;
    if (count != 0) std::memcpy(to, left_.data(), count);
    left_ = left_.subspan(count);
    return true;
  }
  std::size_t GetSize() {
    std::uint64_t size = 0;
    Get(size);
    ok_ = ok_ && size <= left_.size();
    return ok_ ? size : 0;
  }

  template <typename T>
  void Get(T& item) {
    if constexpr (std::is_same_v<T, bool>) {
      std::uint8_t byte = 0;
      Get(byte);
      ok_ = ok_ && byte <= 1;
      if (ok_) item = byte == 1;
    } else if constexpr (std::is_integral_v<T> || std::is_enum_v<T>) {
      Copy(&item, sizeof item);
    } else {
      Transfer(*this, item);
    }
  }
  template <typename T>
  void Get(AsBytes<T>& raw) {
    Copy(&raw.object, sizeof raw.object);
  }
  void Get(std::string& text) {
    text.resize(GetSize());
    Copy(text.data(), text.size());
  }
  void Get(std::vector<std::byte>& bytes) {
    bytes.resize(GetSize());
    Copy(bytes.data(), bytes.size());
  }
  template <typename T>
  void Get(std::vector<T>& list) {
    for (std::size_t left = GetSize(); left > 0 && ok_; --left) Get(list.emplace_back());
  }
  template <typename K, typename V>
  void Get(std::map<K, V>& map) {
    for (std::size_t left = GetSize(); left > 0 && ok_; --left) {
      K key{};
      Get(key);
      // In order, so that there is one way to write each map.
      ok_ = ok_ && (map.empty() || map.rbegin()->first < key);
      if (ok_) Get(map.emplace_hint(map.end(), std::move(key), V{})->second);
    }
  }
  template <typename T, std::size_t N>
  void Get(std::array<T, N>& array) {
    if constexpr (std::is_same_v<T, std::byte> || std::is_same_v<T, char>) {
      Copy(array.data(), N);
    } else {
      for (T& item : array) Get(item);
    }
  }
  template <typename A, typename B>
  void Get(std::pair<A, B>& pair) {
    (*this)(pair.first, pair.second);
  }
  template <typename T>
  void Get(std::optional<T>& optional) {
    bool there = false;
    Get(there);
    if (ok_ && there) Get(optional.emplace());
  }
  template <typename... T>
  void Get(std::variant<T...>& variant) {
    std::uint8_t index = 0;
    Get(index);
    ok_ = ok_ && index < sizeof...(T);
    if (ok_) GetAlternative<0>(variant, index);
  }
  template <std::size_t I, typename... T>
  void GetAlternative(std::variant<T...>& variant, std::size_t index) {
    if (index == I) return Get(variant.template emplace<I>());
    if constexpr (I + 1 < sizeof...(T)) GetAlternative<I + 1>(variant, index);
  }
  template <typename T>
  void Get(std::shared_ptr<const T>& pointer) {
    bool there = false;
    Get(there);
    if (!ok_ || !there) return;
    auto made = std::make_shared<T>();
    Get(*made);
    pointer = std::move(made);
  }

  std::span<const std::byte> left_;
  bool ok_ = true;
};

}  // namespace waxvm

#endif  // WAXVM_SRC_BASE_BYTE_ARCHIVE_H_
