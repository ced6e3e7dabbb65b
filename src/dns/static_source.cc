// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>

#include <algorithm>
#include <functional>
#include <unordered_map>
#include <utility>

#include "src/base/status.h"
#include "src/dns/name.h"
#include "src/dns/rdata.h"
#include "waxvm/dns.h"

namespace waxvm {

using dns::Name;

namespace {

// Attack: a zone file that is no zone file. Each line makes at most 127 names.
constexpr std::size_t kMaxZoneBytes = std::size_t{256} << 20;

using Address = std::array<std::uint8_t, 16>;

struct HashText {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const {
    return std::hash<std::string_view>{}(text);
  }
};

std::string_view AddressText(const Address& address) {
  return {reinterpret_cast<const char*>(address.data()), address.size()};
}

/// As DnsQuestion::name has it.
std::string RelativeText(const Name& name, const Name& suffix) {
  Name lower = name;
  lower.MakeLower();
  std::string text = lower.ToText();
  const std::size_t suffix_size = suffix.ToText().size();
  text.resize(text.size() - suffix_size);
  if (!text.empty()) text.pop_back();
  return text;
}

/// The address that a name below ip6.arpa is of, where it is of a whole one.
std::optional<Address> AddressOf(const Name& name) {
  static constexpr std::string_view kTail("\3ip6\4arpa\0", 10);
  const auto bytes = name.bytes();
  if (bytes.size() != 64 + kTail.size() ||
      !dns::EqualIgnoringCase(bytes.subspan(64), dns::ToBytes(kTail)))
    return std::nullopt;
  Address address = {};
  for (std::size_t i = 0; i < 32; ++i) {
    const std::uint8_t c = dns::Lower(bytes[62 - 2 * i + 1]);
    const bool digit = c >= '0' && c <= '9';
    if (bytes[62 - 2 * i] != 1 || (!digit && (c < 'a' || c > 'f'))) return std::nullopt;
    const int value = digit ? c - '0' : c - 'a' + 10;
    address[i / 2] = static_cast<std::uint8_t>(address[i / 2] | value << (i % 2 == 0 ? 4 : 0));
  }
  return address;
}

}  // namespace

absl::StatusOr<DnsRecord> ParseDnsRecord(std::string_view text, std::string_view origin) {
  auto origin_name = Name::FromText(origin);
  if (!origin_name.ok()) return Annotate(origin_name.status(), "the origin");
  WAXVM_ASSIGN_OR_RETURN(const std::vector<std::string> all, dns::SplitWords(text));
  std::span<const std::string> words(all);
  DnsRecord record;
  if (!words.empty()) {
    if (const auto ttl = dns::ParseNumber(words[0], 0x7fffffff)) {
      record.ttl_seconds = *ttl;
      words = words.subspan(1);
    }
  }
  if (!words.empty() && (words[0] == "IN" || words[0] == "in")) words = words.subspan(1);
  if (words.empty()) return InvalidArgument("a record is TYPE DATA, not '%s'", text.substr(0, 300));
  const auto type = dns::TypeFromText(words[0]);
  if (!type) return InvalidArgument("'%s' is no type of record", words[0]);
  record.type = static_cast<DnsType>(*type);
  WAXVM_ASSIGN_OR_RETURN(record.data, dns::RdataFromText(*type, words.subspan(1), *origin_name));
  return record;
}

/// By name, relative to the suffix and lower case, or by address.
class StaticDnsSource::Records {
 public:
  using Map = std::unordered_map<std::string, std::vector<DnsRecord>, HashText, std::equal_to<>>;

  explicit Records(Name suffix) : suffix_(std::move(suffix)) {}

  absl::Status AddLine(std::string_view line) {
    const std::size_t begin = line.find_first_not_of(" \t\r");
    if (begin == line.npos || line[begin] == ';') return absl::OkStatus();
    line.remove_prefix(begin);
    const std::size_t end = std::min(line.find_first_of(" \t\r"), line.size());
    const std::string_view owner = line.substr(0, end);
    WAXVM_ASSIGN_OR_RETURN(DnsRecord record, ParseDnsRecord(line.substr(end), suffix_.ToText()));
    return Add(owner, std::move(record));
  }

