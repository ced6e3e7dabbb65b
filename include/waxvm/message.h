// SPDX-License-Identifier: Apache-2.0
// What engines say to each other: a C++ object of a type that both of them know.
#ifndef WAXVM_MESSAGE_H_
#define WAXVM_MESSAGE_H_

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "absl/status/statusor.h"
#include "waxvm/key.h"
#include "waxvm/value.h"

namespace waxvm {

/// 64 bits that say what a message means, chosen at random as Cap'n Proto's ids are. There is no
/// list of them: an engine knows those that it registered. 0 to 255 are waxvm's own.
using MessageType = std::uint64_t;

inline constexpr std::size_t kMaxPayloadBytes = std::size_t{1} << 20;
/// Messages that one message can name as those it depends on.
inline constexpr std::size_t kMaxDependencies = 16;

enum class DestinationKind : std::uint8_t { kEngine, kTopic };

/// The name of one message: a hash of who sent it, where to, and as which one. It does not bind
/// what the message says: of two with the same name a receiver takes one.
struct MessageId {
  std::array<std::uint8_t, 32> bytes{};
  std::string_view view() const {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  auto operator<=>(const MessageId&) const = default;

  static MessageId Of(const PublicKey& sender, DestinationKind kind, const PublicKey& destination,
                      std::uint64_t sequence);
};

/// How an object of type `T` becomes bytes and back. By default with what T has itself:
///   static constexpr MessageType kMessageType = …;
///   absl::StatusOr<std::string> Encode() const;
///   static absl::StatusOr<T> Decode(std::string_view bytes);  // hostile; at a multiple of 8
/// Specialise it for a type of somebody else.
template <typename T>
struct MessageCodec {
  static constexpr MessageType kType = T::kMessageType;
  static absl::StatusOr<std::string> Encode(const T& object) { return object.Encode(); }
  static absl::StatusOr<T> Decode(std::string_view bytes) { return T::Decode(bytes); }
};

/// A message that is bytes.
template <MessageType kId>
struct BytesMessage {
  static constexpr MessageType kMessageType = kId;
  std::string bytes = {};
  absl::StatusOr<std::string> Encode() const { return bytes; }
  static absl::StatusOr<BytesMessage> Decode(std::string_view from) {
    return BytesMessage{std::string(from)};
  }
};

/// A message that is a typed value, in Cap'n Proto where it is serialised: docs/formats/value.md.
template <MessageType kId>
struct ValueMessage {
  static constexpr MessageType kMessageType = kId;
  Value value = {};
  absl::StatusOr<std::string> Encode() const { return EncodeValue(value); }
  static absl::StatusOr<ValueMessage> Decode(std::string_view from) {
    absl::StatusOr<Value> value = DecodeValue(from);
    if (!value.ok()) return value.status();
    return ValueMessage{*std::move(value)};
  }
};

/// What became of a message, told to its sender where he asked for it (SendOptions::wants_errors).
/// MessageInfo::in_reply_to says of which one.
struct MessageError {
  static constexpr MessageType kMessageType = 1;
  absl::StatusCode code = absl::StatusCode::kUnknown;
  std::string text = {};  ///< at most 200 bytes
  absl::StatusOr<std::string> Encode() const;
  static absl::StatusOr<MessageError> Decode(std::string_view bytes);
};

/// An object of any message type, or nothing. Small ones take no memory of their own. Move-only.
/// Thread safety: as the object.
class Message {
 public:
  static constexpr std::size_t kInlineBytes = 64;

  /// What is known of a type when only its object is at hand.
  struct Operations {
    MessageType type;
    absl::StatusOr<std::string> (*encode)(const void* storage);
    void (*relocate)(void* from, void* to) noexcept;  ///< null: its bytes can be copied
    void (*destroy)(void* storage) noexcept;          ///< null: nothing to do
  };

  Message() = default;
  template <typename T>
  static Message Of(T object) {
    Message message;
    if constexpr (kIsInline<T>)
      new (message.storage_) T(std::move(object));
    else
      new (message.storage_)(T*)(new T(std::move(object)));
    message.operations_ = &kOperations<T>;
    return message;
  }
  Message(Message&& other) noexcept { Take(other.operations_, other.storage_); }
  Message& operator=(Message&& other) noexcept {
    if (this == &other) return *this;
    Reset();
    Take(other.operations_, other.storage_);
    return *this;
  }
  ~Message() { Reset(); }

  bool empty() const { return operations_ == nullptr; }
  MessageType type() const { return operations_ == nullptr ? 0 : operations_->type; }
  /// Errors: those of its codec; kInvalidArgument for more than kMaxPayloadBytes.
  absl::StatusOr<std::string> Encode() const;
  /// Null where it holds another type.
  template <typename T>
  T* As() {
    return operations_ == &kOperations<T> ? &ObjectIn<T>(storage_) : nullptr;
  }
  template <typename T>
  const T* As() const {
    return const_cast<Message*>(this)->As<T>();
  }

  const Operations* operations() const { return operations_; }
  void* storage() { return storage_; }
  /// Takes an object out of storage that is not a Message; `operations` is null afterwards.
  void Take(const Operations*& operations, void* storage) noexcept {
    operations_ = std::exchange(operations, nullptr);
    if (operations_ != nullptr) Relocate(operations_, storage, storage_);
  }
  static void Relocate(const Operations* operations, void* from, void* to) noexcept {
    if (operations->relocate != nullptr)
      operations->relocate(from, to);
    else
      std::memcpy(to, from, kInlineBytes);
  }
  /// Its object was moved elsewhere by Relocate.
  void Release() noexcept { operations_ = nullptr; }
  void Reset() noexcept {
    if (const Operations* old = std::exchange(operations_, nullptr);
        old != nullptr && old->destroy != nullptr)
      old->destroy(storage_);
  }
  /// The object in the storage of a Message that holds a `T`.
  template <typename T>
  static T& ObjectIn(void* storage) {
    if constexpr (kIsInline<T>)
      return *std::launder(static_cast<T*>(storage));
    else
      return **std::launder(static_cast<T**>(storage));
  }

  template <typename T>
  static constexpr bool kIsInline = sizeof(T) <= kInlineBytes &&
                                    alignof(T) <= 16 && std::is_nothrow_move_constructible_v<T>;
  template <typename T>
  static const Operations kOperations;

 private:
  template <typename T>
  static absl::StatusOr<std::string> EncodeIn(const void* storage) {
    return MessageCodec<T>::Encode(ObjectIn<T>(const_cast<void*>(storage)));
  }
  template <typename T>
  static void RelocateIn(void* from, void* to) noexcept {
    T& object = ObjectIn<T>(from);
    new (to) T(std::move(object));
    object.~T();
  }
  template <typename T>
  static void DestroyIn(void* storage) noexcept {
    if constexpr (kIsInline<T>)
      ObjectIn<T>(storage).~T();
    else
      delete &ObjectIn<T>(storage);
  }
  template <typename T>
  static constexpr bool kIsPlain = kIsInline<T>&& std::is_trivially_copyable_v<T>;

  const Operations* operations_ = nullptr;
  alignas(16) unsigned char storage_[kInlineBytes];
};

template <typename T>
inline constexpr Message::Operations Message::kOperations = {
    .type = MessageCodec<T>::kType,
    .encode = &EncodeIn<T>,
    .relocate = !kIsInline<T> || kIsPlain<T> ? nullptr : &RelocateIn<T>,
    .destroy = kIsPlain<T> ? nullptr : &DestroyIn<T>};

}  // namespace waxvm

#endif  // WAXVM_MESSAGE_H_
