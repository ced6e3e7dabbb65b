// SPDX-License-Identifier: Apache-2.0
// What is inside RDATA: which types have names in it, and how it is read, written and shown.
// Everywhere but in a message it is kept in one form, that of the wire with its names uncompressed.
#ifndef WAXVM_SRC_DNS_RDATA_H_
#define WAXVM_SRC_DNS_RDATA_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "src/dns/name.h"
#include "src/dns/wire.h"
#include "waxvm/dns.h"

namespace waxvm::dns {

/// A part of RDATA.
enum class Field {
  kU16,
  kU32,
  kAddress4,
  kAddress6,
  kName,        ///< compressed in messages (types of RFC 1035)
  kPlainName,   ///< never written compressed, but read so (SRV: RFC 2782, RFC 3597)
  kStrictName,  ///< never compressed (SVCB: RFC 9460)
  kStrings,     ///< one or more character strings, to the end
  kSvcParams,   ///< to the end
  kOptions,     ///< of EDNS, to the end
};

/// The parts of a type that is known; nothing for another, whose RDATA is bytes.
std::optional<std::span<const Field>> FieldsOf(std::uint16_t type);

/// "AAAA", or "TYPE65280".
std::string TypeToText(std::uint16_t type);
std::optional<std::uint16_t> TypeFromText(std::string_view text);

/// RDATA of a message, its names uncompressed; it must be all of what `reader` has.
/// Errors: kInvalidArgument.
absl::StatusOr<std::string> ReadRdata(std::uint16_t type, Reader reader);

/// Whether RDATA is that of its type.
absl::Status CheckRdata(std::uint16_t type, std::string_view data);

/// Into a message, compressed where the type has it. `data` was checked.
void WriteRdata(std::uint16_t type, std::string_view data, Writer& writer);

/// In presentation form. `data` was checked.
std::string RdataToText(std::uint16_t type, std::string_view data);

/// From words as SplitWords gives them. Errors: kInvalidArgument.
absl::StatusOr<std::string> RdataFromText(std::uint16_t type, std::span<const std::string> words,
                                          const Name& origin);

/// The words of a line of a zone file, without its comment. Quotes are taken off and what they hold
/// together stays together; escapes are left. Errors: kInvalidArgument.
absl::StatusOr<std::vector<std::string>> SplitWords(std::string_view line);

/// A whole number without a sign, at most `max`.
std::optional<std::uint32_t> ParseNumber(std::string_view text, std::uint32_t max);

}  // namespace waxvm::dns

#endif  // WAXVM_SRC_DNS_RDATA_H_