  /// Each address answers with its name where nothing else was said.
  void AddReverse() {
    for (auto& [address, record] : implied_)
      if (auto [at, added] = by_address_.try_emplace(address); added || at->second.empty())
        at->second.push_back(std::move(record));
    implied_.clear();
  }

  const std::vector<DnsRecord>* Find(const DnsQuestion& question) const {
    const Map& map = question.address ? by_address_ : by_name_;
    const auto at = map.find(question.address ? AddressText(*question.address) : question.name);
    return at == map.end() ? nullptr : &at->second;
  }

 private:
  absl::Status Add(std::string_view owner, DnsRecord record) {
    Address address;
    if (inet_pton(AF_INET6, std::string(owner).c_str(), address.data()) == 1) {
      by_address_[std::string(AddressText(address))].push_back(std::move(record));
      return absl::OkStatus();
    }
    auto name = Name::FromText(owner, suffix_);
    if (!name.ok()) return name.status();
    if (const auto whole = AddressOf(*name)) {
      by_address_[std::string(AddressText(*whole))].push_back(std::move(record));
      return absl::OkStatus();
    }
    if (!name->IsWithin(suffix_))
      return InvalidArgument("'%s' is not below '%s'", owner, suffix_.ToText());
    if (record.type == DnsType::kSoa || record.type == DnsType::kNs)
      return InvalidArgument("SOA and NS are the server's own");
    if (record.type == DnsType::kAaaa)
      implied_.emplace_back(record.data,
                            DnsRecord{.type = DnsType::kPtr,
                                      .ttl_seconds = record.ttl_seconds,
                                      .data = std::string(dns::ToText(name->bytes()))});
    by_name_[RelativeText(*name, suffix_)].push_back(std::move(record));
    // What is above a name exists as well, without a record.
    for (Name above = name->Parent(); above.size() > suffix_.size(); above = above.Parent())
      by_name_.try_emplace(RelativeText(above, suffix_));
    return absl::OkStatus();
  }

  Name suffix_;
  Map by_name_;
  Map by_address_;
  std::vector<std::pair<std::string, DnsRecord>> implied_;
};

absl::StatusOr<std::shared_ptr<StaticDnsSource>> StaticDnsSource::FromZone(
    std::string_view zone, std::string_view suffix) {
  if (zone.size() > kMaxZoneBytes)
    return absl::ResourceExhaustedError(
        absl::StrFormat("a zone has at most %d bytes, not %d", kMaxZoneBytes, zone.size()));
  const auto suffix_name = Name::FromText(suffix);
  if (!suffix_name.ok()) return Annotate(suffix_name.status(), "the suffix");
  auto records = std::make_unique<Records>(*suffix_name);
  for (std::size_t number = 1; !zone.empty(); ++number) {
    const std::size_t end = std::min(zone.find('\n'), zone.size());
    if (absl::Status status = records->AddLine(zone.substr(0, end)); !status.ok())
      return Annotate(status, absl::StrFormat("line %d", number));
    zone.remove_prefix(std::min(end + 1, zone.size()));
  }
  records->AddReverse();
  return std::shared_ptr<StaticDnsSource>(new StaticDnsSource(std::move(records)));
}

StaticDnsSource::StaticDnsSource(std::unique_ptr<const Records> records)
    : records_(std::move(records)) {}
StaticDnsSource::~StaticDnsSource() = default;

DnsFound StaticDnsSource::Lookup(const DnsQuestion& question, DnsAnswer& answer) {
  const std::vector<DnsRecord>* const records = records_->Find(question);
  if (records == nullptr) return DnsFound::kNo;
  for (const DnsRecord& record : *records)
    if (record.type == question.type) answer.Add(record);
  return DnsFound::kYes;
}

}  // namespace waxvm
