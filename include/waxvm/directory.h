// SPDX-License-Identifier: Apache-2.0
// Where adverts are kept and found.
#ifndef WAXVM_DIRECTORY_H_
#define WAXVM_DIRECTORY_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "waxvm/advert.h"

namespace waxvm {

struct DirectoryOptions {
  /// Slots that are kept, those included whose advert has expired: they remember its sequence. One
  /// takes about 1 KiB. Above it the author with the most slots loses its oldest ones, so that one
  /// who floods displaces nobody but himself; among authors with equally many, those go first whose
  /// adverts were not asked for. Revocations may fill half of it.
  std::size_t max_adverts = 200'000;
  /// On disk: every Put returns after the disk has it, not only after the kernel has. Without it
  /// nothing is lost when the process dies, the last ones may be when the machine does.
  bool survive_power_loss = false;
};

/// Two adverts of one slot with the same sequence: their author says different things to different
/// people.
struct Equivocation {
  AdvertSlot slot = {};
  std::uint64_t sequence = 0;
  std::array<std::uint8_t, 32> first{};  ///< hashes of the adverts' bytes
  std::array<std::uint8_t, 32> second{};
};

struct DirectoryStats {
  std::size_t adverts = 0;  ///< slots, as DirectoryOptions counts them
  std::size_t authors = 0;
  std::uint64_t evicted = 0;  ///< slots given up for others since it was opened
};

/// The newest advert of each slot, with the memory that no old one comes back.
/// Thread safety: any number of threads.
class Directory {
 public:
  virtual ~Directory() = default;

  /// Offers adverts that were checked; all of them are one write. Results in the same order:
  /// OK where the directory has exactly this advert now; kFailedPrecondition where it has a newer
  /// one; kAborted for equivocation, and for what is quarantined because of it; kPermissionDenied
  /// where the author's key was revoked. Errors of the store itself are the result of all.
  /// Blocks: on the store.
  virtual std::vector<absl::Status> Put(std::span<const Advert> adverts) = 0;

  /// The advert of a slot. Errors: kNotFound; kDeadlineExceeded where it has expired at `now`;
  /// kAborted where the slot is quarantined; kPermissionDenied where the key was revoked.
  virtual absl::StatusOr<Advert> Get(const AdvertSlot& slot, std::uint64_t now) = 0;

  /// The advert of the vm or host that has this address; where a key has both, the vm's. Only the
  /// key that made an address can have an advert of it. Errors: as Get.
  virtual absl::StatusOr<Advert> FindByAddress(const Address& address, std::uint64_t now) = 0;

  /// What was reported, the newest last; at most 1,000.
  virtual std::vector<Equivocation> Equivocations() = 0;

  /// A number that is another one after every change, also by another process.
  virtual std::uint64_t Version() = 0;

  virtual DirectoryStats Stats() = 0;
};

/// In memory alone.
std::unique_ptr<Directory> NewMemoryDirectory(const DirectoryOptions& options = {});

/// In a file of SQLite, made with mode 0600 where it is missing. Several processes may have it
/// open. One of the version before this is brought up to it. What Put returned OK for is there when
/// the process is killed at any moment. Errors: kFailedPrecondition for a file that is none or of
/// another version; those of the disk.
absl::StatusOr<std::unique_ptr<Directory>> OpenDirectory(const std::string& path,
                                                         const DirectoryOptions& options = {});

/// Checks bytes from anywhere and offers them: the whole path in, in the order of the acceptance
/// rules. Errors: those of Advert::Check and Directory::Put.
absl::StatusOr<Advert> Accept(Directory& directory, std::string_view bytes, std::uint64_t now);

}  // namespace waxvm

#endif  // WAXVM_DIRECTORY_H_
