// SPDX-License-Identifier: Apache-2.0
// Two CoAP message layers, a network that the input directs, and an attacker who writes any
// datagram in anybody's name: requests, answers, timers, losses, duplicates, forgeries, in any
// order. Each request ends at most once, a handler runs at most once for each id of a peer, an
// unverified peer gets no more than three times what came from it, nothing is left at the end.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "src/coap/message_layer.h"

namespace waxvm::coap {
namespace {

using std::chrono::milliseconds;

void Require(bool condition) {
  if (!condition) __builtin_trap();
}

/// The input, a byte at a time; zeros behind its end.
class Input {
 public:
  explicit Input(Bytes bytes) : bytes_(bytes) {}
  bool empty() const { return at_ >= bytes_.size(); }
  unsigned Take() { return empty() ? 0 : static_cast<unsigned>(bytes_[at_++]); }
  Bytes TakeBytes(std::size_t size) {
    const Bytes taken = bytes_.subspan(at_, std::min(size, bytes_.size() - at_));
    at_ += taken.size();
    return taken;
  }

 private:
  Bytes bytes_;
  std::size_t at_ = 0;
};

SocketAddress AddressOf(unsigned host) {
  SocketAddress address;
  address.address.bytes[0] = 0xfd;
  address.address.bytes[15] = static_cast<std::uint8_t>(host);
  address.port = 5683;
  return address;
}

struct Packet {
  SocketAddress from;
  SocketAddress to;
  std::vector<std::byte> bytes;
};

constexpr TransmissionParameters kParameters = {.nstart = 3,
                                                .default_leisure = milliseconds(500),
                                                .exchange_lifetime = milliseconds(60'000),
                                                .non_lifetime = milliseconds(40'000),
                                                .response_timeout = milliseconds(30'000)};
constexpr LayerLimits kLimits = {.peers = 6,
                                 .remembered = 24,
                                 .outgoing = 12,
                                 .deferred = 4,
                                 .blocks = 20,
                                 .message_bytes = 400,
                                 .remembered_per_peer = 12,
                                 .outgoing_per_peer = 8,
                                 .deferred_per_peer = 3,
                                 .blocks_per_peer = 12,
                                 .token_bytes = 12};

/// One end; what it sends goes into `wire`.
class End : public DatagramSink, public LayerHandler {
 public:
  End(unsigned host, Input& input, std::vector<Packet>& wire)
      : address(AddressOf(host)),
        layer(
            std::move(MessageLayer::Create(kParameters, kLimits, {static_cast<std::uint8_t>(host)}))
                .value()),
        input_(input),
        wire_(wire) {}

  Turn At(Time now) { return {now, *this, *this}; }

  std::span<std::byte> Reserve(const SocketAddress& peer, std::size_t bytes) override {
    Require(bytes <= kLimits.message_bytes);
    if (full) return {};
    packet_ = {address, peer, std::vector<std::byte>(bytes)};
    return packet_.bytes;
  }
  void Commit(std::size_t bytes) override {
    packet_.bytes.resize(bytes);
    // What it sends can be read. No empty message but an acknowledgement, a reset and a ping.
    const MessageView view = MessageView::Parse(packet_.bytes, {.max_token_bytes = 400});
    Require(view.ok());
    if (!layer->IsVerified(packet_.to) && !view.is_request()) {
      unverified_out[packet_.to] += bytes;
    }
    if (wire_.size() < 64) wire_.push_back(std::move(packet_));
  }

  void OnRequest(const Turn& turn, const IncomingRequest& request) override {
    Require(request.message.is_request());
    // Where nothing was forgotten early, no id of a peer runs twice within its lifetime.
    const auto key = std::pair(request.peer, request.message.id());
    const milliseconds lifetime = request.message.type() == Type::kCon
                                      ? kParameters.exchange_lifetime
                                      : kParameters.non_lifetime;
    const auto found = handled_.find(key);
    if (found != handled_.end() && turn.now < found->second)
      Require(layer->statistics().early_evictions + layer->statistics().peers_evicted != 0);
    // Less what the clock of the lifetimes is rounded by.
    handled_[key] = turn.now + lifetime - milliseconds(140);
    Answer(turn, request.exchange);
  }
  void OnResponse(const Turn&, const IncomingResponse& response) override {
    Require(response.message.is_response());
    Require(open.count(response.request.value) != 0);
    Require(cookies[response.request.value] == response.cookie);
    if (!response.more) open.erase(response.request.value);
  }
  void OnRequestFailed(const Turn&, OutgoingId request, std::uint64_t, Failure) override {
    Require(open.erase(request.value) == 1);
  }
  void OnMessageEnded(const Turn&, OutgoingId message, std::uint64_t,
                      std::optional<Failure>) override {
    Require(cookies.count(message.value) == 1);
    open.erase(message.value);
  }

  void Answer(const Turn& turn, ExchangeId exchange) {
    const unsigned what = input_.Take();
    body_.assign(1 + what * 3 / 2, std::byte{'b'});
    body_[0] = std::byte{0xff};
    absl::Status done;
    switch (what % 8) {
      case 0:
        held.push_back(exchange);
        return;
      case 1:
        done = layer->Ignore(turn, exchange, what % 16 > 7);
        break;
      case 2:
        done = layer->Challenge(turn, exchange);
        break;
      default:
        done = layer->Respond(turn, exchange,
                              {.code = what % 8 == 3 ? Code::kTooManyRequests : Code::kContent,
                               .body = what % 16 > 7 ? Bytes(body_) : Bytes(),
                               .confirmable = what % 32 > 15});
    }
    // Once answered it has ended.
    if (done.ok()) Require(absl::IsNotFound(layer->Ignore(turn, exchange)));
    // For want of slots it may be answered another time.
    if (absl::IsResourceExhausted(done)) held.push_back(exchange);
  }
  void Ask(const Turn& turn, const SocketAddress& peer) {
    const unsigned what = input_.Take();
    body_.assign(1 + what * 3 / 2, std::byte{'q'});
    body_[0] = std::byte{0xff};
    const std::uint64_t cookie = ++asked_;
    absl::StatusOr<OutgoingId> id;
    if (what % 8 < 5) {
      id = layer->Request(turn, peer,
                          {.confirmable = what % 2 == 0,
                           .body = what % 16 > 7 ? Bytes(body_) : Bytes(),
                           .cookie = cookie,
                           .observe = what % 32 > 15,
                           .no_response = what % 64 > 55});
    } else if (what % 8 < 7) {
      id = layer->Send(turn, peer,
                       {.confirmable = what % 16 > 7,
                        .token = Bytes(body_).first(what % 2),
                        .body = Bytes(body_).first(what % 32 > 15 ? body_.size() : 0),
                        .cookie = cookie,
                        .report = what % 64 > 31});
    } else {
      id = layer->Ping(turn, peer, cookie);
    }
    if (!id.ok() || id->value == 0) return;
    // The id is new. A message may end without a word, a request not.
    Require(cookies.emplace(id->value, cookie).second);
    if (what % 8 < 5 || what % 8 == 7) open.insert(id->value);
  }

  const SocketAddress address;
  const std::unique_ptr<MessageLayer> layer;
  bool full = false;
  std::set<std::uint64_t> open;
  std::map<std::uint64_t, std::uint64_t> cookies;
  std::vector<ExchangeId> held;
  std::map<SocketAddress, std::size_t> unverified_out;
  std::map<SocketAddress, std::size_t> in;

 private:
  Input& input_;
  std::vector<Packet>& wire_;
  Packet packet_;
  std::vector<std::byte> body_;
  std::map<std::pair<SocketAddress, std::uint16_t>, Time> handled_;
  std::uint64_t asked_ = 0;
};

class World {
 public:
  explicit World(Bytes bytes) : input_(bytes), a_(1, input_, wire_), b_(2, input_, wire_) {}

  void Run() {
    for (int steps = 0; steps < 400 && !input_.empty(); ++steps) Step();
    // In silence everything ends by itself, but what is held and what is observed.
    for (End* end : {&a_, &b_}) {
      end->full = true;
      for (const ExchangeId exchange : end->held)
        static_cast<void>(end->layer->Ignore(end->At(now_), exchange));
      for (const std::uint64_t id : std::exchange(end->open, {}))
        static_cast<void>(end->layer->Cancel(end->At(now_), {id}));
      for (int i = 0; end->layer->NextTimer() != Time::max(); ++i) {
        Require(i < 100'000);
        now_ = std::max(now_ + std::chrono::microseconds(1), end->layer->NextTimer());
        end->layer->Expire(end->At(now_));
      }
      Require(end->layer->usage().outgoing == 0 && end->layer->usage().deferred == 0);
    }
  }

 private:
  void Step() {
    const unsigned what = input_.Take();
    End& end = what & 1 ? a_ : b_;
    End& other = what & 1 ? b_ : a_;
    switch (what >> 1 & 7) {
      case 0:
        end.Ask(end.At(now_), other.address);
        break;
      case 1:
        end.Ask(end.At(now_), AddressOf(3 + input_.Take() % 10));
        break;
      case 2:
        Deliver(true, what & 16);
        break;
      case 3:
        Deliver(false, what & 16);
        break;
      case 4: {
        const unsigned wait = input_.Take();
        now_ += milliseconds(wait * wait);
        for (End* each : {&a_, &b_}) {
          each->layer->Expire(each->At(now_));
          // Nothing that was due is left.
          Require(each->layer->NextTimer() > now_ - milliseconds(2));
        }
        break;
      }
      case 5:
        if (!end.held.empty()) {
          const ExchangeId exchange = end.held.back();
          end.held.pop_back();
          end.Answer(end.At(now_), exchange);
        }
        break;
      case 6:
        Forge(end, what);
        break;
      default:
        if (what & 16) {
          end.full = !end.full;
        } else if (!end.open.empty()) {
          const std::uint64_t id = *end.open.begin();
          end.open.erase(end.open.begin());
          Require(end.layer->Cancel(end.At(now_), {id}));
        }
    }
  }
  /// A datagram on the wire, first or last, kept there as well or not.
  void Deliver(bool first, bool keep) {
    if (wire_.empty()) return;
    const std::size_t at = first ? 0 : wire_.size() - 1;
    const Packet packet = wire_[at];
    if (!keep) wire_.erase(wire_.begin() + static_cast<std::ptrdiff_t>(at));
    for (End* end : {&a_, &b_})
      if (packet.to == end->address) Receive(*end, packet.from, packet.bytes, false);
  }
  void Receive(End& end, const SocketAddress& from, Bytes bytes, bool multicast) {
    end.in[from] += bytes.size();
    end.layer->Receive(end.At(now_), {bytes, from, multicast});
    // Only to whom it never spoke first: its own requests and pings are not limited.
    if (from.address.bytes[15] > 20 && !end.layer->IsVerified(from))
      Require(end.unverified_out[from] <= 3 * end.in[from]);
  }
  void Forge(End& end, unsigned what) {
    const SocketAddress from =
        AddressOf(what & 32 ? 21 + input_.Take() % 20 : 1 + input_.Take() % 3);
    std::vector<std::byte> bytes;
    if (what & 64 && !wire_.empty()) {
      // A changed copy of what was sent.
      bytes = wire_[input_.Take() % wire_.size()].bytes;
      bytes[input_.Take() % bytes.size()] ^= static_cast<std::byte>(input_.Take());
    } else {
      const Bytes taken = input_.TakeBytes(input_.Take() % 48);
      bytes.assign(taken.begin(), taken.end());
    }
    Receive(end, from, bytes, what & 16 && what & 128);
  }

  Input input_;
  std::vector<Packet> wire_;
  End a_;
  End b_;
  Time now_ = Time() + std::chrono::hours(1);
};

}  // namespace
}  // namespace waxvm::coap

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  waxvm::coap::World({reinterpret_cast<const std::byte*>(data), size}).Run();
  return 0;
}
