// SPDX-License-Identifier: Apache-2.0
#include "waxvm/resolver.h"

#include <algorithm>
#include <ctime>
#include <limits>
#include <map>
#include <thread>
#include <unordered_map>
#include <utility>

#include "src/base/mutex.h"
#include "src/base/status.h"
#include "src/naming/advert_codec.h"
#include "src/naming/keyed_hash.h"

namespace waxvm {
namespace {

// Each label is a look-up, and with `fetch` a question to others: a long name buys no more.
constexpr std::size_t kMaxLabels = 8;
constexpr std::size_t kMaxNameBytes = 253;
constexpr std::uint64_t kLookEverySeconds = 1;
constexpr std::chrono::milliseconds kWatchEvery{100};

using Found = std::shared_ptr<const Resolution>;

template <typename Value>
using Map = std::unordered_map<std::string, Value, naming::KeyedHash, std::equal_to<>>;

/// The labels of a name in lower case, the first one first.
absl::StatusOr<std::vector<std::string>> Split(std::string_view name) {
  std::vector<std::string> labels;
  if (name.size() > kMaxNameBytes) return InvalidArgument("a name of %d bytes", name.size());
  for (bool more = true; more;) {
    const std::size_t dot = name.find('.');
    more = dot != name.npos;
    std::string& label = labels.emplace_back(name.substr(0, dot));
    for (char& c : label)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (!naming::IsLabel(label) || labels.size() > kMaxLabels)
      return InvalidArgument("'%s' is no name: it has at most %d labels of a-z, 0-9 and '-'",
                             name.substr(0, 80), kMaxLabels);
    if (more) name.remove_prefix(dot + 1);
  }
  return labels;
}

std::string Join(const std::vector<std::string>& labels) {
  std::string name;
  for (const std::string& label : labels) name.append(name.empty() ? "" : ".").append(label);
  return name;
}

/// Whether an error is what the directory knows, and not one of the moment. A name without an
/// answer must not cost more than one with: whoever wants to keep the directory busy asks for it.
bool MayBeKept(const absl::Status& status) {
  return absl::IsNotFound(status) || absl::IsDeadlineExceeded(status) || absl::IsAborted(status) ||
         absl::IsPermissionDenied(status);
}

class CachingResolver final : public Resolver {
 public:
  CachingResolver(Directory* directory, const Petnames* petnames, const ResolverOptions& options)
      : directory_(*directory), petnames_(*petnames), options_(options) {}

  absl::StatusOr<Found> Resolve(std::string_view name) override {
    const std::uint64_t now = Now();
    {
      const MutexLock lock(mutex_);
      LookForChanges(now);
      if (const auto kept = found_.find(name); kept != found_.end() && now < kept->second.until)
        return kept->second.value;
      if (const auto kept = missing_.find(name); kept != missing_.end() && now < kept->second.until)
        return kept->second.value.status;
    }
    return ResolveAnew(name, now).meaning;
  }

  std::optional<NameState> Look(std::string_view name, bool kept_alone) override {
    const std::uint64_t now = Now();
    {
      const MutexLock lock(mutex_);
      LookForChanges(now);
      if (const auto kept = found_.find(name); kept != found_.end() && now < kept->second.until)
        return NameState{
            .meaning = kept->second.value, .exists = true, .until = kept->second.until};
      if (const auto kept = missing_.find(name); kept != missing_.end() && now < kept->second.until)
        return NameState{.meaning = kept->second.value.status,
                         .exists = kept->second.value.exists,
                         .until = kept->second.until};
    }
    if (kept_alone) return std::nullopt;
    return ResolveAnew(name, now);
  }

  absl::StatusOr<Found> WaitForChange(std::string_view name, const Found& known,
                                      std::chrono::milliseconds limit,
                                      std::stop_token stop) override {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    for (;;) {
      auto found = Resolve(name);
      const bool same =
          found.ok() ? known != nullptr && Means(**found) == Means(*known) : known == nullptr;
      if (!same) return found;
      if (stop.stop_requested()) return absl::CancelledError("stopped waiting for a change");
      if (std::chrono::steady_clock::now() >= deadline)
        return absl::DeadlineExceededError("the name still means the same");
      std::this_thread::sleep_for(kWatchEvery);
    }
  }

 private:
  /// Why a name means nothing.
  struct Nothing {
    absl::Status status;
    bool exists = false;
  };

  template <typename Value>
  struct Kept {
    Value value;
    std::uint64_t until = 0;
  };

