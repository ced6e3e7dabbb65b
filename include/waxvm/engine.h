// SPDX-License-Identifier: Apache-2.0
// An engine has a key, sends messages and handles those that are sent to it: docs/messaging.md.
#ifndef WAXVM_ENGINE_H_
#define WAXVM_ENGINE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "waxvm/message.h"
#include "waxvm/message_hub.h"
#include "waxvm/replay_guard.h"
#include "waxvm/topic.h"

namespace waxvm {

struct EngineOptions {
  /// Messages that wait to be handled; a power of two, 128 bytes each and what they hold. Who sends
  /// one more is told so.
  std::size_t inbox_messages = 1'024;
  /// Envelopes from elsewhere that wait to be opened, in a queue of their own: who floods it from
  /// outside keeps no local message from coming. Of several sources, each has its share.
  std::size_t remote_messages = 1'024;
  std::size_t remote_bytes = std::size_t{16} << 20;
  /// ExchangeKey::Of its own key; must outlive it. Without it nothing encrypted is opened.
  const ExchangeKey* exchange_key = nullptr;
  ReplayOptions replay = {};
  /// Errors told in a second to senders elsewhere that asked for them.
  std::uint32_t errors_per_second = 100;
};

struct SendOptions {
  std::uint64_t lifetime = 60'000;  ///< milliseconds; between processes, at most 30 days
  bool encrypt = false;       ///< where it leaves the process, so that only the receiver reads it
  bool wants_errors = false;  ///< a MessageError comes back where nobody can handle it
  std::uint64_t in_reply_to = 0;  ///< MessageInfo::sequence of what it answers
  /// Milliseconds to wait for room in the inbox of an engine of this process. Blocks: that long.
  std::uint32_t wait = 0;
};

/// What is known of a message besides what it says. Its sender is who it says: by the signature, or
/// because it never left the process.
struct MessageInfo {
  const PublicKey& sender;
  const PublicKey* topic = nullptr;  ///< null: to this engine alone
  MessageType type = 0;
  std::uint64_t sequence = 0;
  std::uint64_t in_reply_to = 0;
  std::uint64_t expires = 0;  ///< milliseconds since 1970; 0: of a local one, never
  bool local = false;         ///< came from an engine of this process, as the object that it was
  bool encrypted = false;
  bool wants_errors = false;
  bool retained = false;  ///< of a topic: was there before this engine joined
  std::span<const MessageId> dependencies = {};
  std::span<const MessageId> missing = {};  ///< dependencies that did not come in time
};

struct EngineStats {
  std::uint64_t handled = 0;          ///< given to a handler
  std::uint64_t unknown_types = 0;    ///< nobody registered their type
  std::uint64_t malformed = 0;        ///< their payload could not be decoded
  std::uint64_t expired = 0;          ///< while they waited, here or on the way
  std::uint64_t refused = 0;          ///< envelopes that OpenEnvelope refused otherwise
  std::uint64_t replays = 0;          ///< refused by the ReplayGuard
  std::uint64_t remote_dropped = 0;   ///< envelopes there was no room for
  std::uint64_t errors_told = 0;      ///< to senders who asked
  std::uint64_t errors_withheld = 0;  ///< above errors_per_second, or who asked could not be told
};

/// Thread safety: Send, Publish, Deliver and stats: any number of threads. On, Join, Leave, Poll
/// and descriptor: one thread at a time; after Start, only handlers may call On, Join and Leave. A
/// handler runs on the thread that calls Poll, or on the engine's own; it may call all of these but
/// Poll, Start and Stop.
class Engine {
 public:
  /// An engine of `hub` under the key of `identity`; both must outlive it.
  /// Errors: kAlreadyExists where the hub has one with this key; those of ReplayGuard::Create.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(MessageHub* hub, const Signer* identity,
                                                        const EngineOptions& options = {});
  virtual ~Engine() = default;
  virtual const PublicKey& key() const = 0;

  /// Has messages of type `T` handled, in place of what handled them before. `handler` takes
  /// `(const T&, const MessageInfo&)`, or `(T&&, const MessageInfo&)` and keeps the object: for the
  /// message of a topic, which others hold as well, a copy. Errors: kFailedPrecondition after
  /// Start.
  template <typename T, typename Handler>
  absl::Status On(Handler handler) {
    return Register(MessageCodec<T>::kType, HandlerOf<T>(std::move(handler)));
  }

