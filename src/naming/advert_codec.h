// SPDX-License-Identifier: Apache-2.0
// The bytes of an advert: docs/formats/advert.md.
#ifndef WAXVM_SRC_NAMING_ADVERT_CODEC_H_
#define WAXVM_SRC_NAMING_ADVERT_CODEC_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "waxvm/advert.h"

namespace waxvm::naming {

using std::string_view_literals::operator""sv;

/// At the start of every advert, and in front of what a host signs: no signature of one kind is one
/// of another.
inline constexpr std::string_view kAdvertContext = "waxvm-advert-v1\0"sv;
inline constexpr std::string_view kHostingContext = "waxvm-hosting-v1"sv;

// Where the fields of the envelope are. All numbers are big-endian.
inline constexpr std::size_t kTypeAt = 16;
inline constexpr std::size_t kAuthorAt = 17;
inline constexpr std::size_t kSequenceAt = 49;
inline constexpr std::size_t kCreatedAt = 57;
inline constexpr std::size_t kExpiresAt = 65;
inline constexpr std::size_t kTtlAt = 73;
inline constexpr std::size_t kBodyLengthAt = 77;
inline constexpr std::size_t kBodyAt = 79;
inline constexpr std::size_t kMaxBodyBytes = kMaxAdvertBytes - kBodyAt - kSignatureBytes;

// Bounds that every count and text is checked against.
inline constexpr std::size_t kMaxServices = 8;
inline constexpr std::size_t kMaxMailboxes = 4;
inline constexpr std::size_t kMaxTransports = 8;
inline constexpr std::size_t kMaxRelays = 4;
inline constexpr std::size_t kMaxPublishers = 8;
inline constexpr std::size_t kMaxTags = 8;
inline constexpr std::size_t kMaxServiceNameBytes = 15;
inline constexpr std::size_t kMaxSchemeBytes = 15;
inline constexpr std::size_t kMaxTagBytes = 31;
inline constexpr std::size_t kMaxLabelBytes = 63;

/// In place of the number of a topic's publishers.
inline constexpr std::uint8_t kOpenTopic = 0xff;
inline constexpr std::uint8_t kRelayFlag = 1;
inline constexpr std::uint8_t kMailboxFlag = 2;

/// Everything before the author's signature. What cannot be written comes out as bytes that
/// ParseUnsigned refuses. Errors: kInvalidArgument where it does not fit.
absl::StatusOr<std::string> EncodeUnsigned(const AdvertFields& fields);

/// What a host signs of a vm: everything before its own signature.
std::string HostedBytes(std::string_view unsigned_bytes);

/// Reads what EncodeUnsigned wrote; there is one way to write each advert. Errors:
/// kInvalidArgument.
absl::StatusOr<AdvertFields> ParseUnsigned(std::string_view unsigned_bytes);

/// Whether `label` may be a part of a name.
bool IsLabel(std::string_view label);

}  // namespace waxvm::naming

#endif  // WAXVM_SRC_NAMING_ADVERT_CODEC_H_
