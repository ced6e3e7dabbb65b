// SPDX-License-Identifier: Apache-2.0
#include "src/naming/advert_codec.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "src/base/status.h"

namespace waxvm::naming {
namespace {

// The format, byte for byte: whoever changes a number here changes docs/formats/advert.md and the
// version in the context.
static_assert(kAdvertContext.size() == 16 && kHostingContext.size() == 16);
static_assert(kTypeAt == 16 && kAuthorAt == kTypeAt + 1 && kSequenceAt == kAuthorAt + kKeyBytes);
static_assert(kCreatedAt == 57 && kExpiresAt == 65 && kTtlAt == 73 && kBodyLengthAt == 77);
static_assert(kBodyAt == 79 && kMaxAdvertBytes == 680 && kMaxBodyBytes == 537);
static_assert(static_cast<int>(AdvertType::kVm) == 1 && static_cast<int>(AdvertType::kHost) == 2);
static_assert(static_cast<int>(AdvertType::kTopic) == 3 &&
              static_cast<int>(AdvertType::kRevocation) == 4 &&
              static_cast<int>(AdvertType::kName) == 5 && std::variant_size_v<AdvertBody> == 5);

class Writer {
 public:
  void Number(std::uint64_t number, int bytes) {
    for (int i = bytes - 1; i >= 0; --i)
      out_.push_back(static_cast<char>(number >> (8 * i) & 0xff));
  }
  void Bytes(std::string_view bytes) { out_.append(bytes); }
  template <std::size_t Size>
  void Bytes(const std::array<std::uint8_t, Size>& bytes) {
    out_.append(reinterpret_cast<const char*>(bytes.data()), Size);
  }
  void Text(std::string_view text) {
    Number(std::min<std::size_t>(text.size(), 255), 1);  // more than any bound: refused on reading
    Bytes(text);
  }
  template <typename List, typename Write>
  void Items(const List& list, Write write) {
    Number(std::min<std::size_t>(list.size(), 254), 1);
    for (const auto& item : list) write(item);
  }
  void Keys(const std::vector<PublicKey>& keys) {
    Items(keys, [&](const PublicKey& key) { Bytes(key.bytes); });
  }
  void Claim(const AddressClaim& claim) {
    Bytes(claim.address.bytes);
    Bytes(claim.modifier);
    Number(static_cast<std::uint64_t>(claim.collision_count), 1);
  }
  std::string Take() { return std::move(out_); }

 private:
  std::string out_;
};

/// Takes fields off the front. After the first that is cut short or out of bounds nothing is read
/// any more, and `error` says what it was.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}

  std::uint64_t Number(std::size_t bytes, std::string_view what) {
    std::uint64_t number = 0;
    for (const char c : Take(bytes, what)) number = number << 8 | static_cast<unsigned char>(c);
    return number;
  }
  template <std::size_t Size>
  void Into(std::array<std::uint8_t, Size>& array, std::string_view what) {
    const std::string_view bytes = Take(Size, what);
    std::copy(bytes.begin(), bytes.end(), array.begin());
  }
  std::string Text(std::size_t max, bool (*allowed)(char), std::string_view what) {
    const std::size_t size = Number(1, what);
    if (size == 0 || size > max) Fail(what);
    std::string text(Take(size, what));
    if (!std::all_of(text.begin(), text.end(), allowed)) Fail(what);
    return text;
  }
  template <typename Item>
  std::vector<Item> Items(std::size_t count, std::size_t max, std::string_view what,
                          void (*read)(Reader&, Item&)) {
    std::vector<Item> items;
    if (count > max) Fail(what);
    for (std::size_t i = 0; i < count && ok(); ++i) read(*this, items.emplace_back());
    return items;
  }
  std::vector<PublicKey> Keys(std::size_t count, std::size_t max, std::string_view what) {
    return Items<PublicKey>(count, max, what,
                            [](Reader& r, PublicKey& key) { r.Into(key.bytes, "a key"); });
  }
  AddressClaim Claim() {
    AddressClaim claim;
    Into(claim.address.bytes, "the address");
    Into(claim.modifier, "the modifier");
    claim.collision_count = static_cast<int>(Number(1, "the collision count"));
    if (claim.collision_count > cga::kMaxCollisionCount) Fail("the collision count");
    return claim;
  }
  void Fail(std::string_view what) {
    if (error_.empty()) error_ = what;
    rest_ = {};
  }
  bool ok() const { return error_.empty(); }
  std::string_view error() const { return error_; }
  bool empty() const { return rest_.empty(); }

