// SPDX-License-Identifier: Apache-2.0
// A thin layer over libnats: owners, statuses, and the few calls that mailboxes need.
#ifndef WAXVM_SRC_NATS_JETSTREAM_H_
#define WAXVM_SRC_NATS_JETSTREAM_H_

#include <nats/nats.h>

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace waxvm::nats {

template <auto destroy>
struct Destroy {
  template <typename T>
  void operator()(T* object) const {
    destroy(object);
  }
};
using Message = std::unique_ptr<natsMsg, Destroy<natsMsg_Destroy>>;
using Subscription = std::unique_ptr<natsSubscription, Destroy<natsSubscription_Destroy>>;
using StreamInfo = std::unique_ptr<jsStreamInfo, Destroy<jsStreamInfo_Destroy>>;
using ConsumerInfo = std::unique_ptr<jsConsumerInfo, Destroy<jsConsumerInfo_Destroy>>;

/// kNotFound and kResourceExhausted where the server says so, otherwise kUnavailable.
absl::Status ToStatus(natsStatus status, jsErrCode error, std::string_view what);

/// A connection that comes back by itself.
/// Thread safety: any number of threads.
class JetStream {
 public:
  static absl::StatusOr<std::unique_ptr<JetStream>> Connect(const std::vector<std::string>& servers,
                                                            std::chrono::milliseconds timeout);

  /// Made, or there with exactly this configuration. Errors: kAlreadyExists with another one.
  absl::Status AddStream(jsStreamConfig& config);
  absl::StatusOr<StreamInfo> Stream(const std::string& name);
  absl::Status DeleteStream(const std::string& name);
  absl::StatusOr<std::vector<std::string>> StreamNames();

  absl::Status AddConsumer(const std::string& stream, jsConsumerConfig& config);
  absl::StatusOr<ConsumerInfo> Consumer(const std::string& stream, const std::string& name);
  absl::StatusOr<std::vector<std::string>> ConsumerNames(const std::string& stream);
  absl::Status DeleteConsumer(const std::string& stream, const std::string& name);

  struct Published {
    std::uint64_t sequence = 0;
    bool duplicate = false;
  };
  /// After most replicas have it. `id`: empty, or for deduplication.
  absl::StatusOr<Published> Publish(natsMsg* message, const std::string& stream,
                                    const std::string& id);
  absl::StatusOr<Message> Get(const std::string& stream, std::uint64_t sequence);
  absl::Status DeleteMessage(const std::string& stream, std::uint64_t sequence);
  /// Up to `max` messages of a pull consumer; waits for the first one.
  absl::StatusOr<std::vector<Message>> Fetch(const std::string& stream, const std::string& consumer,
                                             const std::string& subject, int max,
                                             std::int64_t max_bytes,
                                             std::chrono::milliseconds wait);
  /// Sends to where a delivery is settled, and waits until the server has it.
  absl::Status Settle(const std::string& reply_to, const std::string& what);

 private:
  explicit JetStream(std::chrono::milliseconds timeout) : timeout_(timeout) {}
  const std::chrono::milliseconds timeout_;
  std::unique_ptr<natsConnection, Destroy<natsConnection_Destroy>> connection_;
  std::unique_ptr<jsCtx, Destroy<jsCtx_Destroy>> context_;  ///< destroyed first
};

}  // namespace waxvm::nats

#endif  // WAXVM_SRC_NATS_JETSTREAM_H_
