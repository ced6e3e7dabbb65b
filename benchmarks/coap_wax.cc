// SPDX-License-Identifier: Apache-2.0
// Exchanges between two endpoints, each run by a thread of its own.
#include <atomic>
#include <chrono>
#include <thread>

#include "benchmarks/coap_cases.h"
#include "benchmarks/pin.h"
#include "src/base/status.h"
#include "waxvm/coap_endpoint.h"

namespace waxvm {
namespace {

using coap::Endpoint;
using Clock = std::chrono::steady_clock;

class WaxLoad final : public ExchangeLoad {
 public:
  absl::Status Start(bool confirmable, UdpBackend backend, std::size_t in_flight) {
    in_flight_ = in_flight;
    confirmable_ = confirmable;
    const UdpOptions socket = {.backend = backend, .fragments = false};
    coap::EndpointOptions options;
    options.transmission.nstart = 64;
    options.limits.peers = 2 * kPairs;
    // For each peer, the last 32 messages.
    options.limits.remembered = 32 * kPairs;
    WAXVM_ASSIGN_OR_RETURN(auto server_socket, NewUdpSocket(socket));
    WAXVM_ASSIGN_OR_RETURN(auto client_socket, NewUdpSocket(socket));
    WAXVM_ASSIGN_OR_RETURN(server_, Endpoint::Create(std::move(server_socket), options));
    WAXVM_ASSIGN_OR_RETURN(client_, Endpoint::Create(std::move(client_socket), options));
    WAXVM_RETURN_IF_ERROR(server_->Serve(
        {.path = "/t", .handler = [](const coap::ServedRequest&, coap::Responder& responder) {
           static constexpr std::byte kPayload[kPayloadBytes] = {};
           responder.Send(coap::Code::kContent, kPayload);
         }}));
    request_.SetPath("/t");
    const std::uint16_t port = server_->local_address().port;
    for (std::size_t i = 0; i < kPairs; ++i) {
      servers_.push_back(ServerAddress(i, port));
      clients_.push_back(ClientAddress(i, 0));
    }
    thread_ = std::thread([this] {
      PinTo(/*last=*/true);
      while (!stop_ && server_->Poll(Clock::now() + std::chrono::milliseconds(100)).ok()) {
      }
    });
    PinTo(/*last=*/false);
    return absl::OkStatus();
  }
  ~WaxLoad() override {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }

  absl::Status Run(std::size_t count) override {
    left_ = static_cast<std::ptrdiff_t>(count);
    while (on_their_way_ < in_flight_ && status_.ok()) Ask();
    std::ptrdiff_t before = left_;
    Clock::time_point progress = Clock::now();
    while (left_ > 0 && status_.ok()) {
      status_.Update(client_->Poll(progress + std::chrono::seconds(5)));
      if (left_ == before && Clock::now() - progress < std::chrono::seconds(5)) continue;
      if (left_ == before) return absl::DeadlineExceededError("a response was lost");
      before = left_;
      progress = Clock::now();
    }
    return status_;
  }

  void Count(benchmark::State& state) override {
    const coap::EndpointStats client = client_->stats();
    const coap::EndpointStats server = server_->stats();
    const auto calls = [](const coap::EndpointStats& stats) {
      return static_cast<double>(stats.datagrams.receive_calls + stats.datagrams.send_calls +
                                 stats.datagrams.wait_calls) /
             static_cast<double>(stats.messages.received);
    };
    state.counters["client_calls"] = calls(client);
    state.counters["server_calls"] = calls(server);
    state.counters["early_evictions"] = static_cast<double>(server.messages.early_evictions) /
                                        static_cast<double>(server.messages.received);
    state.counters["lost"] = static_cast<double>(client.messages.retransmissions);
  }

 private:
  void Ask() {
    const std::size_t pair = next_++ % kPairs;
    ++on_their_way_;
    status_.Update(client_
                       ->Request(servers_[pair], request_,
                                 [this](const absl::StatusOr<coap::Response>& response) {
                                   if (!response.ok()) return status_.Update(response.status());
                                   --on_their_way_;
                                   --left_;
                                   Ask();
                                 },
                                 {.confirmable = confirmable_, .local = clients_[pair]})
                       .status());
  }

  std::size_t in_flight_ = 0;
  bool confirmable_ = false;
  std::unique_ptr<Endpoint> server_;
  std::unique_ptr<Endpoint> client_;
  coap::Message request_{coap::Code::kGet};
  std::vector<SocketAddress> servers_;
  std::vector<SocketAddress> clients_;
  std::thread thread_;
  std::atomic<bool> stop_ = false;
  std::size_t next_ = 0;
  std::size_t on_their_way_ = 0;
  std::ptrdiff_t left_ = 0;
  absl::Status status_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ExchangeLoad>> NewWaxLoad(bool confirmable, UdpBackend backend,
                                                         std::size_t in_flight) {
  auto load = std::make_unique<WaxLoad>();
  WAXVM_RETURN_IF_ERROR(load->Start(confirmable, backend, in_flight));
  return load;
}

}  // namespace waxvm
