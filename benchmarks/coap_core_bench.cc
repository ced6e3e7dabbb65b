// SPDX-License-Identifier: Apache-2.0
// What the CoAP message layers of both ends cost for an exchange, without a socket: a request from
// one layer to another and its response back, deduplication, timers and thousands of peers on.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "src/coap/message_layer.h"

namespace waxvm::coap {
namespace {

constexpr std::size_t kInFlight = 64;

SocketAddress AddressOf(std::uint32_t host) {
  SocketAddress address;
  address.address.bytes[0] = 0xfd;
  for (std::size_t i = 0; i < 4; ++i)
    address.address.bytes[12 + i] = static_cast<std::uint8_t>(host >> (24 - 8 * i));
  address.port = 5683;
  return address;
}

/// A batch, as one for sendmmsg is.
class Batch : public DatagramSink {
 public:
  std::span<std::byte> Reserve(const SocketAddress& peer, std::size_t bytes) override {
    if (count_ == kInFlight * 2 || bytes > kBytes) return {};
    peers_[count_] = peer;
    return {buffers_[count_].data(), kBytes};
  }
  void Commit(std::size_t bytes) override { sizes_[count_++] = bytes; }

  std::size_t count() const { return count_; }
  Bytes bytes(std::size_t i) const { return {buffers_[i].data(), sizes_[i]}; }
  const SocketAddress& peer(std::size_t i) const { return peers_[i]; }
  void Clear() { count_ = 0; }

 private:
  static constexpr std::size_t kBytes = 256;
  std::array<std::array<std::byte, kBytes>, kInFlight * 2> buffers_;
  std::array<std::size_t, kInFlight * 2> sizes_;
  std::array<SocketAddress, kInFlight * 2> peers_;
  std::size_t count_ = 0;
};

class Handler : public LayerHandler {
 public:
  void OnRequest(const Turn& turn, const IncomingRequest& request) override {
    const std::string_view body =
        "\xff"
        "0123456789abcdef";
    if (!layer->Respond(turn, request.exchange, {.body = ToBytes(body)}).ok()) ++failures;
  }
  void OnResponse(const Turn&, const IncomingResponse&) override { ++responses; }
  void OnRequestFailed(const Turn&, OutgoingId, std::uint64_t, Failure) override { ++failures; }
  void OnMessageEnded(const Turn&, OutgoingId, std::uint64_t, std::optional<Failure>) override {}

  MessageLayer* layer = nullptr;
  std::uint64_t responses = 0;
  std::uint64_t failures = 0;
};

/// 64 exchanges at a time between one client layer for each of `peers` addresses (one object: the
/// server sees the addresses, the client as many servers) and one server layer.
void Exchange(benchmark::State& state, bool confirmable, std::uint32_t peers) {
  // Loopback is faster than message ids come free: the deviation that is counted.
  const TransmissionParameters parameters = {.nstart = kInFlight,
                                             .message_id_exhaustion = MessageIdExhaustion::kReuse};
  const LayerLimits limits = {.peers = std::size_t{peers} + 16,
                              .remembered = std::max<std::size_t>(65536, peers * std::size_t{4})};
  const auto client = std::move(MessageLayer::Create(parameters, limits, {1})).value();
  const auto server = std::move(MessageLayer::Create(parameters, limits, {2})).value();
  const auto requests = std::make_unique<Batch>();
  const auto answers = std::make_unique<Batch>();
  Handler asks;
  Handler serves;
  asks.layer = client.get();
  serves.layer = server.get();
  std::vector<SocketAddress> addresses;
  for (std::uint32_t i = 0; i < peers; ++i) addresses.push_back(AddressOf(i));
  // Uri-Path "a", and 16 bytes.
  const std::string_view body =
      "\xb1"
      "a\xff"
      "0123456789abcdef";
  Time now = std::chrono::steady_clock::now();
  std::size_t next = 0;
  std::uint64_t done = 0;
  for (auto _ : state) {
    const Turn client_turn = {now, *requests, asks};
    const Turn server_turn = {now, *answers, serves};
    for (std::size_t i = 0; i < kInFlight; ++i) {
      next = next + 1 == addresses.size() ? 0 : next + 1;
      const auto id = client->Request(client_turn, addresses[next],
                                      {.confirmable = confirmable, .body = ToBytes(body)});
      if (!id.ok()) state.SkipWithError("a request was refused");
    }
    for (std::size_t i = 0; i < requests->count(); ++i)
      server->Receive(server_turn, {requests->bytes(i), requests->peer(i)});
    requests->Clear();
    for (std::size_t i = 0; i < answers->count(); ++i)
      client->Receive(client_turn, {answers->bytes(i), answers->peer(i)});
    answers->Clear();
    done += kInFlight;
    now += std::chrono::microseconds(4 * kInFlight);  // as long as raw UDP takes for them
    if (client->NextTimer() <= now) client->Expire({now, *requests, asks});
    if (server->NextTimer() <= now) server->Expire({now, *answers, serves});
  }
  if (asks.responses != done || serves.failures != 0) state.SkipWithError("not all were answered");
  state.SetItemsProcessed(static_cast<std::int64_t>(done));
  state.counters["ns_per_exchange"] = benchmark::Counter(
      static_cast<double>(done) * 1e-9, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["early_evictions"] = static_cast<double>(server->statistics().early_evictions);
}

BENCHMARK_CAPTURE(Exchange, con_1_peer, true, 1);
BENCHMARK_CAPTURE(Exchange, con_4000_peers, true, 4000);
BENCHMARK_CAPTURE(Exchange, con_100000_peers, true, 100'000);
BENCHMARK_CAPTURE(Exchange, non_1_peer, false, 1);
BENCHMARK_CAPTURE(Exchange, non_4000_peers, false, 4000);

}  // namespace
}  // namespace waxvm::coap

BENCHMARK_MAIN();
