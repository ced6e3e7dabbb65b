// SPDX-License-Identifier: Apache-2.0
// Endpoints on a simulated network, in a time of its own.
#ifndef WAXVM_SRC_COAP_ENDPOINT_ENDPOINT_FOR_TEST_H_
#define WAXVM_SRC_COAP_ENDPOINT_ENDPOINT_FOR_TEST_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "waxvm/coap_endpoint.h"
#include "waxvm/simulated_network.h"

namespace waxvm::coap {

inline std::array<std::uint8_t, 32> SeedOf(std::uint8_t number) {
  std::array<std::uint8_t, 32> seed{};
  seed[0] = number;
  return seed;
}

/// A response or an error, kept.
struct Heard {
  absl::Status status;
  Message message;
  SocketAddress peer;
  bool more = false;

  Code code() const { return message.code(); }
  const std::string& payload() const { return message.payload(); }
};

class SimulatedWorld {
 public:
  using TimePoint = SimulatedNetwork::TimePoint;

  explicit SimulatedWorld(const NetworkConditions& conditions = {}, std::uint64_t seed = 1)
      : network(*SimulatedNetwork::Create({.seed = seed, .conditions = conditions})) {}

  Endpoint& Add(std::string_view at, EndpointOptions options = {}) {
    options.clock = [this] { return network.now(); };
    options.seed = SeedOf(static_cast<std::uint8_t>(endpoints.size() + 1));
    auto made = Endpoint::Create(*network.NewPort(*SocketAddress::Parse(at)), options);
    EXPECT_TRUE(made.ok()) << made.status();
    endpoints.push_back(*std::move(made));
    return *endpoints.back();
  }
  void Remove(const Endpoint& endpoint) {
    std::erase_if(endpoints, [&](const auto& one) { return one.get() == &endpoint; });
  }

  /// Lets things happen until `done`, or until `limit` has passed or nothing will happen any more.
  bool RunUntil(const std::function<bool()>& done,
                std::chrono::nanoseconds limit = std::chrono::minutes(10)) {
    const TimePoint end = network.now() + limit;
    for (;;) {
      for (const auto& endpoint : endpoints) EXPECT_TRUE(endpoint->Poll(network.now()).ok());
      if (done()) return true;
      TimePoint next = network.next_arrival().value_or(TimePoint::max());
      for (const auto& endpoint : endpoints) next = std::min(next, endpoint->next_deadline());
      if (next > end) {
        network.AdvanceTo(end);
        return done();
      }
      network.AdvanceTo(std::max(next, network.now() + std::chrono::microseconds(100)));
    }
  }
  void RunFor(std::chrono::nanoseconds time) {
    RunUntil([] { return false; }, time);
  }

  /// What comes of a request, while it comes.
  std::shared_ptr<std::vector<Heard>> Ask(Endpoint& from, const Endpoint& to,
                                          const Message& message,
                                          const RequestOptions& options = {}) {
    return Ask(from, to.local_address(), message, options);
  }
  std::shared_ptr<std::vector<Heard>> Ask(Endpoint& from, const SocketAddress& to,
                                          const Message& message,
                                          const RequestOptions& options = {}) {
    auto heard = std::make_shared<std::vector<Heard>>();
    const auto id = from.Request(
        to, message,
        [heard](const absl::StatusOr<Response>& response) {
          Heard one;
          one.status = response.status();
          if (response.ok()) {
            one.message = Message(response->code, std::string(ToText(response->payload)));
            for (const OptionView& option : response->options)
              one.message.Add(option.number, option.text());
            one.peer = response->peer;
            one.more = response->more;
          }
          heard->push_back(std::move(one));
        },
        options);
    EXPECT_TRUE(id.ok()) << id.status();
    if (id.ok()) last = *id;
    return heard;
  }
  /// Asks, and waits for the first that comes of it.
  Heard AskOnce(Endpoint& from, const Endpoint& to, const Message& message,
                const RequestOptions& options = {}) {
    const auto heard = Ask(from, to, message, options);
    if (!RunUntil([&] { return !heard->empty(); })) return {absl::UnknownError("nothing"), {}, {}};
    return heard->front();
  }

  SimulatedNetwork network;
  std::vector<std::unique_ptr<Endpoint>> endpoints;
  RequestId last;
};

inline Message Get(std::string_view path) { return Message(Code::kGet).SetPath(path); }

/// Bytes that are not the same anywhere.
inline std::string LongText(std::size_t bytes) {
  std::string text;
  for (std::size_t i = 0; text.size() < bytes; ++i) text += std::to_string(i) + " ";
  text.resize(bytes);
  return text;
}

}  // namespace waxvm::coap

#endif  // WAXVM_SRC_COAP_ENDPOINT_ENDPOINT_FOR_TEST_H_
