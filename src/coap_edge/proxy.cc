// SPDX-License-Identifier: Apache-2.0
#include "src/coap_edge/proxy.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "src/coap/block.h"
#include "src/coap/option_rules.h"
#include "src/coap_edge/translation.h"

namespace waxvm::coap::edge {
namespace {

constexpr std::size_t kDuplicatesPerSession = 64;
constexpr std::chrono::seconds kBodyLifetime{60};
constexpr std::size_t kMaxOptions = 256;
constexpr std::chrono::seconds kBetweenConfirmable{2};
// How long an observer may say nothing before it is asked whether it is there.
constexpr std::chrono::hours kConfirmAfter{1};
// Header, token, option headers: what a message has besides options and payload, at most.
constexpr std::size_t kOverhead = 24;

bool ChangesThings(Code method) { return method != Code::kGet && method != Code::kFetch; }

AssemblyLimits AssemblyOf(const EdgeLimits& limits) {
  AssemblyLimits assembly;
  assembly.max_body_bytes = limits.max_body_bytes;
  assembly.max_total_bytes = limits.max_bodies_bytes;
  return assembly;
}

/// The assembler tells peers apart by their address; here it is the session that counts.
SocketAddress PeerOf(SessionId session) {
  SocketAddress peer;
  for (std::size_t i = 0; i < sizeof session; ++i)
    peer.address.bytes[i] = static_cast<std::uint8_t>(session >> (8 * i));
  return peer;
}

/// A request in the form that the parts of the CoAP core read.
class Encoded {
 public:
  explicit Encoded(const OutsideRequest& request)
      : bytes_(request.message.options().encoded().size() + request.message.payload().size() +
               request.token.size() + kOverhead) {
    MessageWriter writer(bytes_, Type::kCon, request.message.code(), request.mid,
                         ToBytes(request.token));
    request.message.WriteTo(writer);
    if (writer.ok()) view_ = MessageView::Parse(writer.message(), {.max_options = kMaxOptions});
  }
  const MessageView& view() const { return view_; }

