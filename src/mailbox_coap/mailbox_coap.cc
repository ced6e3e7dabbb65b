// SPDX-License-Identifier: Apache-2.0
#include "waxvm/mailbox_coap.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "src/base/status.h"

namespace waxvm {
namespace {

using coap::Code;
using coap::DeferredResponder;
using coap::Message;
using coap::OptionNumber;
using coap::Responder;
using coap::ServedRequest;
using std::chrono::milliseconds;

constexpr std::uint32_t kRetryAfterSeconds = 5;
constexpr std::uint64_t kMaxSeconds = 366ull * 24 * 3600;

Code CodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return Code::kBadRequest;
    case absl::StatusCode::kUnauthenticated:
      return Code::kUnauthorized;
    case absl::StatusCode::kPermissionDenied:
      return Code::kForbidden;
    case absl::StatusCode::kNotFound:
      return Code::kNotFound;
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAborted:
      return Code::kPreconditionFailed;
    case absl::StatusCode::kResourceExhausted:
      return Code::kTooManyRequests;
    case absl::StatusCode::kUnimplemented:
      return Code::kNotImplemented;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kCancelled:
      return Code::kServiceUnavailable;
    default:
      return Code::kInternalServerError;
  }
}

/// What went wrong inside is nobody's business outside.
Message Refusal(const absl::Status& status) {
  const Code code = CodeOf(status);
  Message message(code);
  if (coap::ClassOf(code) == 4) message.SetPayload(std::string(status.message()));
  if (code == Code::kTooManyRequests || code == Code::kServiceUnavailable)
    message.SetMaxAge(kRetryAfterSeconds);
  return message;
}

/// What the request's path and query say.
struct Asked {
  std::string mailbox;
  std::map<char, std::string> words = {};  ///< of one letter each

  bool Has(char letter) const { return words.count(letter) != 0; }
  std::string Get(char letter) const {
    const auto found = words.find(letter);
    return found == words.end() ? "" : found->second;
  }
  absl::StatusOr<milliseconds> Seconds(char letter, milliseconds otherwise) const {
    const auto found = words.find(letter);
    if (found == words.end()) return otherwise;
    std::uint64_t seconds = 0;
    for (const char digit : found->second) {
      if (digit < '0' || digit > '9' || seconds > kMaxSeconds)
        return InvalidArgument("%c: not a whole number of seconds", letter);
      seconds = 10 * seconds + static_cast<std::uint64_t>(digit - '0');
    }
    if (found->second.empty() || seconds > kMaxSeconds)
      return InvalidArgument("%c: not from 0 to %d seconds", letter, kMaxSeconds);
    return milliseconds(1'000 * seconds);
  }
};

absl::StatusOr<Asked> Understand(const ServedRequest& request, std::size_t segments_before,
                                 std::string_view allowed) {
  std::vector<std::string_view> path;
  request.options.ForEach(OptionNumber::kUriPath,
                          [&](std::string_view segment) { path.push_back(segment); });
  if (path.size() != segments_before + 1) return absl::NotFoundError("a mailbox has one name");
  Asked asked = {.mailbox = std::string(path.back())};
  absl::Status wrong;
  request.options.ForEach(OptionNumber::kUriQuery, [&](std::string_view word) {
    if (word.size() < 2 || word[1] != '=' || allowed.find(word[0]) == allowed.npos ||
        !asked.words.emplace(word[0], word.substr(2)).second)
      wrong = InvalidArgument("of the query only %s= are good, each once", allowed);
  });
  if (!wrong.ok()) return wrong;
  return asked;
}

class Served {
 public:
  Served(MailboxStore* store, MailboxAuthorizer authorize, const MailboxCoapOptions& options)
      : store_(store),
        authorize_(std::move(authorize)),
        options_(options),
        segments_(
            static_cast<std::size_t>(std::count(options.path.begin(), options.path.end(), '/'))) {}

  void Handle(const ServedRequest& request, Responder& responder) {
    const absl::Status status = Start(request, responder);
    if (!status.ok()) responder.Send(Refusal(status));
  }

 private:
  /// Answers later where it is OK.
  absl::Status Start(const ServedRequest& request, Responder& responder) {
    bool settles = false;
    request.options.ForEach(OptionNumber::kUriQuery,
                            [&](std::string_view word) { settles |= word.starts_with("r="); });
    switch (request.code) {
      case Code::kPost:
        return settles ? Settle(request, responder, Settlement::Kind::kReject, "rxd")
                       : Append(request, responder);
      case Code::kGet:
        return Receive(request, responder);
      case Code::kDelete:
        return Settle(request, responder, Settlement::Kind::kAcknowledge, "r");
      default:
        return Settle(request, responder, Settlement::Kind::kExtend, "rl");
    }
  }

