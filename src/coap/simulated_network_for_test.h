// SPDX-License-Identifier: Apache-2.0
// Message layers that speak with one another over a network that loses, doubles, delays and
// reorders datagrams, all from one seed.
#ifndef WAXVM_SRC_COAP_SIMULATED_NETWORK_FOR_TEST_H_
#define WAXVM_SRC_COAP_SIMULATED_NETWORK_FOR_TEST_H_

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <random>
#include <utility>
#include <vector>

#include "src/coap/message_layer.h"

namespace waxvm::coap {

/// fd00::`host`, port 5683.
inline SocketAddress TestAddress(std::uint32_t host, std::uint16_t port = 5683) {
  SocketAddress address;
  address.address.bytes[0] = 0xfd;
  for (int i = 0; i < 4; ++i)
    address.address.bytes[12 + i] = static_cast<std::uint8_t>(host >> (24 - 8 * i));
  address.port = port;
  return address;
}

inline std::array<std::uint8_t, 32> TestSeed(std::uint64_t number) {
  std::mt19937_64 random(number);
  std::array<std::uint8_t, 32> seed;
  for (std::uint8_t& byte : seed) byte = static_cast<std::uint8_t>(random());
  return seed;
}

struct Weather {
  double loss = 0;
  double duplication = 0;
  std::chrono::milliseconds least_delay{5};
  std::chrono::milliseconds most_delay{50};
};

struct Packet {
  SocketAddress from;
  SocketAddress to;
  std::vector<std::byte> bytes;
};

/// One message layer with its address. What arrives is given to it by the network.
class SimulatedNode : public DatagramSink {
 public:
  SimulatedNode(const SocketAddress& address, LayerHandler& handler,
                const TransmissionParameters& parameters, const LayerLimits& limits,
                std::uint64_t seed)
      : address_(address),
        handler_(handler),
        layer_(std::move(MessageLayer::Create(parameters, limits, TestSeed(seed))).value()) {}

  const SocketAddress& address() const { return address_; }
  MessageLayer& layer() { return *layer_; }
  Turn At(Time now) { return {now, *this, handler_}; }

  std::span<std::byte> Reserve(const SocketAddress& peer, std::size_t bytes) override {
    packet_ = {address_, peer, std::vector<std::byte>(bytes)};
    return packet_.bytes;
  }
  void Commit(std::size_t bytes) override {
    packet_.bytes.resize(bytes);
    sent.push_back(std::move(packet_));
  }
  std::vector<Packet> sent;  ///< since the network last took it

 private:
  const SocketAddress address_;
  LayerHandler& handler_;
  std::unique_ptr<MessageLayer> layer_;
  Packet packet_;
};

class SimulatedNetwork {
 public:
  SimulatedNetwork(std::uint64_t seed, const Weather& weather) : random_(seed), weather_(weather) {}

  void Attach(SimulatedNode& node) { nodes_.push_back(&node); }
  void SetWeather(const Weather& weather) { weather_ = weather; }
  Time now() const { return now_; }
  /// Sees each datagram when it is sent.
  std::function<void(const Packet&)> watch;

  /// Puts a datagram on the wire.
  void Send(Packet packet) {
    if (watch) watch(packet);
    if (Chance(weather_.loss)) return;
    if (Chance(weather_.duplication)) Schedule(packet);
    Schedule(std::move(packet));
  }

  /// Runs what happens until `until`, or until nothing is to happen any more.
  void RunUntil(Time until) {
    while (true) {
      Collect();
      Time next = arrivals_.empty() ? Time::max() : arrivals_.begin()->first;
      for (SimulatedNode* node : nodes_) next = std::min(next, node->layer().NextTimer());
      if (next == Time::max() || next > until) {
        if (until != Time::max()) now_ = std::max(now_, until);
        return;
      }
      // A timer within a step of the wheel is due by then.
      now_ = std::max(now_, next);
      Deliver();
      for (SimulatedNode* node : nodes_)
        if (node->layer().NextTimer() <= now_) {
          node->layer().Expire(node->At(now_));
          if (node->layer().NextTimer() <= now_) now_ += std::chrono::microseconds(100);
        }
    }
  }
  void RunFor(std::chrono::nanoseconds duration) { RunUntil(now_ + duration); }
  void RunUntilQuiet() { RunUntil(Time::max()); }

 private:
  bool Chance(double probability) {
    return probability > 0 && std::uniform_real_distribution<>(0, 1)(random_) < probability;
  }
  void Schedule(Packet packet) {
    const std::int64_t least = std::chrono::nanoseconds(weather_.least_delay).count();
    const std::int64_t most = std::chrono::nanoseconds(weather_.most_delay).count();
    const std::chrono::nanoseconds delay(
        std::uniform_int_distribution<std::int64_t>(least, most)(random_));
    arrivals_.emplace(now_ + delay, std::move(packet));
  }
  void Collect() {
    for (SimulatedNode* node : nodes_)
      for (Packet& packet : std::exchange(node->sent, {})) Send(std::move(packet));
  }
  void Deliver() {
    while (!arrivals_.empty() && arrivals_.begin()->first <= now_) {
      const Packet packet = std::move(arrivals_.begin()->second);
      arrivals_.erase(arrivals_.begin());
      const bool group = packet.to.is_multicast();
      for (SimulatedNode* node : nodes_)
        if (group ? node->address() != packet.from : node->address() == packet.to)
          node->layer().Receive(node->At(now_), {packet.bytes, packet.from, group});
      Collect();
    }
  }

  std::mt19937_64 random_;
  Weather weather_;
  Time now_ = Time() + std::chrono::hours(1);
  std::vector<SimulatedNode*> nodes_;
  std::multimap<Time, Packet> arrivals_;
};

}  // namespace waxvm::coap

#endif  // WAXVM_SRC_COAP_SIMULATED_NETWORK_FOR_TEST_H_
