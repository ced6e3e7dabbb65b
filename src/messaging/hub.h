// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_MESSAGING_HUB_H_
#define WAXVM_SRC_MESSAGING_HUB_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "src/base/mutex.h"
#include "src/messaging/port.h"
#include "src/messaging/topic_state.h"
#include "waxvm/message_hub.h"

namespace waxvm::messaging {

class Hub final : public MessageHub {
 public:
  explicit Hub(const MessageHubOptions& options);
  absl::Status Start();

  absl::Status SetTopic(const Advert& advert) override;
  absl::Status RemoveTopic(const PublicKey& topic) override;
  absl::Status Deliver(std::string envelope, const Address& source) override;
  absl::StatusOr<std::string> Retained(const PublicKey& topic) override;
  MessageHubStats stats() const override;

  // For engines.

  /// Errors: kAlreadyExists.
  absl::Status Add(std::shared_ptr<Port> port);
  void Remove(const Port& port);
  /// Null where there is none.
  std::shared_ptr<Port> Find(const PublicKey& engine) const;
  /// Errors: kNotFound.
  absl::StatusOr<std::shared_ptr<TopicState>> FindTopic(const PublicKey& topic) const;
  absl::Status Join(TopicState& topic, std::shared_ptr<Port> port, std::uint64_t mark,
                    bool retained);
  void Leave(TopicState& topic, const Port* port);

  EngineTransport* transport() const { return options_.transport; }
  std::uint64_t now() const { return options_.clock(); }
  std::uint64_t steady() const { return options_.steady_clock(); }
  bool Allows(const PublicKey& sender) const { return !options_.allow || options_.allow(sender); }

 private:
  absl::Status DeliverToEngine(const PublicKey& engine, std::string envelope,
                               const Address& source);
  absl::Status DeliverToTopic(const PublicKey& topic, std::string envelope, const Address& source);

  MessageHubOptions options_;
  std::atomic<std::uint64_t> delivered_ = 0;
  std::atomic<std::uint64_t> refused_ = 0;
  mutable Mutex mutex_;
  std::map<PublicKey, std::shared_ptr<Port>> ports_ ABSL_GUARDED_BY(mutex_);
  std::map<PublicKey, std::shared_ptr<TopicState>> topics_ ABSL_GUARDED_BY(mutex_);
  /// Held while a transport is told who joins, so that it hears it in order.
  Mutex joining_;
  Mutex guard_mutex_;
  std::unique_ptr<ReplayGuard> guard_ ABSL_GUARDED_BY(guard_mutex_);
};

}  // namespace waxvm::messaging

#endif  // WAXVM_SRC_MESSAGING_HUB_H_
