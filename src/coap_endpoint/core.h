// SPDX-License-Identifier: Apache-2.0
// What an endpoint is made of, and how its turns go.
#ifndef WAXVM_SRC_COAP_ENDPOINT_CORE_H_
#define WAXVM_SRC_COAP_ENDPOINT_CORE_H_

#include <atomic>
#include <memory>
#include <mutex>
#include <thread>

#include "src/coap/message_layer.h"
#include "src/coap_endpoint/client.h"
#include "src/coap_endpoint/outgoing_batch.h"
#include "src/coap_endpoint/server.h"
#include "waxvm/coap_endpoint.h"

namespace waxvm::coap {

/// A turn is what happens at one time, under the gate's mutex. Only who holds `running_` uses the
/// socket, so that it may be one that belongs to a thread.
class Endpoint::Core final : public LayerHandler, public Gate::Owner {
 public:
  Core(std::unique_ptr<DatagramSocket> socket, std::unique_ptr<MessageLayer> layer,
       const EndpointOptions& options);
  ~Core() override;

  absl::Status Poll(TimePoint deadline);
  absl::Status Start();
  TimePoint NextDeadline();
  void Close();

  /// Runs `what` at the current time, and sees to it that what it sends is sent.
  void Take(absl::FunctionRef<void(const Turn&)> what) override;
  void Wake() override { socket_->Wake(); }
  template <typename Result>
  Result TakeFor(absl::FunctionRef<Result(const Turn&)> what) {
    const auto lock = gate_->Lock();
    if (turn_ != nullptr) return what(*turn_);
    std::optional<Result> result;
    Take([&](const Turn& turn) { result.emplace(what(turn)); });
    return *std::move(result);
  }
  bool InHandler();

  Server& server() { return server_; }
  Client& client() { return client_; }
  DatagramSocket& socket() { return *socket_; }
  /// Whoever waits for it is woken by whatever there is to do from then on.
  int WatchedDescriptor() {
    watched_ = true;
    return socket_->descriptor();
  }
  EndpointStats stats();

  // What the message layer tells.
  void OnRequest(const Turn& turn, const IncomingRequest& request) override;
  void OnResponse(const Turn& turn, const IncomingResponse& response) override;
  void OnRequestFailed(const Turn& turn, OutgoingId request, std::uint64_t cookie,
                       Failure failure) override;
  void OnMessageEnded(const Turn& turn, OutgoingId message, std::uint64_t cookie,
                      std::optional<Failure> failure) override;

 private:
  TimePoint Now() const { return options_.clock ? options_.clock() : TimePoint::clock::now(); }
  TimePoint NextDeadlineLocked() const;
  absl::Status PollLocked(TimePoint deadline);
  /// Handles what has come; whether anything had.
  absl::StatusOr<bool> TakeTurn();
  void Receive(const Turn& turn, std::span<const Datagram> datagrams);
  void TakeErrors(const Turn& turn);
  void Run();

  const EndpointOptions options_;
  const std::unique_ptr<DatagramSocket> socket_;
  const std::unique_ptr<MessageLayer> layer_;
  const std::shared_ptr<Gate> gate_;
  OutgoingBatch out_;
  Server server_;
  Client client_;
  const SocketAddress* local_ = nullptr;  ///< of the datagram that is being handled
  const Turn* turn_ = nullptr;            ///< that is being taken
  bool more_ = true;                      ///< a whole batch came the last time
  std::uint64_t truncated_ = 0;

  std::mutex running_;                 ///< held by whoever runs it
  std::atomic<bool> waiting_ = false;  ///< somebody is to be woken when there is something to do
  std::atomic<bool> watched_ = false;  ///< by an event loop, which waits outside of Poll
  std::atomic<bool> stop_ = false;
  std::atomic<bool> started_ = false;
  std::thread thread_;
};

}  // namespace waxvm::coap

#endif  // WAXVM_SRC_COAP_ENDPOINT_CORE_H_