 private:
  std::string_view Take(std::size_t bytes, std::string_view what) {
    if (bytes > rest_.size()) {
      Fail(what);
      return {};
    }
    const std::string_view taken = rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
    return taken;
  }
  std::string_view rest_;
  std::string_view error_;
};

bool IsLabelCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
}
bool IsSchemeCharacter(char c) { return IsLabelCharacter(c) || c == '+' || c == '.'; }
bool IsVisible(char c) { return c > ' ' && c <= '~'; }

void Write(Writer& out, const VmBody& body) {
  out.Claim(body.claim);
  out.Bytes(body.host.bytes);
  out.Items(body.services, [&](const AdvertisedService& service) {
    out.Text(service.name);
    out.Number(service.protocol, 1);
    out.Number(service.port, 2);
  });
  out.Keys(body.mailboxes);
  out.Bytes(body.host_signature.bytes);  // last: it covers all before it
}

VmBody ReadVm(Reader& in) {
  VmBody body;
  body.claim = in.Claim();
  in.Into(body.host.bytes, "the host's key");
  body.services = in.Items<AdvertisedService>(
      in.Number(1, "the services"), kMaxServices, "the services",
      [](Reader& r, AdvertisedService& service) {
        service.name = r.Text(kMaxServiceNameBytes, IsLabelCharacter, "the name of a service");
        service.protocol = static_cast<std::uint8_t>(r.Number(1, "the protocol"));
        service.port = static_cast<std::uint16_t>(r.Number(2, "the port"));
      });
  body.mailboxes = in.Keys(in.Number(1, "the mailboxes"), kMaxMailboxes, "the mailboxes");
  in.Into(body.host_signature.bytes, "the host's signature");
  return body;
}

void Write(Writer& out, const HostBody& body) {
  out.Claim(body.claim);
  out.Bytes(body.tunnel_key.bytes);
  out.Number((body.relay ? kRelayFlag : 0u) | (body.mailbox ? kMailboxFlag : 0u), 1);
  out.Items(body.transports, [&](const AdvertisedTransport& transport) {
    out.Text(transport.scheme);
    out.Bytes(transport.address.bytes);
    out.Number(transport.port, 2);
    out.Number(transport.weight, 1);
  });
}

HostBody ReadHost(Reader& in) {
  HostBody body;
  body.claim = in.Claim();
  in.Into(body.tunnel_key.bytes, "the tunnel's key");
  const std::uint64_t flags = in.Number(1, "the flags");
  if ((flags & ~std::uint64_t{kRelayFlag | kMailboxFlag}) != 0) in.Fail("the flags");
  body.relay = (flags & kRelayFlag) != 0;
  body.mailbox = (flags & kMailboxFlag) != 0;
  body.transports = in.Items<AdvertisedTransport>(
      in.Number(1, "the transports"), kMaxTransports, "the transports",
      [](Reader& r, AdvertisedTransport& transport) {
        transport.scheme = r.Text(kMaxSchemeBytes, IsSchemeCharacter, "the scheme of a transport");
        r.Into(transport.address.bytes, "the address of a transport");
        transport.port = static_cast<std::uint16_t>(r.Number(2, "the port"));
        transport.weight = static_cast<std::uint8_t>(r.Number(1, "the weight"));
      });
  return body;
}

void Write(Writer& out, const TopicBody& body) {
  out.Keys(body.relays);
  // Both at once means nothing; written as two counts, it is refused on reading.
  if (body.open) out.Number(kOpenTopic, 1);
  if (!body.open || !body.publishers.empty()) out.Keys(body.publishers);
  out.Items(body.tags, [&](const std::string& tag) { out.Text(tag); });
}

TopicBody ReadTopic(Reader& in) {
  TopicBody body;
  body.relays = in.Keys(in.Number(1, "the relays"), kMaxRelays, "the relays");
  const std::uint64_t publishers = in.Number(1, "the publishers");
  body.open = publishers == kOpenTopic;
  if (!body.open) body.publishers = in.Keys(publishers, kMaxPublishers, "the publishers");
  body.tags = in.Items<std::string>(
      in.Number(1, "the tags"), kMaxTags, "the tags",
      [](Reader& r, std::string& tag) { tag = r.Text(kMaxTagBytes, IsVisible, "a tag"); });
  return body;
}

void Write(Writer& out, const RevocationBody& body) {
  out.Number(static_cast<std::uint64_t>(body.reason), 1);
}

RevocationBody ReadRevocation(Reader& in) {
  const std::uint64_t reason = in.Number(1, "the reason");
  if (reason > static_cast<std::uint64_t>(RevocationBody::Reason::kRetired)) in.Fail("the reason");
  return {.reason = static_cast<RevocationBody::Reason>(reason)};
}

void Write(Writer& out, const NameBody& body) {
  out.Text(body.label);
  out.Bytes(body.target.bytes);
}

