// SPDX-License-Identifier: Apache-2.0
#include "src/coap_endpoint/client.h"

#include <algorithm>
#include <cstring>

#include "src/base/deadline.h"
#include "src/base/status.h"
#include "src/coap/block.h"
#include "src/coap/option_rules.h"

namespace waxvm::coap {
namespace {

using TimePoint = std::chrono::steady_clock::time_point;

constexpr std::uint32_t kNone = 0xffffffff;
// A server that challenges for ever is not answered for ever.
constexpr int kMaxEchoes = 2;
// Of a notification that is late. Spec: RFC 7641 section 3.3.1 wants 5 to 15 seconds.
constexpr std::chrono::seconds kRenewalGrace{10};
constexpr std::chrono::hours kMaxRenewal{24};
constexpr std::uint64_t kBlockOptions = std::uint64_t{1}
                                            << static_cast<int>(OptionNumber::kBlock1) |
                                        std::uint64_t{1} << static_cast<int>(OptionNumber::kBlock2);
// The sum of all classes. Spec: RFC 7967 section 2.1.
constexpr std::uint32_t kNoResponseAtAll = 2 | 8 | 16;

absl::Status StatusOf(Failure failure) {
  if (failure == Failure::kReset)
    return absl::AbortedError("the peer rejected the request with a reset");
  return absl::DeadlineExceededError("no (further) response came in time");
}

}  // namespace

Client::Client(MessageLayer& layer, OutgoingBatch& out, const EndpointOptions& options)
    : layer_(layer),
      out_(out),
      options_(options),
      scratch_(options.limits.message_bytes + kHeaderBytes) {}

absl::Status Client::Check(const SocketAddress& peer, const Message& message,
                           const RequestOptions& options) const {
  if (!IsRequest(message.code()))
    return InvalidArgument("code %d is no method", static_cast<int>(message.code()));
  if (peer.port == 0 || peer.address == Address())
    return InvalidArgument("%s is nobody's address", peer.ToText());
  if (options.observe && (message.code() != Code::kGet && message.code() != Code::kFetch))
    return InvalidArgument("only GET and FETCH can observe");
  if (options.observe && peer.is_multicast()) return InvalidArgument("a group cannot be observed");
  // Each member would ask for the next block at a time of its own. Spec: RFC 7959 section 2.8.
  if (peer.is_multicast() && message.payload().size() > std::size_t{16} << options_.block_exponent)
    return InvalidArgument("%d bytes for a group are more than a block of %d",
                           message.payload().size(), std::size_t{16} << options_.block_exponent);
  return message.Check();
}

absl::StatusOr<RequestId> Client::Request(const Turn& turn, const SocketAddress& peer,
                                          const Message& message, ResponseHandler handler,
                                          const RequestOptions& options) {
  if (!closed_.ok()) return closed_;
  if (const absl::Status status = Check(peer, message, options); !status.ok()) return status;
  const std::uint32_t index = Take();
  Pending& pending = pending_[index];
  const Bytes encoded = message.options().encoded();
  pending.request.assign(1, '\x40');
  pending.request.push_back(static_cast<char>(message.code()));
  pending.request.append(2, '\0');
  pending.request.append(ToText(encoded));
  const bool cut = message.payload().size() > std::size_t{16} << options_.block_exponent;
  // Blocks that are asked for by hand; the first one, of some size, asks for all in that size.
  pending.whole = false;
  pending.silent = WantsNoResponse(message);
  for (const OptionView& option : message.options()) {
    if (option.number == OptionNumber::kBlock1) pending.whole = true;
    if (option.number == OptionNumber::kBlock2) {
      const std::optional<Block> block = message.options().block2();
      pending.whole = pending.whole || !block || !block->is_legal() || block->number != 0;
    }
  }
  if (!cut || pending.whole) {
    if (!message.payload().empty()) pending.request.append(1, '\xff').append(message.payload());
  } else {
    Transfer& transfer = TransferOf(pending);
    transfer.upload_body = message.payload();
    transfer.upload.emplace(transfer.upload_body, options_.block_exponent);
    if (!message.options().Has(OptionNumber::kRequestTag))
      transfer.request_tag = RequestTagOf(next_tag_++);
  }
  pending.handler = std::move(handler);
  pending.peer = peer;
  pending.options = options;
  if (options.observe) TransferOf(pending);
  const RequestId id = {CookieOf(index)};
  if (const absl::Status status = Step(turn, index); !status.ok()) {
    Free(index);
    return status;
  }
  return id;
}

bool Client::WantsNoResponse(const Message& message) {
  return (message.options().no_response().value_or(0) & kNoResponseAtAll) == kNoResponseAtAll;
}

Client::Transfer& Client::TransferOf(Pending& pending) {
  if (pending.transfer == nullptr) pending.transfer = std::make_unique<Transfer>();
  return *pending.transfer;
}

Message Client::NextMessage(const Pending& pending) const {
  Message message = Message::From(MessageView::Parse(ToBytes(pending.request)));
  const Transfer* const transfer = pending.transfer.get();
  if (transfer == nullptr) return message;
  if (!transfer->request_tag.empty()) message.SetRequestTag(transfer->request_tag);
  if (transfer->download) {
    message.SetBlock2(transfer->download->next());
  } else if (transfer->upload) {
    const UploadPart part = transfer->upload->Next();
    message.SetBlock1(part.block1).SetPayload(std::string(part.part));
    if (part.size1) message.SetSize1(*part.size1);
  }
  if (pending.options.observe && !transfer->download) message.SetObserve(kObserveRegister);
  if (!transfer->echo.empty()) message.SetEcho(transfer->echo);
  return message;
}

absl::Status Client::Step(const Turn& turn, std::uint32_t index) {
  const Pending& pending = pending_[index];
  if (pending.transfer == nullptr) {
    const auto code = static_cast<Code>(pending.request[1]);
    return Submit(turn, index, code, ToBytes(pending.request).subspan(kHeaderBytes), false);
  }
  const Message message = NextMessage(pending);
  MessageWriter writer(scratch_, Type::kCon, message.code(), 0);
  message.WriteTo(writer);
  if (!writer.ok()) return InvalidArgument("the request does not fit into a message");
  const bool observe = pending.options.observe && !pending.transfer->download;
  return Submit(turn, index, message.code(), writer.message().subspan(kHeaderBytes), observe);
}

absl::Status Client::Submit(const Turn& turn, std::uint32_t index, Code code, Bytes body,
                            bool observe) {
  Pending& pending = pending_[index];
  const bool multicast = pending.peer.is_multicast();
  // Of a long body, each block is answered.
  const bool silent = pending.silent && pending.transfer == nullptr;
  if (pending.options.local.address != Address())
    out_.SetRoute(pending.peer, pending.options.local);
  const bool confirmable = pending.options.confirmable && !multicast;
  const absl::StatusOr<OutgoingId> sent = layer_.Request(turn, pending.peer,
                                                         {.code = code,
                                                          .confirmable = confirmable,
                                                          .body = body,
                                                          .cookie = CookieOf(index),
                                                          .observe = observe,
                                                          .no_response = silent,
                                                          .timeout = pending.options.timeout});
  out_.ForgetRoute();
  if (!sent.ok()) return sent.status();
  if (pending.transfer != nullptr && pending.transfer->download && pending.options.observe) {
    pending.transfer->block_request = *sent;
  } else {
    pending.sent = *sent;
  }
  // Nothing will ever be told of it.
  if (silent && !confirmable) Free(index);
  return absl::OkStatus();
}

bool Client::Cancel(const Turn& turn, RequestId id) {
  const std::uint32_t index = FromCookie(id.value);
  if (index == kNone) return false;
  const Pending& pending = pending_[index];
  layer_.Cancel(turn, pending.sent);
  if (pending.transfer != nullptr && pending.transfer->block_request)
    layer_.Cancel(turn, *pending.transfer->block_request);
  Free(index);
  return true;
}

void Client::CancelAll(const absl::Status& status) {
  for (std::uint32_t index = 0; index < pending_.size(); ++index) {
    if (!pending_[index].used) continue;
    ResponseHandler handler = std::move(pending_[index].handler);
    Free(index);
    if (handler) handler(status);
  }
}

void Client::Close(const absl::Status& status) {
  closed_ = status;
  CancelAll(status);
}

void Client::OnResponse(const Turn& turn, const IncomingResponse& incoming) {
  const std::uint32_t index = FromCookie(incoming.cookie);
  if (index == kNone) return;
  const MessageView& message = incoming.message;
  if (const OptionCheck check = CheckOptions(message); !check.ok()) {
    if (incoming.peer.is_multicast() || incoming.more) return;
    return Fail(turn, index,
                InvalidArgument("the response cannot be understood: %s", check.ToText()));
  }
  Pending& pending = pending_[index];
  if (message.code() == Code::kUnauthorized && AnswerEcho(turn, index, incoming)) return;
  const bool blocks = (message.present() & kBlockOptions) != 0 && !pending.whole;
  // Attack: one member that answers with a block and says that there are more. To ask for them here
  // would be to ask the whole group again, for as long as that one likes.
  if (pending.peer.is_multicast() || (pending.transfer == nullptr && !blocks))
    return Deliver(turn, index,
                   {.peer = incoming.peer,
                    .code = message.code(),
                    .options = message.options(),
                    .payload = message.payload(),
                    .more = incoming.more});
  if (pending.transfer != nullptr && pending.transfer->upload && !pending.transfer->download)
    return OnUploadResponse(turn, index, incoming);
  OnBlock(turn, index, incoming);
}

bool Client::AnswerEcho(const Turn& turn, std::uint32_t index, const IncomingResponse& incoming) {
  Pending& pending = pending_[index];
  const std::optional<std::string_view> echo = incoming.message.options().echo();
  if (!echo || pending.peer.is_multicast()) return false;
  Transfer& transfer = TransferOf(pending);
  if (++transfer.echoes > kMaxEchoes) return false;
  transfer.echo = *echo;
  if (const absl::Status status = Step(turn, index); !status.ok()) Fail(turn, index, status);
  return true;
}

void Client::OnUploadResponse(const Turn& turn, std::uint32_t index,
                              const IncomingResponse& incoming) {
  Transfer& transfer = *pending_[index].transfer;
  transfer.echo.clear();
  const OptionsView options = incoming.message.options();
  switch (transfer.upload->OnResponse(incoming.message.code(), options.block1())) {
    case BlockUpload::Step::kNext:
      if (const absl::Status status = Step(turn, index); !status.ok()) Fail(turn, index, status);
      return;
    case BlockUpload::Step::kFailed:
      return Fail(turn, index, InvalidArgument("the blocks of the peer's answers do not fit"));
    case BlockUpload::Step::kDone:
      return OnBlock(turn, index, incoming);
  }
}

void Client::OnBlock(const Turn& turn, std::uint32_t index, const IncomingResponse& incoming) {
  Pending& pending = pending_[index];
  Transfer& transfer = TransferOf(pending);
  const MessageView& message = incoming.message;
  const OptionsView options = message.options();
  const bool notification = incoming.more && incoming.request == pending.sent;
  if (notification) {
    // What was being fetched is out of date.
    if (!transfer.order.Accept(options.observe().value_or(0), turn.now)) return;
    if (transfer.block_request) layer_.Cancel(turn, *transfer.block_request);
    transfer.block_request.reset();
    transfer.download.reset();
    ScheduleRenewal(turn, index, options);
  } else if (pending.options.observe && incoming.request == pending.sent) {
    // The observation is over, or never began.
    pending.options.observe = false;
    if (transfer.block_request) layer_.Cancel(turn, *transfer.block_request);
    transfer.block_request.reset();
    transfer.download.reset();
  }
  const Response whole = {.peer = incoming.peer,
                          .code = message.code(),
                          .options = options,
                          .payload = message.payload(),
                          .more = pending.options.observe};
  if (!options.block2() || pending.whole) return Deliver(turn, index, whole);
  if (!transfer.download) {
    transfer.download.emplace(DownloadLimits{.max_bytes = options_.max_body_bytes});
    transfer.head = Message::From(message);
  }
  transfer.echo.clear();
  const auto step = transfer.download->OnResponse(options, message.payload());
  if (!step.ok()) return Fail(turn, index, step.status());
  if (*step == BlockDownload::Step::kNext) {
    if (const absl::Status status = Step(turn, index); !status.ok()) Fail(turn, index, status);
    return;
  }
  transfer.block_request.reset();
  if (!IsSuccess(message.code())) {
    transfer.download.reset();
    return Deliver(turn, index, whole);
  }
  Message head = std::move(*transfer.head);
  head.Remove(OptionNumber::kBlock2).SetPayload(transfer.download->TakeBody());
  transfer.download.reset();
  Deliver(turn, index,
          {.peer = incoming.peer,
           .code = head.code(),
           .options = head.options(),
           .payload = ToBytes(head.payload()),
           .more = pending_[index].options.observe});
}

void Client::Deliver(const Turn&, std::uint32_t index, const Response& response) {
  ResponseHandler handler = std::move(pending_[index].handler);
  const std::uint64_t cookie = CookieOf(index);
  if (!response.more) Free(index);
  if (handler) handler(response);
  // Unless it was cancelled meanwhile.
  if (response.more && FromCookie(cookie) == index) pending_[index].handler = std::move(handler);
}

void Client::Fail(const Turn& turn, std::uint32_t index, const absl::Status& status) {
  Pending& pending = pending_[index];
  layer_.Cancel(turn, pending.sent);
  if (pending.transfer != nullptr && pending.transfer->block_request)
    layer_.Cancel(turn, *pending.transfer->block_request);
  ResponseHandler handler = std::move(pending.handler);
  Free(index);
  if (handler) handler(status);
}

void Client::OnRequestFailed(const Turn& turn, OutgoingId request, std::uint64_t cookie,
                             Failure failure) {
  const std::uint32_t index = FromCookie(cookie);
  if (index == kNone) return;
  Transfer* const transfer = pending_[index].transfer.get();
  // Of a notification, the first block is here; the observation may still go on.
  if (transfer != nullptr && transfer->block_request == request &&
      pending_[index].options.observe) {
    transfer->block_request.reset();
    transfer->download.reset();
    return;
  }
  Fail(turn, index, StatusOf(failure));
}

void Client::OnMessageEnded(const Turn& turn, std::uint64_t cookie,
                            std::optional<Failure> failure) {
  const std::uint32_t index = FromCookie(cookie);
  if (index == kNone) return;
  if (failure) return Fail(turn, index, StatusOf(*failure));
  Free(index);
}

void Client::OnUndelivered(const Turn& turn, const SocketAddress& peer,
                           const absl::Status& status) {
  // No room for one datagram, perhaps not even a request's: that is as if it was lost on the way.
  if (absl::IsResourceExhausted(status)) return;
  for (std::uint32_t index = 0; index < pending_.size(); ++index) {
    const Pending& pending = pending_[index];
    if (pending.used && pending.peer.address == peer.address && pending.peer.port == peer.port)
      Fail(turn, index, status);
  }
}

void Client::ScheduleRenewal(const Turn& turn, std::uint32_t index, OptionsView options) {
  Transfer& transfer = *pending_[index].transfer;
  renewals_.erase({transfer.renew_at, index});
  const auto age =
      std::min<std::chrono::seconds>(std::chrono::seconds(options.max_age_seconds()), kMaxRenewal);
  transfer.renew_at = After(turn.now, age + kRenewalGrace);
  renewals_.emplace(transfer.renew_at, index);
}

void Client::Renew(const Turn& turn, std::uint32_t index) {
  Pending& pending = pending_[index];
  layer_.Cancel(turn, pending.sent);
  if (pending.transfer->block_request) layer_.Cancel(turn, *pending.transfer->block_request);
  pending.transfer->block_request.reset();
  pending.transfer->download.reset();
  pending.transfer->order.Reset();
  if (const absl::Status status = Step(turn, index); !status.ok()) Fail(turn, index, status);
}

TimePoint Client::NextDeadline() const {
  return renewals_.empty() ? TimePoint::max() : renewals_.begin()->first;
}

void Client::Expire(const Turn& turn) {
  while (!renewals_.empty() && renewals_.begin()->first <= turn.now) {
    const std::uint32_t index = renewals_.begin()->second;
    renewals_.erase(renewals_.begin());
    pending_[index].transfer->renew_at = TimePoint::max();
    Renew(turn, index);
  }
}

void Client::CollectLocals(Locals& locals) const {
  for (const Pending& pending : pending_)
    if (pending.used && pending.options.local.address != Address())
      locals.emplace(pending.peer, pending.options.local);
}

std::uint32_t Client::Take() {
  std::uint32_t index = 0;
  if (free_.empty()) {
    index = static_cast<std::uint32_t>(pending_.size());
    pending_.emplace_back();
  } else {
    index = free_.back();
    free_.pop_back();
  }
  Pending& pending = pending_[index];
  pending.used = true;
  pending.generation = pending.generation % 0x7fffffff + 1;
  ++used_;
  return index;
}

void Client::Free(std::uint32_t index) {
  Pending& pending = pending_[index];
  if (!pending.used) return;
  if (pending.transfer != nullptr) renewals_.erase({pending.transfer->renew_at, index});
  pending.used = false;
  pending.handler = nullptr;
  pending.transfer = nullptr;
  pending.sent = {};
  // A long one keeps no memory.
  if (pending.request.capacity() > 512) pending.request = {};
  free_.push_back(index);
  --used_;
}

std::uint32_t Client::FromCookie(std::uint64_t cookie) const {
  const auto index = static_cast<std::uint32_t>(cookie);
  if (index >= pending_.size() || !pending_[index].used || CookieOf(index) != cookie) return kNone;
  return index;
}

}  // namespace waxvm::coap
