// SPDX-License-Identifier: Apache-2.0
#include "src/dns/exchange.h"

#include <algorithm>

#include "src/dns/rdata.h"

namespace waxvm::dns {
namespace {

// What a datagram may have where the client does not say (RFC 1035), and the least it can say.
constexpr std::size_t kMinUdpBytes = 512;
// What this server takes over UDP, told in OPT: never fragmented.
constexpr std::uint16_t kOfferedUdpBytes = 1232;
constexpr std::size_t kOptBytes = 11;
constexpr std::uint16_t kEdnsDo = 0x8000;
// OPT and a signature. Attack: thousands of records, each with a name to be followed.
constexpr std::size_t kMaxAdditional = 16;
constexpr std::size_t kNibbles = 32;
constexpr std::size_t kMaxTargets = 8;

constexpr std::uint16_t Number(DnsType type) { return static_cast<std::uint16_t>(type); }
constexpr std::uint16_t kHinfo = 13;
constexpr std::uint32_t kHinfoTtlSeconds = 3600;
// RFC 8482, section 4.2: two character strings, the second one empty.
constexpr std::string_view kHinfoData("\7RFC8482\0", 9);

/// Types that ask for something else than records of a type.
constexpr bool IsTransfer(std::uint16_t type) { return type == 251 || type == 252; }
constexpr bool IsOtherMeta(std::uint16_t type) {
  return type == 249 || type == 250 || type == 253 || type == 254;
}

/// Where names are in the data of types whose targets' addresses are added; nothing: elsewhere.
std::optional<std::size_t> TargetOffset(std::uint16_t type) {
  if (type == Number(DnsType::kSrv)) return 6;
  if (type == Number(DnsType::kSvcb) || type == Number(DnsType::kHttps)) return 2;
  return std::nullopt;
}

int NibbleOf(std::uint8_t c) {
  const std::uint8_t lower = Lower(c);
  if (lower >= '0' && lower <= '9') return lower - '0';
  if (lower >= 'a' && lower <= 'f') return lower - 'a' + 10;
  return -1;
}

/// Labels before the suffix, lower case and in presentation form.
void RelativeText(Bytes labels, std::string& text) {
  text.clear();
  for (std::size_t at = 0; at < labels.size(); at += 1u + labels[at]) {
    if (at != 0) text.push_back('.');
    const Bytes label = labels.subspan(at + 1, labels[at]);
    const std::size_t begin = text.size();
    const auto plain = [](std::uint8_t c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    };
    for (const std::uint8_t c : label) {
      const std::uint8_t lower = Lower(c);
      if (!plain(lower)) {
        text.resize(begin);
        std::array<std::uint8_t, kMaxLabelBytes> lowered;
        std::transform(label.begin(), label.end(), lowered.begin(), Lower);
        AppendLabelText({lowered.data(), label.size()}, text);
        break;
      }
      text.push_back(static_cast<char>(lower));
    }
  }
}

}  // namespace

bool Exchange::ReadQuestion(Reader& reader) {
  std::size_t at = kHeaderBytes;
  while (at < query_.size()) {
    const std::uint8_t length = query_[at];
    // A pointer could only lead into the header.
    if (length > kMaxLabelBytes) return false;
    const std::size_t offset = at - kHeaderBytes;
    if (offset + 1 > kMaxNameBytes) return false;
    label_at_[labels_] = static_cast<std::uint8_t>(offset);
    if (length == 0) {
      name_size_ = offset + 1;
      reader.Take(name_size_);
      type_ = reader.U16();
      class_ = reader.U16();
      question_end_ = reader.position();
      return reader.ok();
    }
    ++labels_;
    at += 1u + length;
  }
  return false;
}

bool Exchange::ReadOpt(Reader& reader, bool owner_is_root) {
  if (edns_ || !owner_is_root) return false;
  edns_ = true;
  client_bytes_ = std::max<std::size_t>(reader.U16(), kMinUdpBytes);
  reader.U8();  // the upper bits of an RCODE, of no meaning here
  edns_version_ = reader.U8();
  edns_flags_ = reader.U16();
  const Bytes options = reader.Take(reader.U16());
  // What options of another version look like is not known.
  if (edns_version_ != 0) return reader.ok();
  Reader option(options);
  while (option.left() > 0) {
    option.U16();
    option.Take(option.U16());
  }
  return reader.ok() && option.ok();
}

bool Exchange::ReadAdditional(Reader& reader, std::size_t count) {
  if (count > kMaxAdditional) return false;
  for (std::size_t i = 0; i < count && reader.ok(); ++i) {
    const bool owner_is_root = reader.left() > 0 && query_[reader.position()] == 0;
    (void)reader.ReadName(Compression::kAllowed);
    if (reader.U16() == Number(DnsType::kOpt)) {
      if (!ReadOpt(reader, owner_is_root)) return false;
      continue;
    }
    reader.U16();
    reader.U32();
    reader.Take(reader.U16());
  }
  return reader.ok() && reader.left() == 0;
}

Response Exchange::Run() {
  Reader reader(query_);
  id_ = reader.U16();
  flags_ = reader.U16();
  const std::size_t questions = reader.U16();
  const std::size_t answers = reader.U16();
  const std::size_t authority = reader.U16();
  const std::size_t additional = reader.U16();
  // Attack: a response from one server to the other, answered back and forth for ever.
  if (!reader.ok() || (flags_ & kFlagQr) != 0) return {};
  if ((flags_ & kOpcodeMask) != 0) return FinishHeaderOnly(Rcode::kNotImp);
  if (questions != 1 || !ReadQuestion(reader)) return FinishHeaderOnly(Rcode::kFormErr);
  StartResponse(true);
  if (IsTransfer(type_)) return Finish(Rcode::kRefused);
  if (answers != 0 || authority != 0 || !ReadAdditional(reader, additional)) {
    edns_ = false;
    return Finish(Rcode::kFormErr);
  }
  if (edns_version_ != 0) return Finish(Rcode::kBadVers);
  if (type_ == Number(DnsType::kOpt)) return Finish(Rcode::kFormErr);
  if (IsOtherMeta(type_)) return Finish(Rcode::kNotImp);
  const Zone* const zone = class_ == kClassIn ? FindZone() : nullptr;
  if (zone == nullptr) return Finish(Rcode::kRefused);
  return Answer(*zone);
}

const Zone* Exchange::FindZone() const {
  const Bytes name = query_.subspan(kHeaderBytes, name_size_);
  for (const Zone& zone : served_.zones)
    if (labels_ >= zone.labels &&
        EqualIgnoringCase(name.subspan(label_at_[labels_ - zone.labels]), zone.name.bytes()))
      return &zone;
  return nullptr;
}

DnsFound Exchange::FindForward(const Zone& zone) {
  const std::size_t before = label_at_[labels_ - zone.labels];
  RelativeText(query_.subspan(kHeaderBytes, before), scratch_.name);
  const DnsFound found =
      source_.Lookup({.name = scratch_.name, .type = static_cast<DnsType>(type_)}, scratch_.answer);
  // The suffix itself always exists.
  return found == DnsFound::kNo && before == 0 ? DnsFound::kYes : found;
}

DnsFound Exchange::FindReverse() {
  const std::size_t nibbles = labels_ - 2;  // before ip6.arpa
  if (nibbles > kNibbles) return DnsFound::kNo;
  std::array<std::uint8_t, 16> address = {};
  for (std::size_t i = 0; i < nibbles; ++i) {
    const std::size_t at = kHeaderBytes + label_at_[nibbles - 1 - i];
    const int value = query_[at] == 1 ? NibbleOf(query_[at + 1]) : -1;
    if (value < 0) return DnsFound::kNo;
    address[i / 2] = static_cast<std::uint8_t>(address[i / 2] | value << (i % 2 == 0 ? 4 : 0));
  }
  // RFC 8020: above an address that may exist, nothing may be said not to.
  if (nibbles < kNibbles) return DnsFound::kYes;
  return source_.Lookup({.name = {}, .type = static_cast<DnsType>(type_), .address = address},
                        scratch_.answer);
}

DnsFound Exchange::Find(const Zone& zone) {
  scratch_.answer.Clear();
  const DnsFound found = zone.reverse ? FindReverse() : FindForward(zone);
  if (found != DnsFound::kYes) return found;
  if (type_ == Number(DnsType::kAny)) {
    scratch_.answer.Clear();
    AddRecord(Section::kAnswer, kHeaderBytes, kHinfo, kHinfoTtlSeconds, kHinfoData);
  } else if (labels_ == zone.labels && type_ == Number(DnsType::kSoa)) {
    scratch_.answer.Clear();
    AddRecord(Section::kAnswer, kHeaderBytes, type_, served_.negative_ttl_seconds, served_.soa);
  } else if (labels_ == zone.labels && type_ == Number(DnsType::kNs)) {
    scratch_.answer.Clear();
    AddRecord(Section::kAnswer, kHeaderBytes, type_, kHinfoTtlSeconds, served_.ns);
  }
  return found;
}

Response Exchange::Answer(const Zone& zone) {
  const std::size_t start = writer_.position();
  const std::size_t most =
      asked_.over_tcp ? kMaxMessageBytes
                      : std::min(client_bytes_, std::max(asked_.max_udp_bytes, kMinUdpBytes));
  writer_.Limit(std::min(out_.size(), most) - (edns_ ? kOptBytes : 0));
  const DnsFound found = Find(zone);
  if (found == DnsFound::kPending && !asked_.final) return {.pending = true};
  if (found == DnsFound::kPending || found == DnsFound::kUnknown || scratch_.answer.overflowed())
    return Finish(Rcode::kServFail);
  if (found == DnsFound::kYes && !AddAnswers()) {
    if (asked_.over_tcp) return Finish(Rcode::kServFail);
    writer_.Rewind(start);
    return Finish(Rcode::kNoError, kFlagAa | kFlagTc);
  }
  if (writer_.position() == start) {
    // RFC 2308: the SOA says how long this may be kept.
    AddRecord(Section::kAuthority,
              static_cast<std::uint16_t>(kHeaderBytes + label_at_[labels_ - zone.labels]),
              Number(DnsType::kSoa), served_.negative_ttl_seconds, served_.soa);
  } else {
    AddTargets(zone);
  }
  return Finish(found == DnsFound::kYes ? Rcode::kNoError : Rcode::kNxDomain, kFlagAa);
}

bool Exchange::AddAnswers() {
  const std::size_t start = writer_.position();
  std::uint32_t ttl = ~std::uint32_t{0};
  // RFC 2181: the records of a name and type have one TTL. Its uppermost bit is zero.
  for (const DnsAnswer::Entry& entry : scratch_.answer.entries())
    if (Number(entry.type) == type_) ttl = std::min(ttl, entry.ttl_seconds & 0x7fffffff);
  for (const DnsAnswer::Entry& entry : scratch_.answer.entries())
    if (Number(entry.type) == type_)
      AddRecord(Section::kAnswer, kHeaderBytes, type_, ttl, scratch_.answer.data(entry));
  if (writer_.ok()) return true;
  writer_.Rewind(start);
  writer_.Patch16(static_cast<std::size_t>(Section::kAnswer), 0);
  return false;
}

void Exchange::Count(Section section) {
  const auto at = static_cast<std::size_t>(section);
  writer_.Patch16(at, Load16(&out_[at]) + 1u);
}

void Exchange::AddRecord(Section section, std::uint16_t owner_offset, std::uint16_t type,
                         std::uint32_t ttl_seconds, std::string_view data) {
  writer_.U16(0xc000u | owner_offset);
  writer_.U16(type);
  writer_.U16(kClassIn);
  writer_.U32(ttl_seconds);
  writer_.U16(data.size());
  writer_.Put(ToBytes(data));
  if (writer_.ok()) Count(section);
}

void Exchange::AddTargets(const Zone& zone) {
  const auto offset = TargetOffset(type_);
  if (!offset || zone.reverse) return;
  writer_.Remember(kHeaderBytes);
  std::array<Name, kMaxTargets> seen;
  std::size_t count = 0;
  for (const DnsAnswer::Entry& entry : scratch_.answer.entries()) {
    const std::string_view data = scratch_.answer.data(entry);
    if (count == kMaxTargets || data.size() <= *offset) return;
    Reader reader(ToBytes(data), *offset, data.size());
    const Name target = reader.ReadName(Compression::kRefused);
    if (!reader.ok() || target.is_root() || !target.IsWithin(zone.name)) continue;
    if (std::find(seen.begin(), seen.begin() + count, target) != seen.begin() + count) continue;
    seen[count++] = target;
    if (!AddTarget(zone, target)) return;
  }
}

bool Exchange::AddTarget(const Zone& zone, const Name& target) {
  RelativeText(target.bytes().first(target.size() - zone.name.size()), scratch_.name);
  scratch_.more.Clear();
  if (source_.Lookup({.name = scratch_.name, .type = DnsType::kAaaa}, scratch_.more) !=
      DnsFound::kYes)
    return true;
  for (const DnsAnswer::Entry& entry : scratch_.more.entries()) {
    if (entry.type != DnsType::kAaaa) continue;
    const std::size_t before = writer_.position();
    writer_.PutCompressed(target);
    writer_.U16(Number(entry.type));
    writer_.U16(kClassIn);
    writer_.U32(entry.ttl_seconds);
    writer_.U16(entry.bytes);
    writer_.Put(ToBytes(scratch_.more.data(entry)));
    if (!writer_.ok()) {
      writer_.Rewind(before);
      return false;
    }
    Count(Section::kAdditional);
  }
  return true;
}

void Exchange::StartResponse(bool with_question) {
  writer_.U16(id_);
  writer_.U16(0);
  writer_.U16(with_question ? 1 : 0);
  writer_.U16(0);
  writer_.U32(0);
  // As it came, so that a client that mixes upper and lower case finds it again.
  if (with_question) writer_.Put(query_.subspan(kHeaderBytes, question_end_ - kHeaderBytes));
}

Response Exchange::FinishHeaderOnly(Rcode rcode) {
  StartResponse(false);
  return Finish(rcode);
}

Response Exchange::Finish(Rcode rcode, std::uint16_t flags) {
  const auto code = static_cast<std::uint16_t>(rcode);
  std::size_t bytes = writer_.position();
  if (edns_) {
    Writer opt(out_.subspan(bytes));
    opt.U8(0);
    opt.U16(Number(DnsType::kOpt));
    opt.U16(kOfferedUdpBytes);
    opt.U8(static_cast<std::uint8_t>(code >> 4));
    opt.U8(0);  // the version
    opt.U16(edns_flags_ & kEdnsDo);
    opt.U16(0);
    if (!opt.ok()) return {};
    bytes += opt.position();
    Count(Section::kAdditional);
  }
  Store16(&out_[2], kFlagQr | (flags_ & (kOpcodeMask | kFlagRd)) | flags | (code & kRcodeMask));
  return {.bytes = bytes, .truncated = (flags & kFlagTc) != 0};
}

}  // namespace waxvm::dns