  /// A resolution but for its times, which change without a change of meaning.
  static Resolution Means(Resolution resolution) {
    resolution.ttl = 0;
    resolution.expires = 0;
    return resolution;
  }

  std::uint64_t Now() const {
    // The coarse clock: seconds are all that is needed, and it costs next to nothing.
    return options_.clock ? options_.clock() : static_cast<std::uint64_t>(std::time(nullptr));
  }

  /// Forgets everything where directory or petnames have changed.
  void LookForChanges(std::uint64_t now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (now < next_look_ && now + kLookEverySeconds >= next_look_) return;  // nor back in time
    next_look_ = now + kLookEverySeconds;
    const std::pair<std::uint64_t, std::uint64_t> seen = {directory_.Version(),
                                                          petnames_.Version()};
    if (seen == seen_) return;
    seen_ = seen;
    found_.clear();
    missing_.clear();
  }

  template <typename Value>
  void Keep(Map<Kept<Value>>& map, const std::string& name, Value value, std::uint64_t until)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    // Whichever comes first: the order is one that nobody can foresee.
    if (map.size() >= options_.max_cached && !map.empty() && map.find(name) == map.end())
      map.erase(map.begin());
    if (options_.max_cached > 0) map[name] = {.value = std::move(value), .until = until};
  }

  /// Apart from the code of a hit, which is to be short.
  [[gnu::noinline]] NameState ResolveAnew(std::string_view text, std::uint64_t now) {
    const absl::StatusOr<std::vector<std::string>> labels = Split(text);
    if (!labels.ok()) return {.meaning = labels.status(), .until = now + options_.negative_ttl};
    Resolution resolution;
    resolution.name = Join(*labels);
    resolution.ttl = std::numeric_limits<std::uint32_t>::max();
    resolution.expires = kNeverExpires;
    absl::Status status = FollowLabels(*labels, now, resolution);
    // Nobody gave it, or not any more. Other errors may be of the moment: it exists for all we
    // know.
    const bool exists = !absl::IsNotFound(status) && !absl::IsDeadlineExceeded(status) &&
                        !absl::IsPermissionDenied(status);
    if (status.ok()) status = Describe(now, resolution);
    const MutexLock lock(mutex_);
    if (!status.ok()) {
      const std::uint64_t until = now + options_.negative_ttl;
      if (MayBeKept(status))
        Keep(missing_, resolution.name, Nothing{.status = status, .exists = exists}, until);
      found_.erase(resolution.name);
      return {.meaning = status, .exists = exists, .until = until};
    }
    const std::uint64_t until = std::min(now + resolution.ttl, resolution.expires);
    const std::string name = resolution.name;
    Found found = std::make_shared<const Resolution>(std::move(resolution));
    Keep(found_, name, found, until);
    missing_.erase(name);
    return {.meaning = std::move(found), .exists = true, .until = until};
  }

  absl::Status FollowLabels(const std::vector<std::string>& labels, std::uint64_t now,
                            Resolution& to) {
    WAXVM_ASSIGN_OR_RETURN(to.key, RootOf(labels.back()));
    for (std::size_t i = labels.size() - 1; i-- > 0;) {
      WAXVM_ASSIGN_OR_RETURN(
          const Answer answer,
          Lookup({.author = to.key, .type = AdvertType::kName, .label = labels[i]}, now,
                 labels[i]));
      Shorten(to, answer);
      to.key = answer.advert.As<NameBody>()->target;
    }
    return absl::OkStatus();
  }

  absl::StatusOr<PublicKey> RootOf(const std::string& label) const {
    if (const auto key = petnames_.Find(label)) return *key;
    if (label.size() == kKeyBase32Digits)
      if (const auto key = PublicKey::Parse(label); key.ok()) return *key;
    return absl::NotFoundError(absl::StrFormat("nobody is called '%s'", label));
  }

  /// An advert, and for how long nobody needs to ask again.
  struct Answer {
    Advert advert;
    std::uint32_t ttl;
  };

  static void Shorten(Resolution& to, const Answer& by) {
    to.ttl = std::min(to.ttl, by.ttl);
    to.expires = std::min(to.expires, by.advert.fields().expires);
  }

