// SPDX-License-Identifier: Apache-2.0
// What a layer costs: memory for many peers, and no allocation once it is made.
#include <gtest/gtest.h>
#include <malloc.h>

#include <cstdio>
#include <memory>

#include "src/coap/layer_for_test.h"

namespace waxvm::coap {
namespace {

using std::chrono::milliseconds;

/// Keeps what is sent in memory of its own, and gives it to the other end.
class Loop : public DatagramSink {
 public:
  std::span<std::byte> Reserve(const SocketAddress& peer, std::size_t bytes) override {
    peers[count % kSlots] = peer;
    if (count == kSlots || bytes > kBytes) return {};
    return {buffers[count], bytes};
  }
  void Commit(std::size_t bytes) override { sizes[count++] = bytes; }

  static constexpr std::size_t kSlots = 256;
  static constexpr std::size_t kBytes = 1200;
  std::byte buffers[kSlots][kBytes];
  std::size_t sizes[kSlots];
  SocketAddress peers[kSlots];
  std::size_t count = 0;
};

/// Answers at once, or later, without memory of its own.
class QuietHandler : public LayerHandler {
 public:
  void OnRequest(const Turn& turn, const IncomingRequest& request) override {
    ++requests;
    if (requests % 7 == 0 && held < std::size(later)) {
      later[held++] = request.exchange;
      return;
    }
    const std::string& body = requests % 5 == 0 ? long_body_ : short_body_;
    ok += layer->Respond(turn, request.exchange, {.body = ToBytes(body)}).ok();
  }
  void OnResponse(const Turn&, const IncomingResponse&) override { ++responses; }
  void OnRequestFailed(const Turn&, OutgoingId, std::uint64_t, Failure) override { ++failures; }
  void OnMessageEnded(const Turn&, OutgoingId, std::uint64_t, std::optional<Failure>) override {}

  MessageLayer* layer = nullptr;
  ExchangeId later[32];
  std::size_t held = 0;
  std::size_t requests = 0;
  std::size_t responses = 0;
  std::size_t failures = 0;
  std::size_t ok = 0;

