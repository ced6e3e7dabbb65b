// SPDX-License-Identifier: Apache-2.0
// Who an instance is: a key of its own, the address made from it, and a signed advert of both.
#ifndef WAXVM_IDENTITY_H_
#define WAXVM_IDENTITY_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "waxvm/address.h"
#include "waxvm/advert.h"
#include "waxvm/cga.h"
#include "waxvm/directory.h"
#include "waxvm/key.h"

namespace waxvm {

class AdvertKeeper;

/// What becomes of an instance's advert when the instance ends.
enum class AdvertEnd {
  kWithdraw,  ///< a last one replaces it, which expires a second later
  kRevoke,  ///< the key is revoked, for good: directories keep that for ever, so not for many runs
  kLeave,   ///< it expires when it says
};

/// RunOptions::identity. The host makes an Ed25519 key for each instance: each run, each clone, and
/// each state that a session or pool is put back to. The key stays in the host, in locked memory
/// that is wiped; the program learns who it is from the host function "waxvm.identity". Formats of
/// the functions: docs/formats/identity.md.
struct IdentityOptions {
  /// Agrees to run the instance, by its signature in the advert. Null: there is no advert.
  std::shared_ptr<const Signer> host = nullptr;
  /// Where the advert is put before the program starts. Needs `host`. Each instance leaves a slot
  /// behind: many short runs are better put into a directory of their own, or none.
  std::shared_ptr<Directory> directory = nullptr;
  /// Told in the advert, as of VmBody.
  std::vector<AdvertisedService> services = {};
  std::vector<PublicKey> mailboxes = {};
  /// kSha256, kSha256Bits16 or kSha256Bits32: the latter take time to find, for each instance.
  int sec_code = cga::kSha256;
  /// How long an advert is good, at least 4 s. It is renewed when half of that is over: at the next
  /// host call, call or run of the instance, and by `keeper`, which is needed where a program may
  /// compute for longer than that without any.
  std::chrono::seconds lifetime = std::chrono::hours(1);
  /// When those who have it should ask again; cut to `lifetime`.
  std::chrono::seconds ttl = std::chrono::minutes(1);
  std::shared_ptr<AdvertKeeper> keeper = nullptr;
  AdvertEnd at_end = AdvertEnd::kWithdraw;
  /// Grants "waxvm.identity.sign": the host signs what the program says, without the key ever being
  /// inside. Only as StatementBytes, so that no such signature is one of an advert.
  bool grant_signing = false;
  /// Grants "waxvm.identity.private_key": the 32-byte seed itself. Once a program has read it, no
  /// snapshot of it is taken (kFailedPrecondition): clones would be one another.
  bool grant_private_key = false;
  /// Seconds since 1970. Default: the host's clock.
  std::function<std::uint64_t()> clock = nullptr;
};

/// Report::identity.
struct IdentityReport {
  PublicKey public_key = {};
  Address address = {};
  std::string advert = {};            ///< the last one's bytes; empty without a host
  std::uint64_t advert_expires = 0;   ///< seconds since 1970
  std::uint64_t adverts = 0;          ///< that were signed
  std::uint64_t statements = 0;       ///< that were signed for the program
  bool private_key_was_read = false;  ///< by the program
  absl::Status advert_status = {};    ///< why the advert could not be renewed or withdrawn
};

/// Renews the adverts of running instances, whatever their programs do. It has no thread: the
/// embedder calls Renew now and then. Made by Create, others are refused. Thread safety: any number
/// of threads.
class AdvertKeeper {
 public:
  static std::shared_ptr<AdvertKeeper> Create();
  virtual ~AdvertKeeper() = default;

  /// Renews what is due and returns how long until the next is, at most an hour.
  /// Blocks: on the host's signer and on the directory.
  /// Errors: of the first that could not be renewed; the others were tried. kFailedPrecondition in
  /// a forked child: the instances are its parent's.
  virtual absl::StatusOr<std::chrono::seconds> Renew() = 0;
  /// Instances that are running.
  virtual std::size_t size() const = 0;
};

/// What a program may have signed at once: a longer one costs the host's time and memory.
inline constexpr std::size_t kMaxStatementBytes = std::size_t{1} << 20;

/// The bytes that an instance's key signs for "waxvm.identity.sign": a context, then `message`.
std::string StatementBytes(std::string_view message);
/// Whether the instance with that key had the host sign `message`.
bool VerifyStatement(const PublicKey& instance, std::string_view message,
                     const Signature& signature);

}  // namespace waxvm

#endif  // WAXVM_IDENTITY_H_
