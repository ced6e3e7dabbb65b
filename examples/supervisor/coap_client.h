// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_EXAMPLES_SUPERVISOR_COAP_CLIENT_H_
#define WAXVM_EXAMPLES_SUPERVISOR_COAP_CLIENT_H_

#include <chrono>
#include <functional>
#include <memory>
#include <optional>

#include "coap_words.h"

namespace waxvm::cli {

/// What an endpoint that only asks needs: little memory for others, long bodies for itself.
absl::StatusOr<std::unique_ptr<coap::Endpoint>> NewClient(std::uint8_t block_exponent,
                                                          int multicast_hops = 1);

/// Runs the endpoint until `done`, until the time, or until a signal asks to stop where `stops`
/// says so. True: done.
absl::StatusOr<bool> RunUntil(coap::Endpoint& endpoint, const std::function<bool()>& done,
                              const std::function<coap::Endpoint::TimePoint()>& until,
                              const std::function<bool()>& stops = nullptr);

/// Says on standard error what came.
void Explain(const coap::Response& response, std::chrono::nanoseconds took);

/// The exit code for a response, or for the lack of one.
int ExitCodeOf(coap::Code code);
int ExitCodeOf(const absl::Status& status);

/// "4.04 Not Found: there is no such file", the text of an answer that is no success.
std::string Refusal(const coap::Response& response);

}  // namespace waxvm::cli

#endif  // WAXVM_EXAMPLES_SUPERVISOR_COAP_CLIENT_H_
