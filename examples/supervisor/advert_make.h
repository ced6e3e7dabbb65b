// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_EXAMPLES_SUPERVISOR_ADVERT_MAKE_H_
#define WAXVM_EXAMPLES_SUPERVISOR_ADVERT_MAKE_H_

#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "waxvm/advert.h"
#include "words.h"

namespace waxvm::cli {

/// The flags of `waxvm advert make`.
std::span<const WordFlag> AdvertMakeFlags();

/// Seconds since 1970, or what --now says.
absl::StatusOr<std::uint64_t> Now(const Words& words);

/// An advert as the flags have it. Errors: kInvalidArgument in words for the person who typed it;
/// those of keys.
absl::StatusOr<Advert> MakeAdvert(const Words& words);

}  // namespace waxvm::cli

#endif  // WAXVM_EXAMPLES_SUPERVISOR_ADVERT_MAKE_H_