  absl::Status Append(const ServedRequest& request, Responder& responder) {
    WAXVM_ASSIGN_OR_RETURN(const Asked asked, Understand(request, segments_, "kot"));
    WAXVM_ASSIGN_OR_RETURN(std::string sender,
                           authorize_(request, asked.mailbox, MailboxAccess::kAppend));
    WAXVM_ASSIGN_OR_RETURN(const milliseconds life, asked.Seconds('t', milliseconds(0)));
    std::vector<MailboxMessage> messages(1);
    messages[0] = {.mailbox = asked.mailbox,
                   .sender = std::move(sender),
                   .payload = std::string(coap::ToText(request.payload)),
                   .idempotency_key = asked.Get('k'),
                   .ordering_key = asked.Get('o'),
                   .time_to_live = life};
    if (const auto format = request.options.content_format())
      messages[0].format = static_cast<std::uint16_t>(*format);
    store_->Append(std::move(messages),
                   [later = responder.Defer(), path = options_.path + "/" + asked.mailbox](
                       std::vector<absl::StatusOr<Appended>> results) mutable {
                     const absl::StatusOr<Appended>& result = results.front();
                     if (!result.ok()) return later.Send(Refusal(result.status()));
                     Message message(result->duplicate ? Code::kChanged : Code::kCreated);
                     message.SetLocation(path + "/" + std::to_string(result->sequence));
                     later.Send(message);
                   });
    return absl::OkStatus();
  }

  absl::Status Receive(const ServedRequest& request, Responder& responder) {
    WAXVM_ASSIGN_OR_RETURN(const Asked asked, Understand(request, segments_, "glw"));
    WAXVM_RETURN_IF_ERROR(authorize_(request, asked.mailbox, MailboxAccess::kReceive).status());
    WAXVM_ASSIGN_OR_RETURN(const milliseconds lease, asked.Seconds('l', options_.lease));
    WAXVM_ASSIGN_OR_RETURN(const milliseconds wait, asked.Seconds('w', milliseconds(0)));
    if (lease > options_.max_lease)
      return InvalidArgument("a lease is at most %d ms", options_.max_lease.count());
    // The rest of a message that is not kept any more: another one must not be leased for it.
    if (const auto block = request.options.block2(); block && block->number != 0) {
      responder.Send(Code::kRequestEntityIncomplete);
      return absl::OkStatus();
    }
    store_->Receive({.mailbox = asked.mailbox,
                     .group = asked.Get('g'),
                     .lease = lease,
                     .wait = std::min(wait, options_.max_wait)},
                    [later = responder.Defer(), path = options_.path + "/" + asked.mailbox](
                        absl::StatusOr<std::vector<Delivery>> result) mutable {
                      if (!result.ok()) return later.Send(Refusal(result.status()));
                      later.Send(Handed(*result, path));
                    });
    return absl::OkStatus();
  }

  /// One message, or none; no cache may hand it to somebody else.
  static Message Handed(const std::vector<Delivery>& deliveries, const std::string& path) {
    Message message(Code::kContent);
    message.SetMaxAge(0);
    if (deliveries.empty()) return message;
    const Delivery& delivery = deliveries.front();
    if (delivery.format) {
      message.SetPayload(static_cast<coap::ContentFormat>(*delivery.format), delivery.payload);
    } else {
      message.SetPayload(delivery.payload);
    }
    message.SetLocation(path);
    message.AddLocationQuery("r=" + delivery.receipt);
    message.AddLocationQuery("n=" + std::to_string(delivery.sequence));
    return message;
  }

  absl::Status Settle(const ServedRequest& request, Responder& responder, Settlement::Kind kind,
                      std::string_view allowed) {
    WAXVM_ASSIGN_OR_RETURN(const Asked asked, Understand(request, segments_, allowed));
    WAXVM_RETURN_IF_ERROR(authorize_(request, asked.mailbox, MailboxAccess::kReceive).status());
    if (!asked.Has('r')) return InvalidArgument("r=RECEIPT is missing");
    const char letter = kind == Settlement::Kind::kExtend ? 'l' : 'd';
    const milliseconds otherwise =
        kind == Settlement::Kind::kExtend ? options_.lease : milliseconds(0);
    WAXVM_ASSIGN_OR_RETURN(const milliseconds time, asked.Seconds(letter, otherwise));
    if (kind == Settlement::Kind::kExtend && time > options_.max_lease)
      return InvalidArgument("a lease is at most %d ms", options_.max_lease.count());
    const Code good = kind == Settlement::Kind::kAcknowledge ? Code::kDeleted : Code::kChanged;
    store_->Settle({{.kind = kind,
                     .receipt = asked.Get('r'),
                     // Whoever was asked about this one has not allowed anything in another.
                     .mailbox = asked.mailbox,
                     .time = time,
                     .reason = asked.Get('x')}},
                   [later = responder.Defer(), good](std::vector<absl::Status> results) mutable {
                     later.Send(results.front().ok() ? Message(good) : Refusal(results.front()));
                   });
    return absl::OkStatus();
  }

  MailboxStore* const store_;
  MailboxAuthorizer authorize_;
  const MailboxCoapOptions options_;
  const std::size_t segments_;
};

}  // namespace

absl::Status ServeMailboxes(coap::Endpoint& endpoint, MailboxStore* store,
                            MailboxAuthorizer authorize, const MailboxCoapOptions& options) {
  return endpoint.Serve(
      {.path = options.path,
       .prefix = true,
       .methods = {Code::kGet, Code::kPost, Code::kPut, Code::kDelete},
       // A message that is leased must not be lost to the challenge that a long answer would get.
       .verified = {Code::kGet},
       .attributes = {{"rt", "waxvm.mailbox"}},
       .handler = [served = std::make_unique<Served>(store, std::move(authorize), options)](
                      const ServedRequest& request, Responder& responder) {
         served->Handle(request, responder);
       }});
}

}  // namespace waxvm
