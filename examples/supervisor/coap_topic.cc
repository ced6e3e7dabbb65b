// SPDX-License-Identifier: Apache-2.0
// waxvm coap publish and subscribe: messages to whoever listens to a group.
#include <chrono>
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

using coap::Code;
using Clock = std::chrono::steady_clock;

// No response of any class is wanted. Spec: RFC 7967 section 2.1.
constexpr std::uint8_t kNoResponse = 2 | 8 | 16;
// To be sent: nothing is waited for.
constexpr std::chrono::milliseconds kSending{1000};

absl::StatusOr<CoapTarget> GroupOf(const Words& words, const Given& given, std::string_view verb) {
  if (given.words.size() != 1)
    return absl::InvalidArgumentError(
        absl::StrFormat("write waxvm coap %s [flags] URI, as in coap://TOPIC/path, where TOPIC is "
                        "a name, a key or an address of ff00::/8",
                        verb));
  return FindGroup(words, given.words[0]);
}

}  // namespace

absl::StatusOr<int> CoapPublish(const Words& words) {
  const Given given = GivenOf(words);
  const auto target = GroupOf(words, given, "publish");
  if (!target.ok()) return target.status();
  const auto hops = words.Number("hops", 1, 255);
  if (!hops.ok()) return hops.status();
  const auto format = FormatOf(words, "content-format");
  if (!format.ok()) return format.status();
  auto body = BodyOf(words, /*or_input=*/true);
  if (!body.ok()) return body.status();
  if (body->size() > 1024)
    return absl::InvalidArgumentError(
        absl::StrFormat("the body has %d bytes; nobody of a group can ask for the next block, so "
                        "1024 is the most",
                        body->size()));
  coap::Message message(words.Has("put") ? Code::kPut : Code::kPost);
  target->uri.ToOptions(message, target->peer.port);
  // A group has no name that its members would know.
  message.Remove(coap::OptionNumber::kUriHost).SetNoResponse(kNoResponse);
  if (*format) message.SetContentFormat(**format);
  message.SetPayload(*std::move(body));
  const auto client = NewClient(/*block_exponent=*/6, static_cast<int>(*hops));
  if (!client.ok()) return client.status();

  absl::Status failure;
  const auto sent = (*client)->Request(
      target->peer, message, [&](const auto& response) { failure.Update(response.status()); },
      {.confirmable = false});
  if (!sent.ok()) return sent.status();
  const auto until = Clock::now() + kSending;
  const auto done = RunUntil(
      **client, [&] { return (*client)->stats().datagrams.sent != 0 || !failure.ok(); },
      [&] { return until; });
  if (!done.ok()) return done.status();
  if (!failure.ok()) return Fail(ExitCodeOf(failure), failure);
  if (!*done) return Fail(kExitNoAnswer, absl::DeadlineExceededError("it could not be sent"));
  if (given.verbose)
    absl::FPrintF(stderr, "> %s %s to %s, %d bytes\n", coap::NameOf(message.code()),
                  target->uri.PathAndQuery(), target->peer.ToText(), message.payload().size());
  return kExitOk;
}

absl::StatusOr<int> CoapSubscribe(const Words& words) {
  StopOnSignal signals;
  const Given given = GivenOf(words);
  const auto target = GroupOf(words, given, "subscribe");
  if (!target.ok()) return target.status();
  const auto count = words.Number("count", 0, std::numeric_limits<std::uint32_t>::max());
  if (!count.ok()) return count.status();
  const auto timeout = TimeOf(words, "timeout", std::chrono::hours(24 * 365));
  if (!timeout.ok()) return timeout.status();
  auto socket = NewUdpSocket({.local = {.address = {}, .port = target->peer.port}, .shared = true});
  if (!socket.ok()) return socket.status();
  const auto endpoint = coap::Endpoint::Create(*std::move(socket));
  if (!endpoint.ok()) return endpoint.status();

  std::uint64_t heard = 0;
  absl::Status written;
  coap::Resource resource;
  resource.path = "/";
  for (const std::string& segment : target->uri.path)
    resource.path += (resource.path.size() > 1 ? "/" : "") + segment;
  resource.prefix = true;
  resource.methods = {Code::kPost, Code::kPut};
  resource.multicast = true;
  resource.listed = false;
  resource.handler = [&](const coap::ServedRequest& request, coap::Responder& responder) {
    // Whoever sends to this host alone speaks to no topic.
    if (!request.multicast) return responder.Send(Code::kNotFound);
    responder.Ignore();
    if (*count != 0 && heard >= *count) return;
    ++heard;
    const std::string_view payload = coap::ToText(request.payload);
    if (given.verbose)
      absl::FPrintF(stderr, "< %s %s from %s, %d bytes\n", coap::NameOf(request.code),
                    coap::PathAndQueryOf(request.options), request.peer.ToText(), payload.size());
    if (words.json())
      return written.Update(
          WriteOut(OneLine(MessageToJson(request.code, request.options, payload, request.peer))));
    std::string text(payload);
    if (!text.ends_with('\n')) text.push_back('\n');
    written.Update(WriteOut(text));
  };
  if (const absl::Status served = (*endpoint)->Serve(std::move(resource)); !served.ok())
    return served;
  if (const absl::Status joined = (*endpoint)->Join(target->peer.address, target->peer.zone);
      !joined.ok())
    return joined;
  absl::FPrintF(stderr, "listens to %s\n", target->peer.ToText());
  const auto until = Clock::now() + *timeout;
  const auto done = RunUntil(
      **endpoint, [&] { return !written.ok() || (*count != 0 && heard >= *count); },
      [&] { return heard == 0 ? until : Clock::time_point::max(); },
      [&] { return signals.source().stop_requested(); });
  if (!done.ok()) return done.status();
  if (!written.ok()) return written;
  if (*done || signals.source().stop_requested()) return kExitOk;
  return Fail(kExitNoAnswer, absl::DeadlineExceededError("nothing was published in time"));
}

}  // namespace waxvm::cli
