// SPDX-License-Identifier: Apache-2.0
// Requests: what is refused, who is asked, who observes.
#include "src/coap_endpoint/server.h"

#include <algorithm>
#include <utility>

#include "src/base/deadline.h"
#include "src/coap/observe_order.h"
#include "src/coap/option_rules.h"

namespace waxvm::coap {
namespace {

using std::chrono::milliseconds;
using TimePoint = std::chrono::steady_clock::time_point;

constexpr milliseconds kRetryTime{100};
constexpr std::string_view kDiscovery = "/.well-known/core";
constexpr std::uint64_t kProxyOptions =
    std::uint64_t{1} << static_cast<int>(OptionNumber::kProxyUri) |
    std::uint64_t{1} << static_cast<int>(OptionNumber::kProxyScheme);

AssemblyLimits AssemblyLimitsOf(const EndpointOptions& options) {
  AssemblyLimits limits;
  limits.max_body_bytes = options.max_body_bytes;
  limits.max_total_bytes = options.max_bodies_bytes;
  limits.exponent = options.block_exponent;
  return limits;
}

bool IsUnsafeMethod(Code code) { return code != Code::kGet && code != Code::kFetch; }

template <typename T>
bool Contains(const std::vector<T>& list, T item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

ServedRequest RequestOf(const AnswerContext& context, const IncomingRequest& incoming,
                        Bytes payload) {
  return {.code = incoming.message.code(),
          .options = incoming.message.options(),
          .payload = payload,
          .peer = context.peer,
          .local = context.local,
          .confirmable = incoming.message.type() == Type::kCon,
          .multicast = incoming.multicast,
          .verified = incoming.verified};
}

}  // namespace

Server::Server(MessageLayer& layer, OutgoingBatch& out, const EndpointOptions& options,
               std::shared_ptr<Gate> gate)
    : layer_(layer),
      out_(out),
      options_(options),
      gate_(std::move(gate)),
      observers_(options.max_observers, options.max_observers_per_peer),
      assembler_(AssemblyLimitsOf(options)),
      bodies_({.max_bytes = options.max_bodies_bytes}),
      limiter_(options.max_requests_per_second, options.request_burst),
      scratch_(options.limits.message_bytes + kHeaderBytes) {}

void Server::OnRequest(const Turn& turn, const IncomingRequest& incoming,
                       const SocketAddress& local) {
  const MessageView& message = incoming.message;
  AnswerContext context(*this, turn, message);
  context.peer = incoming.peer;
  context.local = local;
  context.exchange = incoming.exchange;
  context.multicast = incoming.multicast;
  if (Refuse(context, incoming)) return;
  Bytes payload = message.payload();
  AssemblyAnswer assembled;
  if (message.Has(OptionNumber::kBlock1)) {
    if (RefuseStrangersBlock(context, incoming)) return;
    assembled = assembler_.Add(incoming.peer, message, turn.now);
    if (assembled.code != Code::kEmpty) {
      context.answered = true;
      Message answer(assembled.code);
      if (assembled.block1) answer.SetBlock1(*assembled.block1);
      if (assembled.size1) answer.SetSize1(*assembled.size1);
      return SendWhole(context, answer);
    }
    context.block1 = assembled.block1;
    payload = ToBytes(assembled.body);
  }
  if (message.Has(OptionNumber::kBlock2) && Continue(context)) return;
  if ((message.present() & kProxyOptions) != 0) return DispatchProxied(context, incoming, payload);
  Dispatch(context, incoming, payload);
}

bool Server::Refuse(AnswerContext& context, const IncomingRequest& incoming) {
  const MessageView& message = incoming.message;
  if (const OptionCheck check = CheckOptions(message); !check.ok()) {
    // Spec: RFC 7252 section 5.4.1.
    if (message.type() == Type::kNon) {
      Ignore(context);
    } else {
      Send(context, Code::kBadOption, ToBytes(check.ToText()), std::nullopt);
    }
    return true;
  }
  if (const std::uint32_t wait = limiter_.Check(incoming.peer, context.turn.now); wait != 0) {
    ++rate_limited_;
    Send(context, Message(Code::kTooManyRequests).SetMaxAge(wait));
    return true;
  }
  return RefuseStranger(context, incoming, false);
}

bool Server::RefuseStranger(AnswerContext& context, const IncomingRequest& incoming, bool always) {
  if (incoming.verified) return false;
  const bool wanted =
      always || options_.echo_policy == EchoPolicy::kAlways ||
      (options_.echo_policy == EchoPolicy::kUnsafe && IsUnsafeMethod(incoming.message.code()));
  if (!wanted) return false;
  ++challenged_;
  context.answered = true;
  (void)layer_.Challenge(context.turn, context.exchange);
  return true;
}

bool Server::RefuseStrangersBlock(AnswerContext& context, const IncomingRequest& incoming) {
  if (incoming.verified || (incoming.message.present() & kProxyOptions) != 0) return false;
  const std::shared_ptr<Served>* const found = resources_.Find(incoming.message.options());
  return found != nullptr && (*found)->resource.verified.Has(incoming.message.code()) &&
         RefuseStranger(context, incoming, true);
}

bool Server::Continue(AnswerContext& context) {
  const std::optional<Block> asked = context.message->options().block2();
  if (!asked) return false;
  if (!asked->is_legal()) {
    Send(context, Code::kBadRequest, {}, std::nullopt);
    return true;
  }
  if (asked->number == 0) return false;
  if (const BodyStore::Kept* kept = bodies_.Find(context.peer, KeyOf(context), context.turn.now)) {
    context.answered = true;
    SendBlock(context, kept->head, kept->body, /*kept=*/true);
    return true;
  }
  // What changes nothing may be done once more; what comes then tells by its ETag whether it is of
  // the same body.
  if (!IsUnsafeMethod(context.message->code())) return false;
  Send(context, Code::kRequestEntityIncomplete, {}, std::nullopt);
  return true;
}

void Server::DispatchProxied(AnswerContext& context, const IncomingRequest& incoming,
                             Bytes payload) {
  // Attack: one request that makes every member of a group send one on.
  if (incoming.multicast) return Ignore(context);
  const std::shared_ptr<ResourceHandler> proxy = proxy_;
  if (proxy == nullptr) return Send(context, Code::kProxyingNotSupported, {}, std::nullopt);
  const Hop hop = NextHop(incoming.message.options().hop_limit());
  if (hop.code != Code::kEmpty) return Send(context, hop.code, {}, std::nullopt);
  ServedRequest request = RequestOf(context, incoming, payload);
  request.hop_limit = hop.limit;
  Call(context, *proxy, request);
}

void Server::Dispatch(AnswerContext& context, const IncomingRequest& incoming, Bytes payload) {
  const MessageView& message = incoming.message;
  const std::shared_ptr<Served>* found = resources_.Find(message.options());
  // What serves everything below a path does not serve the list, unless it is there for that.
  if (found == nullptr || (*found)->resource.prefix) {
    if (message.options().PathIs(kDiscovery) &&
        (found == nullptr || (*found)->resource.path != kDiscovery))
      return Discover(context);
    if (found == nullptr) return Send(context, Code::kNotFound, {}, std::nullopt);
  }
  // Kept while the handler runs, which may remove it.
  const std::shared_ptr<Served> served = *found;
  Resource& resource = served->resource;
  if (incoming.multicast && !resource.multicast) return Ignore(context);
  if (!resource.methods.Has(message.code()))
    return Send(context, Code::kMethodNotAllowed, {}, std::nullopt);
  if (!Fits(context, resource, payload)) return;
  if (resource.verified.Has(message.code()) && RefuseStranger(context, incoming, true)) return;
  if (resource.observable && message.Has(OptionNumber::kObserve) && !incoming.multicast &&
      !IsUnsafeMethod(message.code()) && !context.block1) {
    const std::optional<std::uint32_t> observe = message.options().observe();
    if (observe == kObserveRegister && RefuseStranger(context, incoming, true)) return;
    if (observe == kObserveRegister) Register(context, served);
    if (observe == kObserveDeregister)
      RemoveObserver(context.turn, observers_.Find(context.peer, message.token()));
  }
  Call(context, resource.handler, RequestOf(context, incoming, payload));
}

void Server::Register(AnswerContext& context, const std::shared_ptr<Served>& served) {
  // The same client and token again renews a registration. Spec: RFC 7641 section 4.1.
  RemoveObserver(context.turn, observers_.Find(context.peer, context.message->token()));
  const std::uint32_t index = observers_.Add(context.peer, context.local, *context.message, served);
  if (index == kNoObserver) {
    ++observers_refused_;
    return;
  }
  observers_[index].confirmed = context.turn.now;
  context.observer = observers_.CookieOf(index);
  out_.Remember(context.peer, context.local);
}

bool Server::Fits(AnswerContext& context, const Resource& resource, Bytes payload) {
  const OptionsView options = context.message->options();
  if (!resource.consumes.empty() && !payload.empty()) {
    const std::optional<ContentFormat> format = options.content_format();
    if (!format || !Contains(resource.consumes, *format)) {
      Send(context, Code::kUnsupportedContentFormat, {}, std::nullopt);
      return false;
    }
  }
  if (!resource.produces.empty() && context.message->Has(OptionNumber::kAccept)) {
    const std::optional<ContentFormat> format = options.accept();
    if (format && !Contains(resource.produces, *format)) {
      Send(context, Code::kNotAcceptable, {}, std::nullopt);
      return false;
    }
  }
  return true;
}

void Server::Discover(AnswerContext& context) {
  const OptionsView options = context.message->options();
  if (context.message->code() != Code::kGet)
    return Send(context, Code::kMethodNotAllowed, {}, std::nullopt);
  if (options.accept().value_or(ContentFormat::kLinkFormat) != ContentFormat::kLinkFormat)
    return Send(context, Code::kNotAcceptable, {}, std::nullopt);
  const std::string links = resources_.Links(options);
  // Of a group, only those who have something to say do. Spec: RFC 6690 section 4.1.
  if (context.multicast && links.empty()) return Ignore(context);
  Send(context, Code::kContent, ToBytes(links), ContentFormat::kLinkFormat);
}

void Server::Call(AnswerContext& context, ResourceHandler& handler, const ServedRequest& request) {
  ++handled_;
  Responder responder(context);
  handler(request, responder);
  if (!context.answered) Send(context, Code::kInternalServerError, {}, std::nullopt);
}

absl::Status Server::Serve(Resource resource) { return resources_.Add(std::move(resource)); }

absl::Status Server::Remove(const Turn& turn, std::string_view path) {
  const std::shared_ptr<Served> served = resources_.Remove(path);
  if (served == nullptr) return absl::NotFoundError("nothing is served at this path");
  const Message gone(Code::kNotFound);
  for (const std::uint32_t index : std::vector<std::uint32_t>(served->observers)) {
    // What could not be told at once is not told: there is nobody to ask about it any more.
    if (!observers_[index].confirming) NotifyOne(turn, index, &gone);
    RemoveObserver(turn, index);
  }
  return absl::OkStatus();
}

std::size_t Server::Notify(const Turn& turn, std::string_view path, const Message* message) {
  const std::shared_ptr<Served> served = resources_.FindPath(path);
  if (served == nullptr) return 0;
  served->next_number = (served->next_number + 1) & kObserveMask;
  const std::vector<std::uint32_t> told = served->observers;
  for (const std::uint32_t index : told) {
    // A handler on the way may have ended some.
    if (!observers_[index].used || observers_[index].served != served) continue;
    if (observers_[index].confirming || notifying_ != 0) {
      NotifyLater(index, message);
    } else {
      NotifyOne(turn, index, message);
    }
  }
  return told.size();
}

void Server::NotifyLater(std::uint32_t index, const Message* message) {
  Observer& observer = observers_[index];
  // Only the newest state is of interest. Spec: RFC 7641 section 4.5.2.
  observer.told_next = message == nullptr ? std::nullopt : std::optional(*message);
  if (observer.changed) return;
  observer.changed = true;
  if (observer.confirming) return;
  retries_.push_back(observers_.CookieOf(index));
}

void Server::NotifyOne(const Turn& turn, std::uint32_t index, const Message* message) {
  Observer& observer = observers_[index];
  observer.changed = false;
  // The handler may end the observation, and its memory with it.
  const std::string request = observer.request;
  const std::shared_ptr<Served> served = observer.served;
  const MessageView view = MessageView::Parse(ToBytes(request));
  AnswerContext context(*this, turn, view);
  context.peer = observer.peer;
  context.local = observer.local;
  context.observer = observers_.CookieOf(index);
  context.notification = true;
  ++notifying_;
  if (message != nullptr) {
    Send(context, *message);
  } else {
    Call(context, served->resource.handler,
         {.code = view.code(),
          .options = view.options(),
          .payload = view.payload(),
          .peer = context.peer,
          .local = context.local,
          .verified = true,
          .notification = true});
  }
  --notifying_;
}

void Server::RemoveObserver(const Turn& turn, std::uint32_t index) {
  if (index == kNoObserver || !observers_[index].used) return;
  if (observers_[index].confirming) layer_.Cancel(turn, observers_[index].last);
  observers_.Remove(index);
}

void Server::OnMessageEnded(const Turn& turn, std::uint64_t cookie,
                            std::optional<Failure> failure) {
  const std::uint32_t index = observers_.FromCookie(cookie);
  if (index == kNoObserver) return;
  // Reset or silent: it is not interested any more. Spec: RFC 7641 section 4.5.
  if (failure) return observers_.Remove(index);
  Observer& observer = observers_[index];
  observer.confirming = false;
  if (!observer.changed) return;
  observer.confirm_next = true;
  const std::optional<Message> message = std::exchange(observer.told_next, std::nullopt);
  NotifyOne(turn, index, message ? &*message : nullptr);
}

TimePoint Server::NextDeadline() const {
  const TimePoint retry = retries_.empty() ? TimePoint::max() : retry_at_;
  return std::min({assembler_.NextDeadline(), bodies_.NextDeadline(), retry});
}

void Server::Expire(const Turn& turn) {
  if (assembler_.NextDeadline() <= turn.now) assembler_.Expire(turn.now);
  if (bodies_.NextDeadline() <= turn.now) bodies_.Expire(turn.now);
  if (!retries_.empty() && retry_at_ <= turn.now) Retry(turn);
}

void Server::Retry(const Turn& turn) {
  const std::vector<std::uint64_t> retries = std::exchange(retries_, {});
  retry_at_ = After(turn.now, kRetryTime);
  for (const std::uint64_t cookie : retries) {
    const std::uint32_t index = observers_.FromCookie(cookie);
    if (index == kNoObserver || !observers_[index].changed || observers_[index].confirming)
      continue;
    const std::optional<Message> message = std::exchange(observers_[index].told_next, std::nullopt);
    NotifyOne(turn, index, message ? &*message : nullptr);
  }
}

void Server::AddStats(EndpointStats& stats) const {
  stats.handled = handled_;
  stats.rate_limited = rate_limited_;
  stats.challenged = challenged_;
  stats.notifications = notifications_;
  stats.observers_refused = observers_refused_;
  stats.observers = observers_.size();
  stats.body_bytes = assembler_.bytes() + bodies_.bytes();
}

}  // namespace waxvm::coap
