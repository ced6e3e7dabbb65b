// SPDX-License-Identifier: Apache-2.0
// The last of the acceptance rules, sequence, as every store applies it.
#ifndef WAXVM_SRC_NAMING_SLOT_RULES_H_
#define WAXVM_SRC_NAMING_SLOT_RULES_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "waxvm/directory.h"

namespace waxvm::naming {

inline constexpr std::size_t kMaxEquivocations = 1'000;

/// What a slot holds.
struct Held {
  std::string_view bytes;    ///< of its advert
  bool quarantined = false;  ///< there is another one with the same sequence
};

enum class Verdict { kNewer, kKnown, kOlder, kQuarantined, kEquivocation };

/// `advert` against what its slot holds.
Verdict Judge(const Held& held, const Advert& advert);

/// The result of Put. OK for kNewer and kKnown.
absl::Status ToStatus(Verdict verdict, const Advert& advert);
absl::Status RevokedStatus(const PublicKey& author);

Equivocation Report(const Held& held, const Advert& advert);

/// The result of Get for a slot that holds something.
absl::StatusOr<Advert> Serve(const Held& held, std::uint64_t now);

/// The slot as one text, such that those of one author are together: its key comes first.
std::string EncodeSlot(const AdvertSlot& slot);
/// Errors: kDataLoss.
absl::StatusOr<AdvertSlot> DecodeSlot(std::string_view bytes);

/// The address that an advert claims for its author; null for those that claim none.
const Address* ClaimedAddress(const Advert& advert);

/// How many slots the author with the most loses at once. Finding the oldest looks at all of them,
/// so it is a part of them: a flood must not make such a search out of each of its adverts.
std::size_t EvictionBatch(std::size_t slots_of_author);

}  // namespace waxvm::naming

#endif  // WAXVM_SRC_NAMING_SLOT_RULES_H_
