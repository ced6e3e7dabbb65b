// SPDX-License-Identifier: Apache-2.0
// Signed records that say where a key can be reached: docs/formats/advert.md.
#ifndef WAXVM_ADVERT_H_
#define WAXVM_ADVERT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "waxvm/address.h"
#include "waxvm/cga.h"
#include "waxvm/key.h"

namespace waxvm {

/// A reply of the Mainline DHT that carries so much stays whole at an MTU of 1,280.
inline constexpr std::size_t kMaxAdvertBytes = 680;
/// How far the clock of an author may be ahead of ours. Units: seconds, as all times here.
inline constexpr std::uint64_t kMaxClockSkew = 300;
/// From `created` to `expires`.
inline constexpr std::uint64_t kMaxAdvertLifetime = 366 * 86'400;
inline constexpr std::uint32_t kMaxAdvertTtl = 7 * 86'400;
/// `expires` of a revocation, and of nothing else.
inline constexpr std::uint64_t kNeverExpires = INT64_MAX;
inline constexpr std::uint64_t kMaxAdvertSequence = INT64_MAX;

enum class AdvertType : std::uint8_t {
  kVm = 1,
  kHost = 2,
  kTopic = 3,
  kRevocation = 4,
  kName = 5,
};
/// "vm", "host", "topic", "revocation", "name".
std::string_view AdvertTypeName(AdvertType type);

/// An address with what shows that the author's key made it. The Sec code is 3, 4 or 5.
struct AddressClaim {
  Address address = {};
  cga::Modifier modifier{};
  int collision_count = 0;
  bool operator==(const AddressClaim&) const = default;
};

struct AdvertisedService {
  std::string name = {};       ///< 1 to 15 of a–z, 0–9 and '-', as in RFC 6335: "coap"
  std::uint8_t protocol = 17;  ///< IANA's number: 6 is TCP, 17 UDP
  std::uint16_t port = 0;
  bool operator==(const AdvertisedService&) const = default;
};

/// An instance. `host_signature` is the host's agreement to everything in the advert before it.
struct VmBody {
  AddressClaim claim = {};
  PublicKey host = {};
  std::vector<AdvertisedService> services = {};  ///< at most 8
  std::vector<PublicKey> mailboxes = {};         ///< hosts that keep its messages; at most 4
  Signature host_signature = {};
  bool operator==(const VmBody&) const = default;
};

struct AdvertisedTransport {
  std::string scheme = {};  ///< 1 to 15 of a–z, 0–9, '+', '-' and '.': "udp"
  Address address = {};     ///< IPv4 as ::ffff:1.2.3.4
  std::uint16_t port = 0;
  std::uint8_t weight = 0;  ///< the heavier, the sooner tried
  bool operator==(const AdvertisedTransport&) const = default;
};

struct HostBody {
  AddressClaim claim = {};
  PublicKey tunnel_key = {};                         ///< X25519, not of small order
  bool relay = false;                                ///< passes on packets of others
  bool mailbox = false;                              ///< keeps messages of others
  std::vector<AdvertisedTransport> transports = {};  ///< at most 8
  bool operator==(const HostBody&) const = default;
};

/// A subject; its multicast group is cga::GroupOf its key.
struct TopicBody {
  std::vector<PublicKey> relays = {};      ///< at most 4
  bool open = false;                       ///< everybody may publish; there are no publishers then
  std::vector<PublicKey> publishers = {};  ///< at most 8
  std::vector<std::string> tags = {};      ///< at most 8, each 1 to 31 visible ASCII characters
  bool operator==(const TopicBody&) const = default;
};

/// The author's key is not to be believed any more, whatever it signed, and for good.
struct RevocationBody {
  enum class Reason : std::uint8_t {
    kUnspecified = 0,
    kCompromised = 1,
    kReplaced = 2,
    kRetired = 3
  };
  Reason reason = Reason::kUnspecified;
  bool operator==(const RevocationBody&) const = default;
};

/// The author calls `target` by a name: `label`.author.
struct NameBody {
  std::string label = {};  ///< 1 to 63 of a–z, 0–9 and '-', no '-' at either end
  PublicKey target = {};
  bool operator==(const NameBody&) const = default;
};

/// In the order of AdvertType.
using AdvertBody = std::variant<VmBody, HostBody, TopicBody, RevocationBody, NameBody>;

struct AdvertFields {
  PublicKey author = {};
  std::uint64_t sequence = 0;  ///< rises with every advert of the same slot
  std::uint64_t created = 0;   ///< seconds since 1970
  std::uint64_t expires = 0;   ///< when it is no good any more
  std::uint32_t ttl = 0;       ///< seconds after which somebody who has it should ask again
  AdvertBody body = {};

  AdvertType type() const { return static_cast<AdvertType>(body.index() + 1); }
  bool operator==(const AdvertFields&) const = default;
};

/// Of one slot, only the newest advert counts. Names have one for each label, the rest one a type.
struct AdvertSlot {
  PublicKey author = {};
  AdvertType type = AdvertType::kVm;
  std::string label = {};
  auto operator<=>(const AdvertSlot&) const = default;
};

/// An advert whose signatures and address hold. Immutable and cheap to copy.
/// Thread safety: any number of threads.
class Advert {
 public:
  /// Checks bytes from anywhere: form, signature, address, time, in this order. `now` is in seconds
  /// since 1970.
  /// Errors: kInvalidArgument for the form; kUnauthenticated for a signature, the host's included;
  /// kPermissionDenied for an address that the key did not make; kDeadlineExceeded for one that has
  /// expired, kOutOfRange for one of the future.
  static absl::StatusOr<Advert> Check(std::string_view bytes, std::uint64_t now);

  /// Signs; `fields.author` is taken from `author`. A vm needs `host`, whose key and signature are
  /// put into its body. Errors: kInvalidArgument for what Check would refuse whatever the time;
  /// kPermissionDenied for the address; those of the signers.
  static absl::StatusOr<Advert> Make(AdvertFields fields, const Signer& author,
                                     const Signer* host = nullptr);

  const AdvertFields& fields() const { return rep_->fields; }
  AdvertSlot slot() const;
  /// Exactly what was signed and is passed on, signature included.
  const std::string& bytes() const { return rep_->bytes; }
  /// SHA-256 of bytes(): how reports name it.
  std::array<std::uint8_t, 32> hash() const;
  template <typename Body>
  const Body* As() const {
    return std::get_if<Body>(&rep_->fields.body);
  }

  /// For stores that keep what was checked: looks at the form alone. Errors: kInvalidArgument.
  static absl::StatusOr<Advert> FromTrusted(std::string_view bytes);

 private:
  struct Rep {
    AdvertFields fields;
    std::string bytes;
  };
  explicit Advert(std::shared_ptr<const Rep> rep) : rep_(std::move(rep)) {}
  std::shared_ptr<const Rep> rep_;
};

/// Advert::Check of many, on `threads` threads (0: one for each CPU); results in the same order.
std::vector<absl::StatusOr<Advert>> CheckAdverts(std::span<const std::string_view> adverts,
                                                 std::uint64_t now, unsigned threads = 0);

/// What some bytes say, believed or not. Errors: kInvalidArgument.
absl::StatusOr<AdvertFields> ParseAdvert(std::string_view bytes);

}  // namespace waxvm

#endif  // WAXVM_ADVERT_H_
