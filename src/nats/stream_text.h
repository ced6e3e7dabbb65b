// SPDX-License-Identifier: Apache-2.0
// Bytes, names and options as JetStream can keep them: as text.
#ifndef WAXVM_SRC_NATS_STREAM_TEXT_H_
#define WAXVM_SRC_NATS_STREAM_TEXT_H_

#include <optional>
#include <string>
#include <string_view>

#include "waxvm/mailbox.h"

namespace waxvm::nats {

std::string Hex(std::string_view bytes);
/// Empty for what is no such text.
std::string Unhex(std::string_view text);

/// A name as one token of a subject: what is no letter, digit, - or _ is =XX.
std::string Encode(std::string_view name);
std::string Decode(std::string_view token);

/// The options of a mailbox are in the description of its stream.
std::string Describe(const MailboxOptions& options);
/// nullopt for the description of another kind of stream, and for options that cannot be.
std::optional<MailboxOptions> Understand(const char* description);

}  // namespace waxvm::nats

#endif  // WAXVM_SRC_NATS_STREAM_TEXT_H_