  /// Sends an object: as it is to an engine of this process, in an envelope to any other. Returns
  /// its sequence. Errors: kResourceExhausted where the receiver's inbox is full; kNotFound where
  /// nobody has this key here and there is no transport; those of the codec, the signer and the
  /// transport. OK is no promise that somebody handles it.
  template <typename T>
  absl::StatusOr<std::uint64_t> Send(const PublicKey& to, T object,
                                     const SendOptions& options = {}) {
    Message message = Message::Of<T>(std::move(object));
    return SendMessage(to, message, options);
  }
  /// The same to whoever sent what is being handled.
  template <typename T>
  absl::StatusOr<std::uint64_t> Reply(const MessageInfo& info, T object, SendOptions options = {}) {
    options.in_reply_to = info.sequence;
    return Send<T>(info.sender, std::move(object), options);
  }
  /// `message` is moved from where this returns OK, and as it was otherwise, to be sent again.
  virtual absl::StatusOr<std::uint64_t> SendMessage(const PublicKey& to, Message& message,
                                                    const SendOptions& options) = 0;

  /// Gives one object to everybody who has joined the topic. Errors: kNotFound for a topic that the
  /// hub does not know; kPermissionDenied where its advert does not name this engine's key;
  /// kDeadlineExceeded where the advert has expired; as Send of a transport, when the engines here
  /// have it all the same.
  template <typename T>
  absl::StatusOr<Published> Publish(const PublicKey& topic, T object,
                                    const PublishOptions& options = {}) {
    return PublishMessage(topic, Message::Of<T>(std::move(object)), options);
  }
  virtual absl::StatusOr<Published> PublishMessage(const PublicKey& topic, Message message,
                                                   const PublishOptions& options) = 0;
  /// From now on handles what is published there, with the handlers of On.
  /// Errors: kNotFound for a topic that the hub does not know; kAlreadyExists; of the transport.
  virtual absl::Status Join(const PublicKey& topic, JoinOptions options = {}) = 0;
  virtual absl::Status Leave(const PublicKey& topic) = 0;

  /// Handles what has come, at most `most` messages, and what is due; returns how many. Never
  /// waits.
  virtual std::size_t Poll(std::size_t most = 256) = 0;
  /// Readable when Poll has something to do; a millisecond of `next_timeout` aside.
  /// Errors: of eventfd.
  virtual absl::StatusOr<int> descriptor() = 0;
  /// Milliseconds after which Poll has something to do even if nothing comes; -1: never.
  virtual int next_timeout() const = 0;
  /// Polls on a thread of its own, until Stop or the destructor. Errors: of descriptor.
  virtual absl::Status Start() = 0;
  virtual void Stop() = 0;

  virtual EngineStats stats() const = 0;
  /// As On: by whoever polls, or a handler. Errors: kNotFound where it has not joined.
  virtual absl::StatusOr<TopicStats> topic_stats(const PublicKey& topic) const = 0;

 protected:
  /// What On keeps of a handler.
  struct Handler {
    const Message::Operations* operations = nullptr;
    absl::StatusOr<Message> (*decode)(std::string_view bytes) = nullptr;
    /// `object` is the storage of a Message; it may be moved from where it is `owned`.
    absl::AnyInvocable<void(void* object, bool owned, const MessageInfo&)> call = nullptr;
  };
  virtual absl::Status Register(MessageType type, Handler handler) = 0;

 private:
  template <typename T>
  static absl::StatusOr<Message> Decode(std::string_view bytes) {
    absl::StatusOr<T> object = MessageCodec<T>::Decode(bytes);
    if (!object.ok()) return object.status();
    return Message::Of<T>(*std::move(object));
  }

  template <typename T, typename F>
  static Handler HandlerOf(F function) {
    return {.operations = &Message::kOperations<T>,
            .decode = &Decode<T>,
            .call = [function = std::move(function)](void* storage, bool owned,
                                                     const MessageInfo& info) mutable {
              T& object = Message::ObjectIn<T>(storage);
              if constexpr (std::is_invocable_v<F&, const T&, const MessageInfo&>) {
                function(static_cast<const T&>(object), info);
              } else if (owned) {
                function(std::move(object), info);
              } else if constexpr (std::is_copy_constructible_v<T>) {
                function(T(object), info);
              }
            }};
  }
};

}  // namespace waxvm

#endif  // WAXVM_ENGINE_H_
