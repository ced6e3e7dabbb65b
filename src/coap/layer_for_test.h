// SPDX-License-Identifier: Apache-2.0
// One message layer whose other end is the test: datagrams are written by hand.
#ifndef WAXVM_SRC_COAP_LAYER_FOR_TEST_H_
#define WAXVM_SRC_COAP_LAYER_FOR_TEST_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "src/coap/simulated_network_for_test.h"

namespace waxvm::coap {

/// Remembers what it is told, as text, and answers requests as it is told to.
class RecordingHandler : public LayerHandler {
 public:
  void OnRequest(const Turn& turn, const IncomingRequest& request) override {
    ++requests;
    last_exchange = request.exchange;
    last_limit = request.response_limit;
    last_verified = request.verified;
    if (on_request) on_request(turn, request);
  }
  void OnResponse(const Turn& turn, const IncomingResponse& response) override {
    events.push_back("response " + std::to_string(response.cookie) + " " +
                     ToText(response.message.code()) + (response.more ? " more" : ""));
    if (on_response) on_response(turn, response);
  }
  void OnRequestFailed(const Turn&, OutgoingId, std::uint64_t cookie, Failure failure) override {
    events.push_back("failed " + std::to_string(cookie) + NameOf(failure));
  }
  void OnMessageEnded(const Turn&, OutgoingId, std::uint64_t cookie,
                      std::optional<Failure> failure) override {
    events.push_back("ended " + std::to_string(cookie) + (failure ? NameOf(*failure) : ""));
  }

  std::vector<std::string> TakeEvents() { return std::exchange(events, {}); }

  std::function<void(const Turn&, const IncomingRequest&)> on_request;
  std::function<void(const Turn&, const IncomingResponse&)> on_response;
  MessageLayer* layer = nullptr;
  std::vector<std::string> events;
  std::size_t requests = 0;
  ExchangeId last_exchange;
  std::size_t last_limit = 0;
  bool last_verified = false;

 private:
  static std::string NameOf(Failure failure) {
    return failure == Failure::kReset ? " reset" : " timeout";
  }
};

/// A datagram as the test writes it.
struct Written {
  Type type = Type::kCon;
  Code code = Code::kGet;
  std::uint16_t id = 0;
  std::string token = {};
  std::string payload = {};
  std::optional<std::uint64_t> observe = {};
  std::optional<std::uint64_t> max_age = {};
  std::string echo = {};
  std::optional<std::uint64_t> no_response = {};

  std::vector<std::byte> Bytes() const {
    std::vector<std::byte> bytes(2000);
    MessageWriter writer(bytes, type, code, id, ToBytes(token));
    if (observe) writer.UintOption(OptionNumber::kObserve, *observe);
    if (max_age) writer.UintOption(OptionNumber::kMaxAge, *max_age);
    if (!echo.empty()) writer.Option(OptionNumber::kEcho, echo);
    if (no_response) writer.UintOption(OptionNumber::kNoResponse, *no_response);
    writer.Payload(ToBytes(payload));
    bytes.resize(writer.message().size());
    return bytes;
  }
};

/// A layer at TestAddress(1).
struct LayerBench {
  explicit LayerBench(const TransmissionParameters& parameters = {}, const LayerLimits& limits = {},
                      std::uint64_t seed = 1)
      : node(TestAddress(1), handler, parameters, limits, seed) {
    handler.layer = &node.layer();
  }

  MessageLayer& layer() { return node.layer(); }
  const LayerStatistics& statistics() { return node.layer().statistics(); }
  Turn At() { return node.At(now); }
  void Receive(const SocketAddress& from, const Written& written, bool multicast = false) {
    const std::vector<std::byte> bytes = written.Bytes();
    layer().Receive(At(), {bytes, from, multicast});
  }
  void Wait(std::chrono::nanoseconds duration) {
    const Time until = now + duration;
    while (layer().NextTimer() <= until) {
      now = std::max(now + std::chrono::microseconds(1), layer().NextTimer());
      layer().Expire(At());
    }
    now = until;
    layer().Expire(At());
  }
  /// What was sent since the last call, in the form "CON 0.01 id token payload".
  std::vector<Packet> TakeSent() { return std::exchange(node.sent, {}); }

  RecordingHandler handler;
  SimulatedNode node;
  Time now = Time() + std::chrono::hours(1000);
};

/// "ACK 2.05 7 'tok' 'payload'"; the token "*" where it is a request's.
inline std::string Describe(const Packet& packet) {
  constexpr const char* kTypes[] = {"CON", "NON", "ACK", "RST"};
  const MessageView view = MessageView::Parse(packet.bytes, {.max_token_bytes = 32});
  std::string text = kTypes[static_cast<int>(view.type())];
  text += " " + ToText(view.code()) + " " + std::to_string(view.id());
  if (!view.token().empty())
    text += " " + (view.is_request() ? "*" : std::string(ToText(view.token())));
  if (!view.payload().empty()) text += " '" + std::string(ToText(view.payload())) + "'";
  return text;
}
inline std::vector<std::string> Describe(const std::vector<Packet>& packets) {
  std::vector<std::string> lines;
  for (const Packet& packet : packets) lines.push_back(Describe(packet));
  return lines;
}

}  // namespace waxvm::coap

#endif  // WAXVM_SRC_COAP_LAYER_FOR_TEST_H_
