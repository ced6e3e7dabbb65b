// SPDX-License-Identifier: Apache-2.0
#include "tests/coap/wire.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"

namespace waxvm::coap {

using std::chrono::milliseconds;

/// Writes down what is sent, and sends what is not to be lost.
class RecordingSocket final : public DatagramSocket {
 public:
  RecordingSocket(Wire& wire, std::unique_ptr<DatagramSocket> socket)
      : wire_(wire), socket_(std::move(socket)) {}

  absl::StatusOr<std::span<const Datagram>> Receive(std::size_t most) override {
    return socket_->Receive(most);
  }
  absl::StatusOr<std::size_t> Send(std::span<const Datagram> datagrams) override {
    for (const Datagram& datagram : datagrams) {
      Captured captured;
      captured.from = socket_->local_address();
      captured.to = datagram.peer;
      captured.bytes = ToText(datagram.bytes);
      wire_.Record(captured);
      if (captured.lost) continue;
      const auto sent = socket_->Send(std::span(&datagram, 1));
      if (!sent.ok()) return sent;
    }
    return datagrams.size();
  }
  std::size_t TakeErrors(std::span<DatagramError> errors) override {
    return socket_->TakeErrors(errors);
  }
  absl::Status Wait(TimePoint deadline, bool or_writable) override {
    return socket_->Wait(deadline, or_writable);
  }
  void Wake() override { socket_->Wake(); }
  int descriptor() const override { return socket_->descriptor(); }
  SocketAddress local_address() const override { return socket_->local_address(); }
  absl::Status Join(const Address& group, std::uint32_t interface) override {
    return socket_->Join(group, interface);
  }
  absl::Status Leave(const Address& group, std::uint32_t interface) override {
    return socket_->Leave(group, interface);
  }
  DatagramStats stats() const override { return socket_->stats(); }