NameBody ReadName(Reader& in) {
  NameBody body;
  body.label = in.Text(kMaxLabelBytes, IsLabelCharacter, "the label");
  if (!IsLabel(body.label)) in.Fail("the label");
  in.Into(body.target.bytes, "the target's key");
  return body;
}

absl::StatusOr<AdvertBody> ReadBody(Reader& in, std::uint64_t type) {
  switch (type) {
    case static_cast<int>(AdvertType::kVm):
      return ReadVm(in);
    case static_cast<int>(AdvertType::kHost):
      return ReadHost(in);
    case static_cast<int>(AdvertType::kTopic):
      return ReadTopic(in);
    case static_cast<int>(AdvertType::kRevocation):
      return ReadRevocation(in);
    case static_cast<int>(AdvertType::kName):
      return ReadName(in);
    default:
      return InvalidArgument("an advert of type %d; there are 1 to 5", type);
  }
}

absl::Status CheckTimes(const AdvertFields& fields) {
  if (fields.sequence > kMaxAdvertSequence || fields.created >= fields.expires ||
      fields.expires > kNeverExpires)
    return InvalidArgument("sequence %d, created at %d and expiring at %d: no advert has these",
                           fields.sequence, fields.created, fields.expires);
  const std::uint64_t lifetime = fields.expires - fields.created;
  const bool revokes = fields.type() == AdvertType::kRevocation;
  // What lives for ever would have to be remembered for ever.
  if (revokes != (fields.expires == kNeverExpires) || (!revokes && lifetime > kMaxAdvertLifetime))
    return InvalidArgument("a lifetime of %d s; a revocation has no end, others have at most %d s",
                           lifetime, kMaxAdvertLifetime);
  if (fields.ttl == 0 || fields.ttl > std::min<std::uint64_t>(kMaxAdvertTtl, lifetime))
    return InvalidArgument("a ttl of %d s; it is at least 1, at most %d, and ends with the advert",
                           fields.ttl, kMaxAdvertTtl);
  return absl::OkStatus();
}

}  // namespace

bool IsLabel(std::string_view label) {
  return !label.empty() && label.size() <= kMaxLabelBytes && label.front() != '-' &&
         label.back() != '-' && std::all_of(label.begin(), label.end(), IsLabelCharacter);
}

absl::StatusOr<std::string> EncodeUnsigned(const AdvertFields& fields) {
  Writer body;
  std::visit([&](const auto& which) { Write(body, which); }, fields.body);
  const std::string body_bytes = body.Take();
  if (body_bytes.size() > kMaxBodyBytes)
    return InvalidArgument("the body has %d bytes, at most %d fit", body_bytes.size(),
                           kMaxBodyBytes);
  Writer out;
  out.Bytes(kAdvertContext);
  out.Number(static_cast<std::uint64_t>(fields.type()), 1);
  out.Bytes(fields.author.bytes);
  out.Number(fields.sequence, 8);
  out.Number(fields.created, 8);
  out.Number(fields.expires, 8);
  out.Number(fields.ttl, 4);
  out.Number(body_bytes.size(), 2);
  out.Bytes(body_bytes);
  return out.Take();
}

std::string HostedBytes(std::string_view unsigned_bytes) {
  std::string bytes(kHostingContext);
  return bytes.append(unsigned_bytes.substr(0, unsigned_bytes.size() - kSignatureBytes));
}

absl::StatusOr<AdvertFields> ParseUnsigned(std::string_view bytes) {
  if (bytes.size() < kBodyAt || !bytes.starts_with(kAdvertContext))
    return InvalidArgument("this is no advert of version 1");
  Reader in(bytes.substr(kTypeAt));
  AdvertFields fields;
  const std::uint64_t type = in.Number(1, "the type");
  in.Into(fields.author.bytes, "the author");
  fields.sequence = in.Number(8, "the sequence");
  fields.created = in.Number(8, "the creation");
  fields.expires = in.Number(8, "the expiry");
  fields.ttl = static_cast<std::uint32_t>(in.Number(4, "the ttl"));
  const std::uint64_t body_bytes = in.Number(2, "the length");
  if (body_bytes != bytes.size() - kBodyAt)
    return InvalidArgument("the body has %d bytes, not the %d announced", bytes.size() - kBodyAt,
                           body_bytes);
  WAXVM_ASSIGN_OR_RETURN(fields.body, ReadBody(in, type));
  if (!in.ok()) return InvalidArgument("%s: cut short, or out of bounds", in.error());
  if (!in.empty()) return InvalidArgument("there are bytes after the body");
  WAXVM_RETURN_IF_ERROR(CheckTimes(fields));
  return fields;
}

}  // namespace waxvm::naming
