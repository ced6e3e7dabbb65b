// SPDX-License-Identifier: Apache-2.0
#include "waxvm/resolver_dns.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "src/base/mutex.h"
#include "src/base/status.h"
#include "src/dns/name.h"

namespace waxvm {
namespace {

constexpr std::uint8_t kTcp = 6;
constexpr std::uint8_t kUdp = 17;
// Keys of SVCB parameters. Spec: RFC 9460 section 14.3.2.
constexpr std::uint16_t kPortParam = 3;
constexpr std::uint16_t kIpv6HintParam = 6;
// Why a name could not be resolved is known for that long: the questions that wait for it are
// answered, and it is tried anew soon.
constexpr std::uint64_t kFailureSeconds = 1;

std::string_view TextOf(std::span<const std::uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void AppendU16(std::string& to, std::uint16_t number) {
  to.push_back(static_cast<char>(number >> 8));
  to.push_back(static_cast<char>(number & 0xff));
}

void AppendString(std::string& to, std::string_view text) {
  to.push_back(static_cast<char>(text.size()));
  to.append(text);
}

std::string SvcbData(std::string_view target, std::uint16_t port, const Address& address) {
  std::string data;
  AppendU16(data, 1);
  data.append(target);
  AppendU16(data, kPortParam);
  AppendU16(data, 2);
  AppendU16(data, port);
  AppendU16(data, kIpv6HintParam);
  AppendU16(data, kAddressBytes);
  return data.append(address.view());
}

/// A question's name: what is resolved, and the labels with an underscore before it.
struct Parts {
  std::string_view name;
  std::string_view service = {};   ///< empty: none
  std::string_view protocol = {};  ///< empty: none
};

/// The first label, without its underscore; empty where it has none.
std::string_view TakeUnderscored(std::string_view& name) {
  if (!name.starts_with('_')) return {};
  const std::size_t dot = name.find('.');
  if (dot == name.npos || dot == 1) return {};
  const std::string_view label = name.substr(1, dot - 1);
  name.remove_prefix(dot + 1);
  return label;
}

std::optional<std::uint8_t> ProtocolOf(std::string_view label) {
  if (label == "udp") return kUdp;
  if (label == "tcp") return kTcp;
  return std::nullopt;
}

Parts Split(std::string_view name) {
  Parts parts = {.name = name};
  const std::string_view first = TakeUnderscored(parts.name);
  const std::string_view second = TakeUnderscored(parts.name);
  if (!second.empty() || !ProtocolOf(first)) {
    parts.service = first;
    parts.protocol = second;
  } else {
    parts.protocol = first;
  }
  return parts;
}

}  // namespace

class ResolverDnsSource::State {
 public:
  State(Resolver* resolver, Directory* directory, const Petnames* petnames,
        const ResolverDnsOptions& options, const dns::Name& suffix)
      : resolver_(*resolver),
        directory_(*directory),
        petnames_(*petnames),
        options_(options),
        suffix_(suffix) {}

  ~State() {
    {
      const MutexLock lock(mutex_);
      stopped_ = true;
      work_.NotifyAll();
    }
    for (std::thread& thread : threads_) thread.join();
  }

  void Start() {
    for (unsigned i = 0; i < options_.threads; ++i) threads_.emplace_back([this] { Work(); });
  }

  DnsFound Lookup(const DnsQuestion& question, DnsAnswer& answer) {
    if (question.address) return LookupAddress(*question.address, question.type, answer);
    if (question.name.empty()) return DnsFound::kYes;
    const Parts parts = Split(question.name);
    const std::optional<NameState> state = Resolve(parts.name);
    if (!state) return DnsFound::kPending;
    if (!state->meaning.ok()) return WithoutRecords(*state, parts);
    const std::uint64_t now = Now();
    const auto ttl = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(state->until > now ? state->until - now : 0, 0x7fffffff));
    return Answer(**state->meaning, parts, question.type, ttl, answer);
  }

 private:
  std::uint64_t Now() const {
    return options_.clock ? options_.clock() : static_cast<std::uint64_t>(std::time(nullptr));
  }

  static DnsFound WithoutRecords(const NameState& state, const Parts& parts) {
    if (!state.exists || absl::IsInvalidArgument(state.meaning.status())) return DnsFound::kNo;
    const absl::Status& status = state.meaning.status();
    const bool known = absl::IsNotFound(status) || absl::IsDeadlineExceeded(status) ||
                       absl::IsAborted(status) || absl::IsPermissionDenied(status);
    if (!known) return DnsFound::kUnknown;
    // Services are known from an advert alone.
    return parts.service.empty() && parts.protocol.empty() ? DnsFound::kYes : DnsFound::kNo;
  }

  std::optional<NameState> Resolve(std::string_view name) {
    if (threads_.empty()) return resolver_.Look(name, /*kept_alone=*/false);
    if (auto kept = resolver_.Look(name, /*kept_alone=*/true)) return kept;
    const std::uint64_t now = Now();
    const MutexLock lock(mutex_);
    if (const auto failed = failed_.find(name); failed != failed_.end()) {
      // Unless the clock was put back: it would be known for that much longer.
      if (now < failed->second.until && failed->second.until - now <= kFailureSeconds)
        return failed->second;
      failed_.erase(failed);
    }
    if (waiting_.find(name) != waiting_.end()) return std::nullopt;
    if (waiting_.size() >= options_.max_waiting)
      return NameState{.meaning = absl::ResourceExhaustedError("too many names wait"),
                       .exists = true};
    queue_.push_back(*waiting_.emplace(name).first);
    work_.NotifyAll();
    return std::nullopt;
  }

