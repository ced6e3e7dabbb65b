// SPDX-License-Identifier: Apache-2.0
// Endpoints on a network whose datagrams are written down, and may be lost where a test says so.
#ifndef WAXVM_TESTS_COAP_WIRE_H_
#define WAXVM_TESTS_COAP_WIRE_H_

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "waxvm/coap_endpoint.h"
#include "waxvm/coap_message.h"
#include "waxvm/simulated_network.h"

namespace waxvm::coap {

/// A datagram that was sent.
struct Captured {
  SocketAddress from;
  SocketAddress to;
  std::string bytes;
  std::chrono::steady_clock::time_point time;
  bool lost = false;

  MessageView view() const { return MessageView::Parse(ToBytes(bytes)); }
  Type type() const { return view().type(); }
  Code code() const { return view().code(); }
  std::uint16_t id() const { return view().id(); }
  std::string token() const { return std::string(ToText(view().token())); }
  OptionsView options() const { return OptionsView(ToBytes(bytes).subspan(options_at_, options_)); }
  std::string payload() const { return std::string(ToText(view().payload())); }

  std::size_t options_at_ = 0;
  std::size_t options_ = 0;
};

std::ostream& operator<<(std::ostream& out, const Captured& captured);

/// What carries the datagrams.
enum class Carrier { kSimulated, kLoopback };

/// A response or an error, kept.
struct Heard {
  absl::Status status;
  Message message;
  bool more = false;

  Code code() const { return message.code(); }
  const std::string& payload() const { return message.payload(); }
};

/// Time passes only where nothing else can happen, over real sockets as well.
class Wire {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  using Losses = std::function<bool(const Captured&)>;

  explicit Wire(Carrier carrier, const NetworkConditions& conditions = {}, std::uint64_t seed = 1);
  ~Wire();

  /// A socket for an endpoint, or for what a test does by hand.
  std::unique_ptr<DatagramSocket> NewSocket();
  /// The same at an address that had one.
  std::unique_ptr<DatagramSocket> NewSocket(const SocketAddress& address);
  Endpoint& Add(EndpointOptions options = {}, const SocketAddress* address = nullptr);
  void Remove(const Endpoint& endpoint);
  /// Which datagrams the gateway in between loses.
  void Lose(Losses losses) { losses_ = std::move(losses); }

  TimePoint now() const;
  /// Calls it at that time.
  void At(std::chrono::nanoseconds from_now, std::function<void()> what);
  bool RunUntil(const std::function<bool()>& done,
                std::chrono::nanoseconds limit = std::chrono::minutes(10));
  void RunFor(std::chrono::nanoseconds time) {
    RunUntil([] { return false; }, time);
  }
  std::shared_ptr<std::vector<Heard>> Ask(Endpoint& from, const SocketAddress& to,
                                          const Message& message,
                                          const RequestOptions& options = {});
  /// Of the last Ask.
  RequestId last_request() const { return last_; }
  /// Asks and waits for the first that comes of it.
  Heard AskOnce(Endpoint& from, const SocketAddress& to, const Message& message,
                const RequestOptions& options = {});

  std::vector<Captured>& captured() { return captured_; }
  const std::vector<Captured>& captured() const { return captured_; }
  /// Those that were not lost, in their order.
  std::vector<Captured> Arrived() const;
  /// The captured ones as text, for failures.
  std::string ToText() const;

 private:
  friend class RecordingSocket;
  void Record(Captured& captured);
  TimePoint NextTime() const;

  const Carrier carrier_;
  std::optional<SimulatedNetwork> network_;
  TimePoint loopback_now_ = TimePoint(std::chrono::hours(1));
  std::vector<std::unique_ptr<Endpoint>> endpoints_;
  std::vector<std::pair<TimePoint, std::function<void()>>> alarms_;
  std::vector<Captured> captured_;
  Losses losses_;
  RequestId last_;
  std::uint8_t seeds_ = 0;
  std::uint16_t hosts_ = 0;
};

}  // namespace waxvm::coap

#endif  // WAXVM_TESTS_COAP_WIRE_H_