 private:
  Wire& wire_;
  const std::unique_ptr<DatagramSocket> socket_;
};

std::ostream& operator<<(std::ostream& out, const Captured& captured) {
  static constexpr const char* kTypes[] = {"CON", "NON", "ACK", "RST"};
  out << absl::StrFormat("%d>%d %s %s id %d token %d bytes", captured.from.port, captured.to.port,
                         kTypes[static_cast<int>(captured.type())], ToText(captured.code()),
                         captured.id(), captured.token().size());
  for (const OptionView& option : captured.options())
    out << absl::StrFormat(" %s(%d)", NameOf(option.number), option.value.size());
  return out << absl::StrFormat(" payload %d%s", captured.payload().size(),
                                captured.lost ? " LOST" : "");
}

Wire::Wire(Carrier carrier, const NetworkConditions& conditions, std::uint64_t seed)
    : carrier_(carrier) {
  if (carrier == Carrier::kSimulated)
    network_.emplace(*SimulatedNetwork::Create({.seed = seed, .conditions = conditions}));
}
Wire::~Wire() = default;

std::unique_ptr<DatagramSocket> Wire::NewSocket() {
  SocketAddress address = *SocketAddress::Parse("[::1]:0");
  if (carrier_ == Carrier::kSimulated)
    address = *SocketAddress::Parse(absl::StrFormat("[fd00::%x]:5683", ++hosts_));
  return NewSocket(address);
}

std::unique_ptr<DatagramSocket> Wire::NewSocket(const SocketAddress& address) {
  auto socket =
      network_ ? network_->NewPort(address) : NewUdpSocket({.local = address, .batch = 16});
  EXPECT_TRUE(socket.ok()) << socket.status();
  return std::make_unique<RecordingSocket>(*this, *std::move(socket));
}

Endpoint& Wire::Add(EndpointOptions options, const SocketAddress* address) {
  options.clock = [this] { return now(); };
  std::array<std::uint8_t, 32> seed{};
  seed[0] = ++seeds_;
  options.seed = seed;
  auto made = Endpoint::Create(address == nullptr ? NewSocket() : NewSocket(*address), options);
  EXPECT_TRUE(made.ok()) << made.status();
  endpoints_.push_back(*std::move(made));
  return *endpoints_.back();
}

void Wire::Remove(const Endpoint& endpoint) {
  std::erase_if(endpoints_, [&](const auto& one) { return one.get() == &endpoint; });
}

void Wire::Record(Captured& captured) {
  captured.time = now();
  const MessageView view = MessageView::Parse(ToBytes(captured.bytes));
  if (view.ok()) {
    captured.options_ = view.options().encoded().size();
    if (captured.options_ != 0)
      captured.options_at_ = static_cast<std::size_t>(view.options().encoded().data() -
                                                      ToBytes(captured.bytes).data());
  }
  captured.lost = losses_ && losses_(captured);
  captured_.push_back(captured);
}

Wire::TimePoint Wire::now() const { return network_ ? network_->now() : loopback_now_; }

void Wire::At(std::chrono::nanoseconds from_now, std::function<void()> what) {
  alarms_.emplace_back(now() + from_now, std::move(what));
}

Wire::TimePoint Wire::NextTime() const {
  TimePoint next = TimePoint::max();
  if (network_) next = network_->next_arrival().value_or(next);
  for (const auto& endpoint : endpoints_) next = std::min(next, endpoint->next_deadline());
  for (const auto& [time, what] : alarms_) next = std::min(next, time);
  return next;
}

bool Wire::RunUntil(const std::function<bool()>& done, std::chrono::nanoseconds limit) {
  const TimePoint end = now() + limit;
  for (;;) {
    for (std::size_t i = 0; i < alarms_.size();) {
      if (alarms_[i].first > now()) {
        ++i;
        continue;
      }
      const auto what = std::move(alarms_[i].second);
      alarms_.erase(alarms_.begin() + static_cast<std::ptrdiff_t>(i));
      what();
    }
    // Twice: what one of them sent may be there already for another.
    for (int round = 0; round < 2; ++round)
      for (const auto& endpoint : endpoints_) EXPECT_TRUE(endpoint->Poll(TimePoint()).ok());
    if (done()) return true;
    if (!network_) {
      // Over the loopback interface a datagram is there when it has been sent.
      std::vector<pollfd> waiting;
      for (const auto& endpoint : endpoints_)
        waiting.push_back({endpoint->descriptor(), POLLIN, 0});
      if (poll(waiting.data(), waiting.size(), 0) > 0) continue;
    }
    const TimePoint next = NextTime();
    if (next > end) {
      network_ ? network_->AdvanceTo(end) : void(loopback_now_ = end);
      return done();
    }
    const TimePoint to = std::max(next, now() + std::chrono::microseconds(100));
    network_ ? network_->AdvanceTo(to) : void(loopback_now_ = to);
  }
}

std::shared_ptr<std::vector<Heard>> Wire::Ask(Endpoint& from, const SocketAddress& to,
                                              const Message& message,
                                              const RequestOptions& options) {
  auto heard = std::make_shared<std::vector<Heard>>();
  const auto id = from.Request(
      to, message,
      [heard](const absl::StatusOr<Response>& response) {
        Heard one;
        one.status = response.status();
        if (response.ok()) {
          one.message = Message(response->code, std::string(coap::ToText(response->payload)));
          for (const OptionView& option : response->options)
            one.message.Add(option.number, option.text());
          one.more = response->more;
        }
        heard->push_back(std::move(one));
      },
      options);
  EXPECT_TRUE(id.ok()) << id.status();
  if (id.ok()) last_ = *id;
  return heard;
}

Heard Wire::AskOnce(Endpoint& from, const SocketAddress& to, const Message& message,
                    const RequestOptions& options) {
  const auto heard = Ask(from, to, message, options);
  if (!RunUntil([&] { return !heard->empty(); })) return {absl::UnknownError("nothing"), {}, {}};
  return heard->front();
}

std::vector<Captured> Wire::Arrived() const {
  std::vector<Captured> arrived;
  for (const Captured& captured : captured_)
    if (!captured.lost) arrived.push_back(captured);
  return arrived;
}

std::string Wire::ToText() const {
  std::ostringstream out;
  for (const Captured& captured : captured_) out << captured << '\n';
  return out.str();
}

}  // namespace waxvm::coap
