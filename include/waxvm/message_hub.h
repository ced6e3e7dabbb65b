// SPDX-License-Identifier: Apache-2.0
// Where the engines of a process find each other, their topics, and the way out.
#ifndef WAXVM_MESSAGE_HUB_H_
#define WAXVM_MESSAGE_HUB_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "waxvm/address.h"
#include "waxvm/advert.h"
#include "waxvm/key.h"
#include "waxvm/replay_guard.h"

namespace waxvm {

/// How envelopes get from one process to another. They are whole, and may be lost, reordered and
/// repeated. What comes in is given to MessageHub::Deliver.
/// Thread safety: implementations may be called from any number of threads.
class EngineTransport {
 public:
  virtual ~EngineTransport() = default;
  /// Errors: kNotFound where it knows no way to this key; kResourceExhausted where it has no room.
  virtual absl::Status Send(const PublicKey& to, std::string envelope) = 0;
  /// To everybody elsewhere who has joined the group of a topic.
  virtual absl::Status Publish(const PublicKey& topic, const Address& group,
                               std::string envelope) = 0;
  /// The first engine here has joined a topic, or the last one has left it.
  virtual absl::Status Join(const PublicKey& topic, const Address& group) = 0;
  virtual void Leave(const PublicKey& topic, const Address& group) = 0;
};

struct MessageHubOptions {
  /// Must outlive the hub. Null: there is nobody but the engines of this process.
  EngineTransport* transport = nullptr;
  /// Milliseconds since 1970, and of a clock that is never set. Default: the host's.
  std::function<std::uint64_t()> clock = nullptr;
  std::function<std::uint64_t()> steady_clock = nullptr;
  /// Whether a sender elsewhere is to be heard, asked after its signature held. Default: everybody.
  std::function<bool(const PublicKey& sender)> allow = nullptr;
  /// Of what is published elsewhere; each engine has one of its own for what is sent to it.
  ReplayOptions replay = {};
};

struct MessageHubStats {
  std::size_t engines = 0;
  std::size_t topics = 0;
  std::uint64_t delivered = 0;  ///< envelopes that were given to an engine or a topic
  std::uint64_t refused = 0;    ///< and those that were not
};

/// Thread safety: any number of threads.
class MessageHub {
 public:
  /// Errors: those of ReplayGuard::Create.
  static absl::StatusOr<std::unique_ptr<MessageHub>> Create(const MessageHubOptions& options = {});
  virtual ~MessageHub() = default;  ///< after all its engines

  /// Makes a topic known, or replaces what was known of it. Errors: kInvalidArgument for an advert
  /// of another type; kFailedPrecondition where a newer one is known.
  virtual absl::Status SetTopic(const Advert& advert) = 0;
  /// Nobody joins or publishes any more. Errors: kNotFound; kFailedPrecondition while engines have
  /// joined it.
  virtual absl::Status RemoveTopic(const PublicKey& topic) = 0;

  /// What a transport has received, from anybody. An envelope to an engine is put into its queue,
  /// one to a topic is opened here. `source` is who handed it over, as far as that cannot be made
  /// up; sources have their shares of queues and memories. Blocks: computing, for one signature.
  /// Errors: kNotFound where neither engine nor topic is here; kResourceExhausted where the queue
  /// is full; of what goes to a topic those of OpenEnvelope, ReplayGuard and Engine::Publish.
  virtual absl::Status Deliver(std::string envelope, const Address& source) = 0;

  /// The envelope of a topic's last message, for somebody elsewhere who has joined late. Errors:
  /// kNotFound where there is none, or it never was to leave this process.
  virtual absl::StatusOr<std::string> Retained(const PublicKey& topic) = 0;

  virtual MessageHubStats stats() const = 0;
};

}  // namespace waxvm

#endif  // WAXVM_MESSAGE_HUB_H_