 private:
  std::vector<std::byte> bytes_;
  MessageView view_;
};

}  // namespace

Proxy::Proxy(const EdgeOptions& options, Policy policy,
             const std::array<std::uint8_t, EchoIssuer::kKeyBytes>& echo_key, Outside& outside,
             InsideClient& inside, AnswerPost post)
    : limits_(options.limits),
      verify_before_change_(options.verify_before_change),
      policy_(std::move(policy)),
      echo_(echo_key, std::chrono::seconds(120)),
      outside_(outside),
      inside_(inside),
      post_(std::move(post)),
      duplicates_(kDuplicatesPerSession, options.limits.max_bodies_bytes),
      bodies_(options.limits.max_bodies_bytes, kBodyLifetime),
      assembler_(AssemblyOf(options.limits)) {}

Proxy::~Proxy() {
  while (!exchanges_.empty()) Erase(exchanges_.begin(), true);
}

void Proxy::OnRequest(Session& session, OutsideRequest request, TimePoint now) {
  now_ = now;
  if (session.is_datagram()) {
    if (const auto* reply = duplicates_.FindOrAdd(session.id, request.mid, now)) {
      ++stats_.duplicates;
      return Repeat(session, request, *reply);
    }
  }
  ++stats_.requests;
  const OptionsView options = request.message.options();
  Asked asked = {.session = session.id,
                 .token = request.token,
                 .mid = request.mid,
                 .confirmable = request.confirmable,
                 .acknowledged = false,
                 .wire_bytes = request.wire_bytes,
                 .no_response = options.no_response(),
                 .block1 = std::nullopt,
                 .block2 = options.block2(),
                 .body_key = BodyKeyOf(request.message)};
  Handle(session, request, std::move(asked), now);
}

void Proxy::Handle(Session& session, OutsideRequest& request, Asked asked, TimePoint now) {
  const Encoded encoded(request);
  if (RefuseOptions(encoded.view(), asked)) return;
  const auto hop_limit = request.message.options().hop_limit();
  const Hop hop = request.hop_counted && hop_limit
                      ? Hop{Code::kEmpty, static_cast<std::uint8_t>(*hop_limit)}
                      : NextHop(hop_limit);
  if (hop.code != Code::kEmpty) {
    if (hop.code == Code::kHopLimitReached) ++stats_.loops;
    return AnswerCode(asked, hop.code);
  }
  if (Challenge(session, request.message, asked, now)) return;
  if (AnswerDiscovery(session, request.message, asked)) return;
  // Before anything is kept for the request.
  Decision decision =
      policy_.Decide(session.identity, request.message.code(), request.message.options());
  if (decision.refusal != Code::kEmpty) {
    ++stats_.refused;
    return AnswerCode(asked, decision.refusal);
  }
  if (TakeBlock(encoded.view(), request, asked, now)) return;
  if (AnswerFromBody(request.message, asked, now)) return;
  if (RefuseForLimits(session, asked)) return;
  Forward(session, request.message, std::move(asked), std::move(decision), hop.limit, now);
}

bool Proxy::RefuseOptions(const MessageView& view, const Asked& asked) {
  if (!view.ok()) {
    AnswerCode(asked, Code::kBadRequest);
    return true;
  }
  bool good = CheckOptions(view).ok();
  // Spec: RFC 7252 section 5.7.1.
  for (const OptionView& option : view.options())
    good = good && (!IsUnsafe(option.number) || !NameOf(option.number).empty());
  if (!good) AnswerCode(asked, Code::kBadOption);
  return !good;
}

bool Proxy::Challenge(Session& session, const Message& message, const Asked& asked, TimePoint now) {
  if (session.transport != EdgeTransport::kUdp || session.verified) return false;
  const OptionsView options = message.options();
  if (const auto echo = options.echo(); echo && echo_.IsFresh(*echo, session.peer, now)) {
    session.verified = true;
    return false;
  }
  // Attacks: requests in the name of somebody else, who would get all notifications, or whose
  // change this would be.
  if (options.observe() != 0u && !(verify_before_change_ && ChangesThings(message.code())))
    return false;
  Answer(asked, std::make_shared<const Message>(ChallengeFor(session, now)), now);
  return true;
}

Message Proxy::ChallengeFor(const Session& session, TimePoint now) {
  ++stats_.challenged;
  return Message(Code::kUnauthorized).SetEcho(echo_.Make(session.peer, now));
}

bool Proxy::AnswerDiscovery(const Session& session, const Message& message, const Asked& asked) {
  const OptionsView options = message.options();
  if (message.code() != Code::kGet || options.proxy_uri() || options.proxy_scheme() ||
      !options.PathIs("/.well-known/core"))
    return false;
  Message links(Code::kContent);
  links.SetPayload(ContentFormat::kLinkFormat, policy_.Discovery(session.identity));
  Answer(asked, std::make_shared<const Message>(std::move(links)), now_);
  return true;
}

bool Proxy::TakeBlock(const MessageView& view, OutsideRequest& request, Asked& asked,
                      TimePoint now) {
  if (request.message.options().block1()) {
    AssemblyAnswer answer = assembler_.Add(PeerOf(asked.session), view, now);
    asked.block1 = answer.block1;
    if (answer.code != Code::kEmpty) {
      if (!IsSuccess(answer.code)) ++stats_.over_limit;
      auto response = std::make_shared<Message>(answer.code);
      if (answer.size1) response->SetSize1(*answer.size1);
      Answer(asked, std::move(response), now);
      return true;
    }
    request.message.SetPayload(std::move(answer.body));
  }
  if (request.message.payload().size() <= limits_.max_body_bytes) return false;
  ++stats_.over_limit;
  AnswerCode(asked, Code::kRequestEntityTooLarge);
  return true;
}

bool Proxy::AnswerFromBody(const Message& message, const Asked& asked, TimePoint now) {
  if (!asked.block2 || asked.block2->number == 0) return false;
  if (const Bodies::Whole whole = bodies_.Find(asked.session, asked.body_key, now)) {
    Answer(asked, whole, now);
    return true;
  }
  // A GET may be asked again; anything else would be done twice.
  if (!ChangesThings(message.code())) return false;
  AnswerCode(asked, Code::kRequestEntityIncomplete);
  return true;
}

bool Proxy::RefuseForLimits(const Session& session, const Asked& asked) {
  const auto source = sources_.find(session.source);
  const bool too_many =
      source != sources_.end() && source->second.requests >= limits_.requests_per_source;
  if (!too_many && exchanges_.size() - observations_.size() < limits_.requests) return false;
  ++stats_.over_limit;
  Message response(too_many ? Code::kTooManyRequests : Code::kServiceUnavailable);
  response.SetMaxAge(1);
  Answer(asked, std::make_shared<const Message>(std::move(response)), now_);
  return true;
}

void Proxy::Forward(Session& session, const Message& message, Asked asked, Decision decision,
                    std::uint8_t hop_limit, TimePoint now) {
  const auto observe = message.options().observe();
  if (observe) EndObservation(session.id, asked.token);
  const std::uint64_t id = next_exchange_++;
  Exchange exchange;
  exchange.asked = std::move(asked);
  exchange.source = session.source;
  exchange.datagram = session.is_datagram();
  exchange.wants_notifications = observe == 0u && !ChangesThings(message.code());
  exchange.deadline = now + limits_.request_time;
  // Without an acknowledgement the client repeats its request, and each time there is one answer:
  // nobody is sent more than asked for in the name of.
  if (exchange.datagram && exchange.asked.confirmable &&
      (session.verified || session.transport == EdgeTransport::kDtls))
    exchange.acknowledge_at = now + limits_.ack_delay;
  InsideClient::Call call = {
      .peer = decision.address,
      .request = InwardOf(message, decision.uri, decision.address.port, hop_limit),
      .observe = exchange.wants_notifications,
      .timeout = limits_.request_time,
      .max_body_bytes = limits_.max_body_bytes};
  exchange.decision = std::move(decision);
  const auto at = exchanges_.emplace(id, std::move(exchange)).first;
  by_session_.emplace(session.id, id);
  ++sources_[session.source].requests;
  outside_.Hold(session.id);
  ++stats_.forwarded;
  const auto inside = inside_.Request(
      std::move(call), [post = post_, id](absl::StatusOr<Message> answer, bool more) {
        post(id, std::move(answer), more);
      });
  if (!inside.ok()) {
    Answer(at->second.asked, Outward(at->second, inside.status()), now);
    return Erase(at, false);
  }
  at->second.inside = *inside;
  SetTimer(at, std::min(at->second.deadline, at->second.acknowledge_at.value_or(TimePoint::max())));
}

void Proxy::Repeat(const Session& session, const OutsideRequest& request,
                   const Duplicates::Reply& reply) {
  if (!request.confirmable) return;
  if (reply.acknowledged) {
    outside_.Acknowledge(session.id, request.mid);
  } else if (reply.message != nullptr) {
    outside_.Send(session.id, Carriage::kPiggybacked, request.mid, reply.token, *reply.message);
  }
}

void Proxy::AnswerCode(const Asked& asked, Code code) {
  Answer(asked, std::make_shared<const Message>(code), now_);
}

Message Proxy::PartOf(const Asked& asked, const std::shared_ptr<const Message>& whole,
                      std::optional<std::uint32_t> observe, TimePoint now) {
  Message part = *whole;
  if (observe) part.SetObserve(*observe);
  if (asked.block1) part.SetBlock1(*asked.block1);
  const Session* session = outside_.Find(asked.session);
  const std::size_t room = outside_.RoomOf(asked.session);
  const std::size_t options = part.options().encoded().size() + kOverhead;
  const std::size_t one_block = std::size_t{16} << Block::kMaxExponent;
  const bool fits =
      part.payload().size() + options <= room &&
      (session == nullptr || !session->is_datagram() || part.payload().size() <= one_block);
  // A failure is no part of the body that was asked for.
  const std::optional<Block> block2 = IsSuccess(whole->code()) ? asked.block2 : std::nullopt;
  if (fits && !block2) return part;
  std::uint8_t exponent = Block::kMaxExponent;
  while (exponent > 0 && (std::size_t{16} << exponent) + options > room) --exponent;
  const BlockSender sender(std::shared_ptr<const std::string>(whole, &whole->payload()), exponent);
  const BlockAnswer answer = sender.Serve(block2);
  if (answer.code != Code::kContent) return Message(answer.code);
  part.SetPayload(std::string(answer.part));
  if (answer.size2) part.SetSize2(*answer.size2);
  if (!answer.block2) return part;
  part.SetBlock2(*answer.block2);
  if (answer.block2->more) bodies_.Put(asked.session, asked.body_key, whole, now);
  return part;
}

void Proxy::Answer(const Asked& asked, std::shared_ptr<const Message> whole, TimePoint now,
                   std::optional<std::uint32_t> observe) {
  const Session* session = outside_.Find(asked.session);
  if (session == nullptr) return;
  if (whole->code() == Code::kHopLimitReached) ++stats_.loops;
  if (IsSuppressed(asked.no_response, whole->code())) {
    if (!session->is_datagram() || !asked.confirmable || asked.acknowledged) return;
    if (auto* reply = duplicates_.Find(asked.session, asked.mid)) reply->acknowledged = true;
    return outside_.Acknowledge(asked.session, asked.mid);
  }
  auto part = std::make_shared<Message>(PartOf(asked, whole, observe, now));
  // Attack: a forged source address, so that the answer goes to a victim.
  if (session->transport == EdgeTransport::kUdp && !session->verified &&
      part->options().encoded().size() + part->payload().size() + kHeaderBytes +
              asked.token.size() >
          3 * asked.wire_bytes &&
      !part->options().echo())
    *part = ChallengeFor(*session, now);
  Carriage carriage = Carriage::kNonConfirmable;
  if (asked.confirmable)
    carriage = asked.acknowledged ? Carriage::kConfirmable : Carriage::kPiggybacked;
  outside_.Send(asked.session, carriage, asked.mid, asked.token, *part);
  if (session->is_datagram() && carriage == Carriage::kPiggybacked)
    duplicates_.Keep(asked.session, asked.mid, std::move(part), asked.token);
}

std::shared_ptr<const Message> Proxy::Outward(const Exchange& exchange,
                                              const absl::StatusOr<Message>& answer) {
  if (!answer.ok()) return std::make_shared<const Message>(CodeOf(answer.status()));
  return std::make_shared<const Message>(
      OutwardOf(*answer, exchange.decision, limits_.max_body_bytes));
}

void Proxy::OnAnswer(std::uint64_t exchange, absl::StatusOr<Message> answer, bool more,
                     TimePoint now) {
  now_ = now;
  const auto at = exchanges_.find(exchange);
  if (at == exchanges_.end()) return;
  auto whole = Outward(at->second, answer);
  const bool goes_on = more && answer.ok() && IsSuccess(whole->code());
  if (at->second.observing) return Notify(at, std::move(whole), !goes_on, now);
  if (goes_on && at->second.wants_notifications) return Begin(at, std::move(whole), now);
  if (whole->code() == Code::kGatewayTimeout) ++stats_.timeouts;
  Answer(at->second.asked, std::move(whole), now);
  Erase(at, more);
}

void Proxy::Begin(Exchanges::iterator at, std::shared_ptr<const Message> whole, TimePoint now) {
  Exchange& exchange = at->second;
  Source& source = sources_[exchange.source];
  if (observations_.size() >= limits_.observations ||
      source.observations >= limits_.observations_per_source) {
    ++stats_.over_limit;
    Answer(exchange.asked, std::move(whole), now);
    return Erase(at, true);
  }
  Answer(exchange.asked, whole, now, ++exchange.number);
  exchange.observing = true;
  exchange.latest = std::move(whole);
  --source.requests;
  ++source.observations;
  observations_[{exchange.asked.session, exchange.asked.token}] = at->first;
  // What follows answers no request.
  exchange.asked.no_response = std::nullopt;
  exchange.asked.block2 = std::nullopt;
  SetTimer(at, exchange.datagram ? now + kConfirmAfter : TimePoint::max());
}

void Proxy::Notify(Exchanges::iterator at, std::shared_ptr<const Message> whole, bool last,
                   TimePoint now) {
  Exchange& exchange = at->second;
  ++stats_.notifications;
  exchange.number = (exchange.number + 1) & 0xffffff;
  const Message part =
      PartOf(exchange.asked, whole,
             last ? std::nullopt : std::optional<std::uint32_t>(exchange.number), now);
  // libcoap says when a confirmable message was reset or given up, and nothing of others. One at a
  // time, so that a client that is gone does not fill its queue; what comes meanwhile goes without,
  // and the latest of it again when there is time. Spec: RFC 7641 sections 4.5 and 4.5.2.
  TimePoint& at_earliest = confirmable_at_[exchange.asked.session];
  const bool confirmable = last || now >= at_earliest;
  outside_.Send(exchange.asked.session,
                confirmable ? Carriage::kConfirmable : Carriage::kNonConfirmable, 0,
                exchange.asked.token, part);
  if (last) return Erase(at, true);
  exchange.latest = std::move(whole);
  if (confirmable) at_earliest = now + kBetweenConfirmable;
  if (exchange.datagram) SetTimer(at, confirmable ? now + kConfirmAfter : at_earliest);
}

void Proxy::OnRejected(SessionId session, const std::string& token) {
  EndObservation(session, token);
}

void Proxy::EndObservation(SessionId session, const std::string& token) {
  const auto at = observations_.find({session, token});
  if (at != observations_.end()) Erase(exchanges_.find(at->second), true);
}

void Proxy::OnClosed(SessionId session) {
  for (auto at = by_session_.lower_bound({session, 0});
       at != by_session_.end() && at->first == session;) {
    const auto exchange = exchanges_.find(at->second);
    ++at;
    Erase(exchange, true);
  }
  duplicates_.Forget(session);
  bodies_.Forget(session);
  confirmable_at_.erase(session);
}

void Proxy::OnTime(TimePoint now) {
  now_ = now;
  assembler_.Expire(now);
  bodies_.Expire(now);
  while (!timers_.empty() && timers_.begin()->first <= now) {
    const auto at = exchanges_.find(timers_.begin()->second);
    Exchange& exchange = at->second;
    if (exchange.observing) {
      Notify(at, exchange.latest, false, now);
    } else if (exchange.deadline <= now) {
      ++stats_.timeouts;
      AnswerCode(exchange.asked, Code::kGatewayTimeout);
      Erase(at, true);
    } else {
      exchange.asked.acknowledged = true;
      if (auto* reply = duplicates_.Find(exchange.asked.session, exchange.asked.mid))
        reply->acknowledged = true;
      outside_.Acknowledge(exchange.asked.session, exchange.asked.mid);
      SetTimer(at, exchange.deadline);
    }
  }
}

TimePoint Proxy::NextDeadline() const {
  const TimePoint timer = timers_.empty() ? TimePoint::max() : timers_.begin()->first;
  return std::min(timer, assembler_.NextDeadline());
}

void Proxy::SetTimer(Exchanges::iterator at, TimePoint when) {
  timers_.erase({at->second.timer, at->first});
  at->second.timer = when;
  if (when != TimePoint::max()) timers_.emplace(when, at->first);
}

void Proxy::Erase(Exchanges::iterator at, bool cancel) {
  Exchange& exchange = at->second;
  SetTimer(at, TimePoint::max());
  if (cancel && exchange.inside != 0) inside_.Cancel(exchange.inside);
  const auto source = sources_.find(exchange.source);
  if (exchange.observing) {
    observations_.erase({exchange.asked.session, exchange.asked.token});
    --source->second.observations;
  } else {
    --source->second.requests;
  }
  if (source->second.requests + source->second.observations == 0) sources_.erase(source);
  by_session_.erase({exchange.asked.session, at->first});
  outside_.Release(exchange.asked.session);
  exchanges_.erase(at);
}

const EdgeStats& Proxy::stats() {
  stats_.observations_now = observations_.size();
  stats_.requests_now = exchanges_.size() - observations_.size();
  stats_.body_bytes = bodies_.bytes() + duplicates_.bytes() + assembler_.bytes();
  return stats_;
}

}  // namespace waxvm::coap::edge