  /// What the key itself says: as an instance, a host or a topic, the first of these that it is.
  absl::Status Describe(std::uint64_t now, Resolution& to) {
    absl::Status nothing;
    for (const AdvertType type : {AdvertType::kVm, AdvertType::kHost, AdvertType::kTopic}) {
      const auto answer = Lookup({.author = to.key, .type = type, .label = ""}, now, to.name);
      if (!answer.ok()) {
        // "It has expired" says more than "there is none".
        if (nothing.ok() || absl::IsNotFound(nothing)) nothing = answer.status();
        if (absl::IsPermissionDenied(nothing)) return nothing;
        continue;
      }
      to.type = type;
      Shorten(to, *answer);
      const Advert& advert = answer->advert;
      if (const auto* vm = advert.As<VmBody>()) return DescribeVm(*vm, now, to);
      if (const auto* host = advert.As<HostBody>()) {
        to.address = host->claim.address;
        DescribeHost(to.key, *host, to);
        return absl::OkStatus();
      }
      to.address = cga::GroupOf(to.key);
      to.topic = *advert.As<TopicBody>();
      return absl::OkStatus();
    }
    return nothing;
  }

  absl::Status DescribeVm(const VmBody& vm, std::uint64_t now, Resolution& to) {
    to.address = vm.claim.address;
    to.services = vm.services;
    to.mailboxes = vm.mailboxes;
    to.host = vm.host;
    const auto host =
        Lookup({.author = vm.host, .type = AdvertType::kHost, .label = ""}, now, to.name);
    // Whose key was taken back is no host to send anything to.
    if (absl::IsPermissionDenied(host.status())) return host.status();
    if (!host.ok()) return absl::OkStatus();
    Shorten(to, *host);
    DescribeHost(vm.host, *host->advert.As<HostBody>(), to);
    return absl::OkStatus();
  }

  static void DescribeHost(const PublicKey& key, const HostBody& host, Resolution& to) {
    to.host = key;
    to.tunnel_key = host.tunnel_key;
    to.transports = host.transports;
    std::stable_sort(to.transports.begin(), to.transports.end(),
                     [](const auto& a, const auto& b) { return a.weight > b.weight; });
  }

  /// What the directory has, after asking others where it is due.
  absl::StatusOr<Answer> Lookup(const AdvertSlot& slot, std::uint64_t now, std::string_view label) {
    auto advert = directory_.Get(slot, now);
    std::uint64_t left = advert.ok() ? advert->fields().ttl : 0;
    if (options_.fetch) {
      left = UntilDue(slot, now);
      if (left == 0) {
        Ask(slot, now);
        advert = directory_.Get(slot, now);
        left = advert.ok() ? advert->fields().ttl : options_.negative_ttl;
        Asked(slot, now + left);
      }
    }
    if (absl::IsNotFound(advert.status()))
      return absl::NotFoundError(absl::StrFormat("%s: no %s advert of %s is known", label,
                                                 AdvertTypeName(slot.type),
                                                 slot.author.ToBase32()));
    if (!advert.ok()) return advert.status();
    return Answer{.advert = *std::move(advert), .ttl = static_cast<std::uint32_t>(left)};
  }

  void Ask(const AdvertSlot& slot, std::uint64_t now) {
    const auto bytes = options_.fetch(slot);
    if (!bytes.ok()) return;
    const auto fetched = Advert::Check(*bytes, now);
    // Anything may come back; only what was asked for is of use.
    if (fetched.ok() && fetched->slot() == slot) (void)directory_.Put(std::span(&*fetched, 1));
  }

  /// Seconds until a slot is asked for again elsewhere; 0: now.
  std::uint64_t UntilDue(const AdvertSlot& slot, std::uint64_t now) {
    const MutexLock lock(mutex_);
    const auto at = ask_again_.find(slot);
    return at == ask_again_.end() || now >= at->second ? 0 : at->second - now;
  }

  void Asked(const AdvertSlot& slot, std::uint64_t again) {
    const MutexLock lock(mutex_);
    if (ask_again_.size() >= 2 * options_.max_cached) ask_again_.clear();
    ask_again_[slot] = again;
  }

  Directory& directory_;
  const Petnames& petnames_;
  const ResolverOptions options_;
  Mutex mutex_;
  Map<Kept<Found>> found_ ABSL_GUARDED_BY(mutex_);
  Map<Kept<Nothing>> missing_ ABSL_GUARDED_BY(mutex_);
  std::map<AdvertSlot, std::uint64_t> ask_again_ ABSL_GUARDED_BY(mutex_);
  std::pair<std::uint64_t, std::uint64_t> seen_ ABSL_GUARDED_BY(mutex_) = {0, 0};
  std::uint64_t next_look_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

std::unique_ptr<Resolver> Resolver::Create(Directory* directory, const Petnames* petnames,
                                           const ResolverOptions& options) {
  return std::make_unique<CachingResolver>(directory, petnames, options);
}

}  // namespace waxvm
