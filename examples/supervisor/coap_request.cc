// SPDX-License-Identifier: Apache-2.0
// waxvm coap get, put, post, delete, fetch, observe.
#include <cstdio>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "coap_client.h"
#include "coap_words.h"
#include "commands.h"
#include "prepare.h"
#include "signals.h"

namespace waxvm::cli {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

// As long as RFC 7252 section 4.8.2 lets a confirmable request and its answers take.
constexpr milliseconds kDefaultTimeout{93'000};
// Members of a group answer within 5 seconds. Spec: RFC 7252 section 8.2.
constexpr milliseconds kDefaultGroupTimeout{8'000};

bool TakesBody(coap::Code method) {
  return method != coap::Code::kGet && method != coap::Code::kDelete;
}

absl::StatusOr<std::string> BytesOf(const Words& words, std::string_view flag) {
  auto bytes = Unhex(words.Get(flag));
  if (bytes) return *std::move(bytes);
  return absl::InvalidArgumentError(absl::StrFormat(
      "--%s: '%s' is no even number of hexadecimal digits", flag, Printable(words.Get(flag))));
}

absl::Status AddConditions(const Words& words, coap::Message& message) {
  if (words.Has("etag")) {
    const auto etag = BytesOf(words, "etag");
    if (!etag.ok()) return etag.status();
    message.AddETag(*etag);
  }
  if (words.Has("if-match")) {
    const auto etag = BytesOf(words, "if-match");
    if (!etag.ok()) return etag.status();
    message.AddIfMatch(*etag);
  }
  if (words.Has("if-none-match")) message.SetIfNoneMatch();
  return message.Check();
}

absl::StatusOr<coap::Message> MakeMessage(const Words& words, coap::Code method,
                                          const CoapTarget& target) {
  coap::Message message(method);
  target.uri.ToOptions(message, target.peer.port);
  const auto accept = FormatOf(words, "accept");
  if (!accept.ok()) return accept.status();
  if (*accept) message.SetAccept(**accept);
  const auto format = FormatOf(words, "content-format");
  if (!format.ok()) return format.status();
  if (*format) message.SetContentFormat(**format);
  if (const absl::Status status = AddConditions(words, message); !status.ok()) return status;
  if (!TakesBody(method)) return message;
  auto body = BodyOf(words, /*or_input=*/true);
  if (!body.ok()) return body.status();
  message.SetPayload(*std::move(body));
  return message;
}

/// A request that was sent, and what came of it.
class Exchange {
 public:
  Exchange(bool json, bool verbose, bool lines)
      : json_(json), verbose_(verbose), lines_(lines), started_(Clock::now()) {}

  void OnResponse(const absl::StatusOr<coap::Response>& response) {
    if (!response.ok()) {
      ended_ = response.status();
      return;
    }
    ++heard_;
    const auto took = Clock::now() - started_;
    if (verbose_) Explain(*response, took);
    exit_code_ = ExitCodeOf(response->code);
    written_.Update(Write(*response, took));
    if (!response->more) ended_ = absl::OkStatus();
  }

  std::uint64_t heard() const { return heard_; }
  bool ended() const { return ended_.has_value() || !written_.ok(); }
  int exit_code() const { return exit_code_; }
  const absl::Status& written() const { return written_; }
  absl::Status end() const { return ended_.value_or(absl::DeadlineExceededError("")); }

 private:
  absl::Status Write(const coap::Response& response, std::chrono::nanoseconds took) {
    const std::string_view payload = coap::ToText(response.payload);
    if (json_) {
      Json json = MessageToJson(response.code, response.options, payload, response.peer);
      json["milliseconds"] = std::chrono::duration<double, std::milli>(took).count();
      return WriteOut(OneLine(json));
    }
    if (!coap::IsSuccess(response.code)) {
      absl::FPrintF(stderr, "waxvm: %s\n", Refusal(response));
      return absl::OkStatus();
    }
    std::string text(payload);
    if (lines_ && !text.ends_with('\n')) text.push_back('\n');
    return WriteOut(text);
  }

  const bool json_;
  const bool verbose_;
  const bool lines_;  ///< several are parted by line ends
  const Clock::time_point started_;
  std::uint64_t heard_ = 0;
  int exit_code_ = kExitOk;
  std::optional<absl::Status> ended_;
  absl::Status written_;
};

int FailWith(const absl::Status& status, const CoapTarget& target) {
  if (absl::IsDeadlineExceeded(status))
    return Fail(kExitNoAnswer, absl::DeadlineExceededError(absl::StrFormat(
                                   "no answer from %s in time", target.peer.ToText())));
  return Fail(
      ExitCodeOf(status),
      absl::Status(status.code(), absl::StrFormat("%s: %s", target.peer.ToText(),
                                                  Printable(std::string(status.message())))));
}

absl::StatusOr<CoapTarget> TargetOf(const Words& words, const Given& given, std::string_view verb) {
  if (given.words.size() != 1)
    return absl::InvalidArgumentError(absl::StrFormat(
        "write waxvm coap %s [flags] URI, as in coap://[::1]/sensors/temperature", verb));
  return FindTarget(words, given.words[0]);
}

void ExplainRequest(const coap::Message& message, const CoapTarget& target) {
  absl::FPrintF(stderr, "> %s %s to %s, %d bytes\n", coap::NameOf(message.code()),
                target.uri.PathAndQuery(), target.peer.ToText(), message.payload().size());
}

std::string VerbOf(coap::Code method) {
  std::string verb(coap::NameOf(method));
  for (char& c : verb) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return verb;
}

}  // namespace

absl::StatusOr<int> CoapRequest(const Words& words, coap::Code method) {
  const Given given = GivenOf(words);
  const auto target = TargetOf(words, given, VerbOf(method));
  if (!target.ok()) return target.status();
  const bool group = target->peer.is_multicast();
  const auto timeout = TimeOf(words, "timeout", group ? kDefaultGroupTimeout : kDefaultTimeout);
  if (!timeout.ok()) return timeout.status();
  const auto exponent = BlockExponentOf(words);
  if (!exponent.ok()) return exponent.status();
  const auto message = MakeMessage(words, method, *target);
  if (!message.ok()) return message.status();
  const auto client = NewClient(*exponent);
  if (!client.ok()) return client.status();

  if (given.verbose) ExplainRequest(*message, *target);
  Exchange exchange(words.json(), given.verbose, group);
  const auto until = Clock::now() + *timeout;
  const auto sent = (*client)->Request(target->peer, *message,
                                       [&](const auto& response) { exchange.OnResponse(response); },
                                       {.confirmable = !words.Has("non"), .timeout = *timeout});
  if (!sent.ok()) return sent.status();
  const auto done = RunUntil(
      **client, [&] { return exchange.ended(); }, [&] { return until; });
  (void)(*client)->Cancel(*sent);
  if (!done.ok()) return FailWith(done.status(), *target);
  if (!exchange.written().ok()) return exchange.written();
  if (exchange.heard() != 0) return exchange.exit_code();
  return FailWith(exchange.end(), *target);
}

absl::StatusOr<int> CoapObserve(const Words& words) {
  StopOnSignal signals;
  const Given given = GivenOf(words);
  const auto target = TargetOf(words, given, "observe");
  if (!target.ok()) return target.status();
  const auto timeout = TimeOf(words, "timeout", kDefaultTimeout);
  if (!timeout.ok()) return timeout.status();
  const auto count = words.Number("count", 0, std::numeric_limits<std::uint32_t>::max());
  if (!count.ok()) return count.status();
  const auto exponent = BlockExponentOf(words);
  if (!exponent.ok()) return exponent.status();
  const auto message = MakeMessage(words, coap::Code::kGet, *target);
  if (!message.ok()) return message.status();
  const auto client = NewClient(*exponent);
  if (!client.ok()) return client.status();

  if (given.verbose) ExplainRequest(*message, *target);
  Exchange exchange(words.json(), given.verbose, /*lines=*/true);
  const auto until = Clock::now() + *timeout;
  const auto sent =
      (*client)->Request(target->peer, *message,
                         [&](const auto& response) {
                           // What came in the same turn as the last one that was asked for.
                           if (*count == 0 || exchange.heard() < *count)
                             exchange.OnResponse(response);
                         },
                         {.confirmable = !words.Has("non"), .timeout = *timeout, .observe = true});
  if (!sent.ok()) return sent.status();
  const auto enough = [&] { return *count != 0 && exchange.heard() >= *count; };
  const auto stopped = [&] { return signals.source().stop_requested(); };
  const auto done = RunUntil(
      **client, [&] { return exchange.ended() || enough(); },
      [&] { return exchange.heard() == 0 ? until : Clock::time_point::max(); }, stopped);
  (void)(*client)->Cancel(*sent);
  if (!done.ok()) return FailWith(done.status(), *target);
  if (!exchange.written().ok()) return exchange.written();
  if (exchange.exit_code() != kExitOk) return exchange.exit_code();
  if (enough() || (stopped() && exchange.heard() != 0)) return kExitOk;
  if (exchange.heard() != 0 && exchange.end().ok())
    return Fail(kExitRefused, absl::UnavailableError("it cannot be observed (any more)"));
  return FailWith(exchange.end(), *target);
}

}  // namespace waxvm::cli
