// SPDX-License-Identifier: Apache-2.0
// A whole message in memory. The server answers without it; it is for whoever reads answers.
#ifndef WAXVM_SRC_DNS_MESSAGE_H_
#define WAXVM_SRC_DNS_MESSAGE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "src/dns/name.h"
#include "src/dns/wire.h"

namespace waxvm::dns {

struct Question {
  Name name = {};
  std::uint16_t type = 1;
  std::uint16_t klass = kClassIn;

  friend bool operator==(const Question&, const Question&) = default;
};

struct Record {
  Name owner = {};
  std::uint16_t type = 1;
  std::uint16_t klass = kClassIn;
  std::uint32_t ttl_seconds = 0;
  std::string data = {};  ///< names in it uncompressed

  /// "owner ttl IN type data"; a class that is not IN as RFC 3597 has it.
  std::string ToText() const;
  friend bool operator==(const Record&, const Record&) = default;
};

struct Message {
  std::uint16_t id = 0;
  std::uint16_t flags = 0;  ///< with opcode and RCODE
  std::vector<Question> questions = {};
  std::vector<Record> answers = {};
  std::vector<Record> authority = {};
  std::vector<Record> additional = {};

  Rcode rcode() const { return static_cast<Rcode>(flags & kRcodeMask); }
  friend bool operator==(const Message&, const Message&) = default;
};

/// Errors: kInvalidArgument for what is no message as a whole, to its last byte.
absl::StatusOr<Message> DecodeMessage(Bytes bytes);

/// Errors: kInvalidArgument where data is not that of its type; kResourceExhausted where the
/// message is longer than `max_bytes`.
absl::StatusOr<std::string> EncodeMessage(const Message& message,
                                          std::size_t max_bytes = kMaxMessageBytes);

}  // namespace waxvm::dns

#endif  // WAXVM_SRC_DNS_MESSAGE_H_
