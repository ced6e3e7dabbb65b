// SPDX-License-Identifier: Apache-2.0
// Answers: what the endpoint adds to them, how they are cut, and those that come later.
#include <utility>

#include "src/coap/block.h"
#include "src/coap/cache.h"
#include "src/coap_endpoint/server.h"

namespace waxvm::coap {

bool Server::IsPlain(const AnswerContext& context, Bytes payload) const {
  return context.observer == 0 && !context.block1 &&
         payload.size() <= std::size_t{16} << options_.block_exponent &&
         (context.message->present() &
          (std::uint64_t{1} << static_cast<int>(OptionNumber::kBlock2) |
           std::uint64_t{1} << static_cast<int>(OptionNumber::kETag))) == 0;
}

void Server::Send(AnswerContext& context, Code code, Bytes payload,
                  std::optional<ContentFormat> format) {
  if (context.answered) return;
  context.answered = true;
  if (!IsPlain(context, payload) || !IsResponse(code)) {
    Message response(code, std::string(ToText(payload)));
    if (format) response.SetContentFormat(*format);
    return SendComposed(context, std::move(response));
  }
  MessageWriter writer(scratch_, Type::kCon, code, 0);
  if (format) writer.UintOption(OptionNumber::kContentFormat, static_cast<std::uint64_t>(*format));
  writer.Payload(payload);
  Submit(context, code, writer.message().subspan(kHeaderBytes));
}

void Server::Send(AnswerContext& context, const Message& response) {
  if (context.answered) return;
  context.answered = true;
  if (IsPlain(context, ToBytes(response.payload())) && IsResponse(response.code()))
    return SendWhole(context, response);
  SendComposed(context, response);
}

void Server::SendComposed(AnswerContext& context, Message response) {
  if (!IsResponse(response.code())) response = Message(Code::kInternalServerError);
  const OptionsView asked = context.message->options();
  // The client has it already. Spec: RFC 7252 section 5.10.6.2.
  if (const auto etag = response.options().etag();
      etag && response.code() == Code::kContent && HasCurrent(asked, *etag)) {
    Message valid(Code::kValid);
    valid.AddETag(*etag);
    if (response.options().Has(OptionNumber::kMaxAge))
      valid.SetMaxAge(response.options().max_age_seconds());
    response = std::move(valid);
  }
  const std::uint32_t observer =
      context.observer == 0 ? kNoObserver : observers_.FromCookie(context.observer);
  // It was ended meanwhile.
  if (context.notification && observer == kNoObserver) return;
  if (observer != kNoObserver && response.code() == Code::kContent) {
    const std::optional<ContentFormat> format = response.options().content_format();
    // It asked for one format, and would take another for it. Spec: RFC 7641 section 4.2.
    if (context.notification && format != observers_[observer].format)
      response = Message(Code::kNotAcceptable);
    else
      observers_[observer].format = format;
  }
  if (observer != kNoObserver && IsSuccess(response.code()))
    response.SetObserve(observers_[observer].served->next_number);
  if (context.block1) response.SetBlock1(*context.block1);
  const bool success = IsSuccess(response.code());
  if (response.payload().size() > std::size_t{16} << options_.block_exponent ||
      (success && !context.notification && context.message->Has(OptionNumber::kBlock2))) {
    auto body = std::make_shared<const std::string>(response.payload());
    response.SetPayload({});
    SendBlock(context, std::move(response), std::move(body), /*kept=*/false);
  } else {
    SendWhole(context, response);
  }
  // Spec: RFC 7641 section 4.2.
  if (observer != kNoObserver && !success) RemoveObserver(context.turn, observer);
}

void Server::SendBlock(AnswerContext& context, Message head,
                       std::shared_ptr<const std::string> body, bool kept) {
  const std::optional<Block> asked =
      context.notification ? std::nullopt : context.message->options().block2();
  const BlockSender sender(body, options_.block_exponent);
  const BlockAnswer answer = sender.Serve(asked);
  if (answer.code != Code::kContent) return SendWhole(context, Message(answer.code));
  const bool several = answer.block2 && (answer.block2->more || answer.block2->number != 0);
  if (several && head.code() == Code::kContent && !head.options().Has(OptionNumber::kETag))
    head.AddETag(ETagOf(*body));
  Message part = head;
  part.SetPayload(std::string(answer.part));
  if (answer.block2) part.SetBlock2(*answer.block2);
  if (answer.size2) part.SetSize2(*answer.size2);
  // Each further block is asked for on its own, and is no notification.
  if (kept) part.Remove(OptionNumber::kObserve);
  SendWhole(context, part);
  if (several && !kept) {
    head.Remove(OptionNumber::kObserve).Remove(OptionNumber::kBlock1);
    bodies_.Put(context.peer, KeyOf(context), {std::move(head), std::move(body)}, context.turn.now);
  }
}

std::string Server::KeyOf(const AnswerContext& context) const {
  std::string key;
  AppendCacheKey(*context.message, CacheKeyFor::kBlocks, key);
  // Of a FETCH, each request for a block carries what is asked for, unless that came in blocks.
  if (context.message->code() == Code::kFetch && !context.message->Has(OptionNumber::kBlock1))
    key.append(ToText(context.message->payload()));
  return key;
}

void Server::SendWhole(AnswerContext& context, const Message& response) {
  MessageWriter writer(scratch_, Type::kCon, response.code(), 0);
  response.WriteTo(writer);
  if (!writer.ok()) return Submit(context, Code::kInternalServerError, {});
  Submit(context, response.code(), writer.message().subspan(kHeaderBytes));
}

void Server::Submit(AnswerContext& context, Code code, Bytes body) {
  if (context.notification) return SubmitNotification(context, code, body);
  absl::Status status =
      layer_.Respond(context.turn, context.exchange, {.code = code, .body = body});
  // Options that leave no room for what they belong to.
  if (absl::IsInvalidArgument(status))
    status = layer_.Respond(context.turn, context.exchange, {.code = Code::kInternalServerError});
  if (!status.ok()) (void)layer_.Ignore(context.turn, context.exchange);
}

void Server::SubmitNotification(AnswerContext& context, Code code, Bytes body) {
  const std::uint32_t index = observers_.FromCookie(context.observer);
  if (index == kNoObserver) return;
  Observer& observer = observers_[index];
  const Time now = context.turn.now;
  const bool confirmable = observer.confirm_next ||
                           observer.since_confirmed + 1 >= options_.confirm_every ||
                           now - observer.confirmed >= options_.confirm_after;
  const std::string request = observer.request;
  const absl::StatusOr<OutgoingId> sent =
      layer_.Send(context.turn, observer.peer,
                  {.code = code,
                   .confirmable = confirmable,
                   .token = MessageView::Parse(ToBytes(request)).token(),
                   .body = body,
                   .cookie = context.observer});
  // Told within that call that it has ended.
  if (observers_.FromCookie(context.observer) != index) return;
  if (absl::IsResourceExhausted(sent.status())) return NotifyLater(index, nullptr);
  if (!sent.ok()) return observers_.Remove(index);
  ++notifications_;
  observer.confirm_next = false;
  observer.since_confirmed = confirmable ? 0 : observer.since_confirmed + 1;
  if (!confirmable) return;
  observer.confirming = true;
  observer.confirmed = now;
  observer.last = *sent;
}

void Server::Ignore(AnswerContext& context) {
  if (context.answered) return;
  context.answered = true;
  if (!context.notification) (void)layer_.Ignore(context.turn, context.exchange);
}

DeferredResponder Server::Defer(AnswerContext& context) {
  if (context.answered) return {};
  context.answered = true;
  out_.Remember(context.peer, context.local);
  return DeferredResponder(std::make_unique<DeferredState>(gate_, context));
}

void Server::SendDeferred(const Turn& turn, const DeferredAnswer& answer, const Message& response) {
  const MessageView message = MessageView::Parse(ToBytes(answer.request));
  AnswerContext context(*this, turn, message);
  context.peer = answer.peer;
  context.local = answer.local;
  context.exchange = answer.exchange;
  context.block1 = answer.block1;
  context.observer = answer.observer;
  context.notification = answer.notification;
  context.multicast = answer.multicast;
  Send(context, response);
}

DeferredState::DeferredState(std::shared_ptr<Gate> to, const AnswerContext& context)
    : gate_(std::move(to)),
      server_(&context.server),
      answer_({.request = Keep(*context.message),
               .peer = context.peer,
               .local = context.local,
               .exchange = context.exchange,
               .block1 = context.block1,
               .observer = context.observer,
               .notification = context.notification,
               .multicast = context.multicast}) {}

DeferredState::~DeferredState() { Send(Message(Code::kInternalServerError)); }

void DeferredState::Send(const Message& response) {
  if (std::exchange(sent_, true)) return;
  const std::unique_lock<std::recursive_mutex> lock(gate_->mutex, std::try_to_lock);
  if (!lock) return gate_->Post({std::move(answer_), response});
  if (gate_->owner == nullptr) return;
  gate_->owner->Take([&](const Turn& turn) { server_->SendDeferred(turn, answer_, response); });
}

DeferredResponder::DeferredResponder() = default;
DeferredResponder::DeferredResponder(std::unique_ptr<DeferredState> state)
    : state_(std::move(state)) {}
DeferredResponder::~DeferredResponder() = default;
DeferredResponder::DeferredResponder(DeferredResponder&&) noexcept = default;
DeferredResponder& DeferredResponder::operator=(DeferredResponder&&) noexcept = default;

void DeferredResponder::Send(const Message& response) {
  if (state_ != nullptr) state_->Send(response);
}

void Responder::Send(Code code, Bytes payload, std::optional<ContentFormat> format) {
  context_.server.Send(context_, code, payload, format);
}
void Responder::Send(const Message& response) { context_.server.Send(context_, response); }
DeferredResponder Responder::Defer() { return context_.server.Defer(context_); }
void Responder::Ignore() { context_.server.Ignore(context_); }

bool Responder::PreconditionsHold(std::optional<std::string_view> etag) {
  if (coap::PreconditionsHold(context_.message->options(), etag)) return true;
  Send(Code::kPreconditionFailed);
  return false;
}

}  // namespace waxvm::coap
