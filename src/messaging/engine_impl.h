// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_MESSAGING_ENGINE_IMPL_H_
#define WAXVM_SRC_MESSAGING_ENGINE_IMPL_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "src/base/mutex.h"
#include "src/messaging/hub.h"
#include "src/messaging/port.h"
#include "src/messaging/topic_reader.h"
#include "waxvm/engine.h"

namespace waxvm::messaging {

class EngineImpl final : public Engine {
 public:
  EngineImpl(Hub& hub, const Signer& identity, const EngineOptions& options);
  ~EngineImpl() override;
  absl::Status Open();

  const PublicKey& key() const override { return port_->key; }
  absl::StatusOr<std::uint64_t> SendMessage(const PublicKey& to, Message& message,
                                            const SendOptions& options) override;
  absl::StatusOr<Published> PublishMessage(const PublicKey& topic, Message message,
                                           const PublishOptions& options) override;
  absl::Status Join(const PublicKey& topic, JoinOptions options) override;
  absl::Status Leave(const PublicKey& topic) override;
  std::size_t Poll(std::size_t most) override;
  absl::StatusOr<int> descriptor() override;
  int next_timeout() const override;
  absl::Status Start() override;
  void Stop() override;
  EngineStats stats() const override;
  absl::StatusOr<TopicStats> topic_stats(const PublicKey& topic) const override;

  /// Decodes what was opened, and has it handled: what Poll does after the ReplayGuard.
  void Dispatch(const EnvelopeFields& fields);

 private:
  /// Above it those of engines that have ended are given back. Each has an inbox.
  static constexpr std::size_t kLeastPorts = 16;

  /// Somebody who was sent something.
  struct Peer {
    std::shared_ptr<Port> port = nullptr;  ///< null: not of this process
    std::uint64_t next_sequence = 0;
  };
  /// Written by one thread, read by any.
  struct Counter {
    std::atomic<std::uint64_t> count = 0;
    void Add() {
      count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
    std::uint64_t get() const { return count.load(std::memory_order_relaxed); }
  };

  absl::Status Register(MessageType type, Handler handler) override;
  absl::Status CheckThread() const;
  /// Ports that nobody needs any more, to be dropped without the lock: what waits in them goes with
  /// them, and may send when it goes.
  using Ports = std::vector<std::shared_ptr<Port>>;
  Peer& PeerOf(const PublicKey& to, Ports& dropped) ABSL_EXCLUSIVE_LOCKS_REQUIRED(peers_mutex_);
  void DropClosed(Ports& dropped) ABSL_EXCLUSIVE_LOCKS_REQUIRED(peers_mutex_);
  absl::StatusOr<std::uint64_t> SendElsewhere(const PublicKey& to, std::uint64_t sequence,
                                              Message& message, const SendOptions& options);

  bool PollInbox();
  bool PollRemote();
  void HandleLetter(const Letter& letter, void* storage);
  void HandleTopic(const TopicReader::Handed& handed);
  /// An object of another type than the handler's, or bytes.
  void DecodeFor(Handler& handler, std::string_view bytes, const MessageInfo& info);
  Handler* FindHandler(const MessageInfo& info);
  void TellError(const MessageInfo& info, absl::StatusCode code, std::string_view text);
  bool MayTellError();
  void Sleep(bool more);
  void Run();

  Hub& hub_;
  const Signer& identity_;
  const EngineOptions options_;
  const std::shared_ptr<Port> port_;
  std::unique_ptr<ReplayGuard> guard_;
  bool added_ = false;

  // Of whoever polls.
  // Each where it stays: one that is running, and replaces itself, must not be moved meanwhile.
  std::unordered_map<MessageType, std::unique_ptr<Handler>> handlers_;
  std::vector<std::unique_ptr<Handler>> replaced_;  ///< one of them may be running
  TopicReader reader_;
  std::uint64_t error_second_ = 0;
  std::uint32_t errors_told_ = 0;

  Mutex peers_mutex_;
  std::map<PublicKey, Peer> peers_ ABSL_GUARDED_BY(peers_mutex_);
  std::map<PublicKey, Peer>::iterator last_peer_ ABSL_GUARDED_BY(peers_mutex_);
  std::size_t ports_ ABSL_GUARDED_BY(peers_mutex_) = 0;  ///< that peers_ has at most
  std::size_t tidy_at_ ABSL_GUARDED_BY(peers_mutex_) = kLeastPorts;

  std::thread thread_;
  std::atomic<std::thread::id> thread_id_ = std::thread::id();
  std::atomic<bool> stop_ = false;

  struct {
    Counter handled, unknown_types, malformed, expired, refused, replays, told, withheld;
  } counts_;
};

}  // namespace waxvm::messaging

#endif  // WAXVM_SRC_MESSAGING_ENGINE_IMPL_H_
