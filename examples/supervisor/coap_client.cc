// SPDX-License-Identifier: Apache-2.0
#include "coap_client.h"

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_format.h"
#include "commands.h"

namespace waxvm::cli {
namespace {

constexpr std::size_t kMaxBodyBytes = std::size_t{64} << 20;
// How long a signal may go unseen.
constexpr std::chrono::milliseconds kSlice{100};
// Of the text that comes with a refusal; the rest is of no help.
constexpr std::size_t kMaxRefusalBytes = 300;

}  // namespace

absl::StatusOr<std::unique_ptr<coap::Endpoint>> NewClient(std::uint8_t block_exponent,
                                                          int multicast_hops) {
  auto socket = NewUdpSocket({.max_datagram_bytes = 65535,
                              .batch = 16,
                              .kernel_buffer_bytes = std::size_t{1} << 20,
                              .multicast_hops = multicast_hops});
  if (!socket.ok()) return socket.status();
  coap::EndpointOptions options;
  options.limits.peers = 256;
  options.limits.remembered = 1024;
  options.limits.outgoing = 64;
  options.limits.deferred = 16;
  options.limits.blocks = 1024;
  options.block_exponent = block_exponent;
  options.max_body_bytes = kMaxBodyBytes;
  options.max_bodies_bytes = kMaxBodyBytes;
  options.batch = 16;
  return coap::Endpoint::Create(*std::move(socket), options);
}

absl::StatusOr<bool> RunUntil(coap::Endpoint& endpoint, const std::function<bool()>& done,
                              const std::function<coap::Endpoint::TimePoint()>& until,
                              const std::function<bool()>& stops) {
  using Clock = std::chrono::steady_clock;
  while (!done()) {
    const auto now = Clock::now();
    if (now >= until() || (stops && stops())) return false;
    if (const absl::Status status = endpoint.Poll(std::min(until(), now + kSlice)); !status.ok())
      return status;
  }
  return true;
}

std::string Refusal(const coap::Response& response) {
  std::string text = coap::ToText(response.code);
  if (const auto name = coap::NameOf(response.code); !name.empty()) text.append(" ").append(name);
  const std::string_view payload = coap::ToText(response.payload);
  if (!payload.empty()) text += ": " + Printable(payload.substr(0, kMaxRefusalBytes));
  return text;
}

void Explain(const coap::Response& response, std::chrono::nanoseconds took) {
  std::string text = absl::StrFormat(
      "< %s %s from %s after %.3f ms, %d bytes\n", coap::ToText(response.code),
      coap::NameOf(response.code), response.peer.ToText(),
      std::chrono::duration<double, std::milli>(took).count(), response.payload.size());
  for (const coap::OptionView& option : response.options)
    absl::StrAppendFormat(&text, "<   %s\n", OptionToText(option));
  std::fputs(text.c_str(), stderr);
}

int ExitCodeOf(coap::Code code) {
  if (coap::IsSuccess(code)) return kExitOk;
  return coap::ClassOf(code) == 4 ? kExitClientError : kExitServerError;
}

int ExitCodeOf(const absl::Status& status) {
  if (absl::IsDeadlineExceeded(status)) return kExitNoAnswer;
  if (absl::IsAborted(status) || absl::IsUnavailable(status)) return kExitNobodyThere;
  return kExitFailed;
}

}  // namespace waxvm::cli
