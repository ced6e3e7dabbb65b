// SPDX-License-Identifier: Apache-2.0
// What the definitions of options demand of a message, and what follows from single options.
#ifndef WAXVM_SRC_COAP_OPTION_RULES_H_
#define WAXVM_SRC_COAP_OPTION_RULES_H_

#include <cstdint>
#include <optional>
#include <string>

#include "waxvm/coap_message.h"

namespace waxvm::coap {

/// How a value is read. Spec: RFC 7252 section 3.2.
enum class OptionFormat : std::uint8_t { kEmpty, kOpaque, kUint, kString };

struct OptionRule {
  std::uint16_t min_bytes = 0;
  std::uint16_t max_bytes = 0;
  OptionFormat format = OptionFormat::kEmpty;
  bool repeatable = false;
  bool defined = false;
};

/// `defined` is false for numbers that are not in OptionNumber.
/// Spec: RFC 7252 table 4, RFC 7641, 7959, 7967, 8613, 8768, 9175, 9177.
OptionRule RuleOf(OptionNumber number);

/// Which critical options are understood, as bits for numbers below 64; higher ones never are.
/// All of OptionNumber but OSCORE and the Q-Blocks.
extern const std::uint64_t kUnderstoodOptions;

enum class OptionFault : std::uint8_t {
  kNone,
  kUnrecognized,  ///< critical, and not understood
  kLength,        ///< critical, of a length that its definition does not allow
  kRepeated,      ///< critical, and there more than once without being repeatable
  kDotSegment,    ///< a Uri-Path of "." or "..", which must not be sent
};

struct OptionCheck {
  OptionFault fault = OptionFault::kNone;
  OptionNumber number{};

  bool ok() const { return fault == OptionFault::kNone; }
  /// For the diagnostic payload: "option 9 (OSCORE) is not understood".
  std::string ToText() const;
};

/// Whether all critical options can be processed. If not: a request gets 4.02, a response is
/// rejected, as a message that came with its type is. What is wrong with elective options makes
/// only these not be there. Spec: RFC 7252 sections 5.4.1, 5.4.3, 5.4.5, 5.10.1.
OptionCheck CheckOptions(const MessageView& message, std::uint64_t understood = kUnderstoodOptions);

/// What a proxy does about a request's Hop-Limit.
struct Hop {
  /// kEmpty: the request is passed on with `limit`; otherwise it is answered with this.
  Code code = Code::kEmpty;
  std::uint8_t limit = 0;
};
/// Spec: RFC 8768 section 3.
Hop NextHop(std::optional<std::uint32_t> hop_limit);

}  // namespace waxvm::coap

#endif  // WAXVM_SRC_COAP_OPTION_RULES_H_