 private:
  const std::string long_body_ = "\xff" + std::string(300, 'x');
  const std::string short_body_ =
      "\xff"
      "0123456789abcdef";
};

TEST(LayerMemoryTest, NothingIsAllocatedOnceTheLayersAreMade) {
  const TransmissionParameters parameters = {.nstart = 8,
                                             .probing_rate = 0,
                                             .message_id_exhaustion = MessageIdExhaustion::kReuse,
                                             .amplification_limit = 0};
  auto client = MessageLayer::Create(parameters, {.peers = 64}, TestSeed(1)).value();
  auto server =
      MessageLayer::Create(parameters, {.peers = 64, .remembered = 500}, TestSeed(2)).value();
  const auto to_server = std::make_unique<Loop>();
  const auto to_client = std::make_unique<Loop>();
  QuietHandler asks;
  QuietHandler serves;
  asks.layer = client.get();
  serves.layer = server.get();
  Time now = Time() + std::chrono::hours(1);
  const std::string body = "\xff" + std::string(400, 'q');

  const struct mallinfo2 before = mallinfo2();
  std::uint64_t random = 1;
  for (int round = 0; round < 20'000; ++round) {
    random = random * 6364136223846793005 + 1442695040888963407;
    const Turn client_turn = {now, *to_server, asks};
    const Turn server_turn = {now, *to_client, serves};
    // More peers than the tables hold.
    const SocketAddress peer = TestAddress(static_cast<std::uint32_t>(random >> 40) % 100);
    if (client->usage().outgoing < 60)
      static_cast<void>(
          client->Request(client_turn, peer,
                          {.confirmable = random % 4 != 0,
                           .body = random % 16 == 0 ? ToBytes(body) : ToBytes(body).first(20)}));
    for (std::size_t i = 0; i < to_server->count; ++i)
      if ((random >> (20 + i % 32) & 7) != 0)
        server->Receive(server_turn,
                        {{to_server->buffers[i], to_server->sizes[i]}, to_server->peers[i]});
    to_server->count = 0;
    while (serves.held > 16)
      static_cast<void>(server->Respond(server_turn, serves.later[--serves.held], {}));
    for (std::size_t i = 0; i < to_client->count; ++i)
      if ((random >> (10 + i % 32) & 7) != 0)
        client->Receive(client_turn,
                        {{to_client->buffers[i], to_client->sizes[i]}, to_client->peers[i]});
    to_client->count = 0;
    now += milliseconds(20);
    if (client->NextTimer() <= now) client->Expire(client_turn);
    if (server->NextTimer() <= now) server->Expire(server_turn);
  }
  const struct mallinfo2 after = mallinfo2();
  EXPECT_EQ(after.uordblks, before.uordblks);
  EXPECT_EQ(after.hblkhd, before.hblkhd);
  EXPECT_EQ(after.arena, before.arena);
  EXPECT_GT(asks.responses, 2000u);
  EXPECT_GT(server->statistics().duplicates, 100u);
  EXPECT_GT(server->statistics().peers_evicted, 100u);
  EXPECT_GT(client->statistics().retransmissions, 100u);
}

std::size_t ResidentBytes() {
  std::size_t pages = 0;
  std::size_t resident = 0;
  if (FILE* file = std::fopen("/proc/self/statm", "r"); file != nullptr) {
    if (std::fscanf(file, "%zu %zu", &pages, &resident) != 2) resident = 0;
    std::fclose(file);
  }
  return resident * 4096;
}

TEST(LayerMemoryTest, AHundredThousandPeersFitIn64MiB) {
  constexpr std::size_t kPeers = 100'000;
  constexpr std::size_t kWindow = 5;
  constexpr std::size_t kBound = std::size_t{64} << 20;
  const std::size_t before = ResidentBytes();
  LayerBench bench({.amplification_limit = 0}, {.peers = kPeers,
                                                .remembered = kPeers * kWindow,
                                                .outgoing = 1024,
                                                .deferred = 256,
                                                .blocks = 4096});
  bench.handler.on_request = [&](const Turn& turn, const IncomingRequest& request) {
    const std::string_view body =
        "\xff"
        "0123456789abcdef";
    ASSERT_TRUE(bench.layer().Respond(turn, request.exchange, {.body = ToBytes(body)}).ok());
  };
  const auto round = [&] {
    for (std::uint16_t id = 0; id < kWindow; ++id)
      for (std::uint32_t peer = 0; peer < kPeers; ++peer) {
        bench.Receive(TestAddress(peer + 2), {.id = id, .token = "12345678"});
        bench.node.sent.clear();
      }
  };
  round();
  EXPECT_EQ(bench.layer().usage().peers, kPeers);
  EXPECT_EQ(bench.layer().usage().remembered, kPeers * kWindow);
  EXPECT_LE(bench.layer().memory_bytes(), kBound);
  const std::size_t resident = ResidentBytes() - before;
  RecordProperty("memory_bytes", std::to_string(bench.layer().memory_bytes()));
  RecordProperty("resident_bytes", std::to_string(resident));
  std::printf("%zu bytes taken, %zu more resident: %zu a peer\n", bench.layer().memory_bytes(),
              resident, bench.layer().memory_bytes() / kPeers);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LE(resident, kBound);
#endif
  // All of it is there: every message is recognised, its answer replayed.
  const std::size_t handled = bench.handler.requests;
  round();
  EXPECT_EQ(bench.handler.requests, handled);
  EXPECT_EQ(bench.statistics().duplicates_replayed, kPeers * kWindow);
  EXPECT_EQ(bench.statistics().early_evictions, 0u);
}

}  // namespace
}  // namespace waxvm::coap