  void Work() {
    for (;;) {
      std::string name;
      {
        const MutexLock lock(mutex_);
        while (queue_.empty() && !stopped_) work_.Wait(mutex_);
        if (stopped_) return;
        name = std::move(queue_.front());
        queue_.pop_front();
      }
      const std::optional<NameState> state = resolver_.Look(name, /*kept_alone=*/false);
      const bool kept = resolver_.Look(name, /*kept_alone=*/true).has_value();
      const MutexLock lock(mutex_);
      waiting_.erase(name);
      if (kept || !state) continue;
      // Not more of them than may wait: those of a moment ago are of no use.
      if (failed_.size() >= options_.max_waiting) failed_.clear();
      NameState failure = *state;
      failure.until = Now() + kFailureSeconds;
      failed_.insert_or_assign(name, std::move(failure));
    }
  }

  /// The wire form of a name below the suffix; empty where it is too long for one.
  std::string Wire(std::string_view name) const {
    const auto wire = dns::Name::FromText(name, suffix_);
    return wire.ok() ? std::string(TextOf(wire->bytes())) : std::string();
  }

  DnsFound Answer(const Resolution& found, const Parts& parts, DnsType type, std::uint32_t ttl,
                  DnsAnswer& answer) const {
    if (!parts.service.empty() || !parts.protocol.empty())
      return AnswerService(found, parts, type, ttl, answer);
    if (type == DnsType::kAaaa) answer.Add(type, ttl, found.address.view());
    if (type == DnsType::kTxt) answer.Add(type, ttl, TxtData(found));
    if (type == DnsType::kHttps)
      for (const AdvertisedService& service : found.services)
        if (service.name == "https" && service.protocol == kTcp)
          // "." is the name that was asked for.
          answer.Add(type, ttl, SvcbData(std::string_view("\0", 1), service.port, found.address));
    return DnsFound::kYes;
  }

  DnsFound AnswerService(const Resolution& found, const Parts& parts, DnsType type,
                         std::uint32_t ttl, DnsAnswer& answer) const {
    const auto protocol = ProtocolOf(parts.protocol);
    DnsFound exists = DnsFound::kNo;
    const std::string target = Wire(parts.name);
    if (target.empty() || (!parts.protocol.empty() && !protocol)) return exists;
    for (const AdvertisedService& service : found.services) {
      if (!parts.service.empty() && service.name != parts.service) continue;
      if (protocol && service.protocol != *protocol) continue;
      exists = DnsFound::kYes;
      if (parts.service.empty()) continue;  // above the services of a protocol
      if (protocol && type == DnsType::kSrv) {
        std::string data(4, '\0');  // priority and weight
        AppendU16(data, service.port);
        answer.Add(type, ttl, data.append(target));
      }
      if (!protocol && type == DnsType::kSvcb)
        answer.Add(type, ttl, SvcbData(target, service.port, found.address));
    }
    return exists;
  }

  static std::string TxtData(const Resolution& found) {
    std::string data;
    AppendString(data, "key=" + found.key.ToBase32());
    AppendString(data, std::string("type=").append(AdvertTypeName(found.type)));
    if (found.host) AppendString(data, "host=" + found.host->ToBase32());
    return data;
  }

  DnsFound LookupAddress(const std::array<std::uint8_t, 16>& bytes, DnsType type,
                         DnsAnswer& answer) {
    const std::uint64_t now = Now();
    const auto advert = directory_.FindByAddress(Address{.bytes = bytes}, now);
    if (!advert.ok()) {
      const absl::Status& status = advert.status();
      const bool none = absl::IsNotFound(status) || absl::IsDeadlineExceeded(status) ||
                        absl::IsAborted(status) || absl::IsPermissionDenied(status);
      return none ? DnsFound::kNo : DnsFound::kUnknown;
    }
    if (type != DnsType::kPtr) return DnsFound::kYes;
    const AdvertFields& fields = advert->fields();
    const auto petname = petnames_.NameOf(fields.author);
    const auto ttl =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(fields.ttl, fields.expires - now));
    std::string name = petname ? Wire(*petname) : std::string();
    if (name.empty()) name = Wire(fields.author.ToBase32());
    // Below a suffix that is so long that there is no room for a key, it has no name.
    if (!name.empty()) answer.Add(type, ttl, name);
    return DnsFound::kYes;
  }

  Resolver& resolver_;
  Directory& directory_;
  const Petnames& petnames_;
  const ResolverDnsOptions options_;
  const dns::Name suffix_;
  Mutex mutex_;
  CondVar work_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<std::string> queue_ ABSL_GUARDED_BY(mutex_);
  /// In the queue or being resolved. Ordered: names are chosen by strangers.
  std::set<std::string, std::less<>> waiting_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, NameState, std::less<>> failed_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

absl::StatusOr<std::shared_ptr<ResolverDnsSource>> ResolverDnsSource::Create(
    Resolver* resolver, Directory* directory, const Petnames* petnames,
    const ResolverDnsOptions& options) {
  auto suffix = dns::Name::FromText(options.suffix);
  if (!suffix.ok()) return Annotate(suffix.status(), "the suffix");
  auto state = std::make_unique<State>(resolver, directory, petnames, options, *suffix);
  state->Start();
  return std::shared_ptr<ResolverDnsSource>(new ResolverDnsSource(std::move(state)));
}

ResolverDnsSource::ResolverDnsSource(std::unique_ptr<State> state) : state_(std::move(state)) {}
ResolverDnsSource::~ResolverDnsSource() = default;

DnsFound ResolverDnsSource::Lookup(const DnsQuestion& question, DnsAnswer& answer) {
  return state_->Lookup(question, answer);
}

}  // namespace waxvm
