// SPDX-License-Identifier: Apache-2.0
#include "src/supervisor/instance_identity.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>
#include <vector>

#include "src/base/fork_guard.h"
#include "src/base/status.h"

namespace waxvm {
namespace {

using std::string_view_literals::operator""sv;

// In front of everything that a program has signed. As long as the contexts of adverts and of
// hosting ("waxvm-advert-v1\0", "waxvm-hosting-v1") and different from them, so that whatever a
// program chooses to say, no signature for it is one of an advert.
constexpr std::string_view kStatementContext = "waxvm-program-v1"sv;
static_assert(kStatementContext.size() == "waxvm-advert-v1\0"sv.size() &&
              kStatementContext.size() == "waxvm-hosting-v1"sv.size());

// Shorter ones would be renewed all the time.
constexpr std::uint64_t kMinLifetime = 4;
// A renewal that failed is tried again, but not at every host call.
constexpr std::uint64_t kRetrySeconds = 1;
constexpr std::uint64_t kLongestWait = 3600;

class Keeper final : public AdvertKeeper {
 public:
  absl::StatusOr<std::chrono::seconds> Renew() override {
    // Before the lock, which somebody may have held. A child's adverts would have the sequences of
    // its parent's and say something else, which quarantines the slots of both.
    if (fork_guard_.InChild())
      return absl::FailedPreconditionError(
          "the instances are those of the process before a fork, which renews their adverts");
    std::vector<std::shared_ptr<InstanceIdentity>> running;
    {
      const MutexLock lock(mutex_);
      Forget();
      for (const auto& weak : instances_)
        if (auto instance = weak.lock()) running.push_back(std::move(instance));
    }
    // Without the lock: a slow signer keeps nobody from starting.
    absl::Status first;
    std::uint64_t next = kLongestWait;
    for (const auto& instance : running) {
      std::uint64_t in = kLongestWait;
      first.Update(instance->RenewIfDue(in));
      next = std::min(next, in);
    }
    if (!first.ok()) return first;
    return std::chrono::seconds(next);
  }

  std::size_t size() const override {
    const MutexLock lock(mutex_);
    return static_cast<std::size_t>(
        std::count_if(instances_.begin(), instances_.end(),
                      [](const auto& instance) { return !instance.expired(); }));
  }

  void Add(const std::shared_ptr<InstanceIdentity>& instance) {
    const MutexLock lock(mutex_);
    // Those that have ended are forgotten before they are as many as those that run.
    if (instances_.size() >= forget_at_) {
      Forget();
      forget_at_ = 2 * instances_.size() + 16;
    }
    instances_.push_back(instance);
  }

 private:
  void Forget() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::erase_if(instances_, [](const auto& instance) { return instance.expired(); });
  }

  const ForkGuard fork_guard_;
  mutable Mutex mutex_;
  std::vector<std::weak_ptr<InstanceIdentity>> instances_ ABSL_GUARDED_BY(mutex_);
  std::size_t forget_at_ ABSL_GUARDED_BY(mutex_) = 16;
};

void AppendNumber(std::string& to, std::uint64_t number, int bytes) {
  for (int i = 0; i < bytes; ++i) to.push_back(static_cast<char>(number >> (8 * i) & 0xff));
}

absl::Status NoRequest(std::string_view function, std::string_view request) {
  if (request.empty()) return absl::OkStatus();
  return InvalidArgument("%s takes no request, not %d bytes", function, request.size());
}

std::uint64_t Seconds(std::chrono::seconds time) {
  return static_cast<std::uint64_t>(time.count());
}

absl::Status CheckOptions(const IdentityOptions& options) {
  if (options.directory != nullptr && options.host == nullptr)
    return InvalidArgument(
        "an identity with a directory needs a host: adverts carry the host's signature");
  if (options.keeper != nullptr && options.host == nullptr)
    return InvalidArgument("an identity without a host has no advert to keep");
  if (options.keeper != nullptr && dynamic_cast<const Keeper*>(options.keeper.get()) == nullptr)
    return InvalidArgument("the keeper of an identity was not made by AdvertKeeper::Create");
  if (options.sec_code < cga::kSha256 || options.sec_code > cga::kSha256Bits32)
    return InvalidArgument("the Sec code of an identity is %d, must be %d to %d", options.sec_code,
                           cga::kSha256, cga::kSha256Bits32);
  if (options.lifetime.count() < static_cast<std::int64_t>(kMinLifetime) ||
      options.lifetime.count() > static_cast<std::int64_t>(kMaxAdvertLifetime))
    return InvalidArgument("the lifetime of an identity's advert is %d s, must be %d to %d",
                           options.lifetime.count(), kMinLifetime, kMaxAdvertLifetime);
  if (options.ttl.count() < 1 || options.ttl.count() > std::int64_t{kMaxAdvertTtl})
    return InvalidArgument("the ttl of an identity's advert is %d s, must be 1 to %d",
                           options.ttl.count(), kMaxAdvertTtl);
  return absl::OkStatus();
}

}  // namespace

std::shared_ptr<AdvertKeeper> AdvertKeeper::Create() { return std::make_shared<Keeper>(); }

std::string StatementBytes(std::string_view message) {
  std::string bytes;
  bytes.reserve(kStatementContext.size() + message.size());
  return bytes.append(kStatementContext).append(message);
}

bool VerifyStatement(const PublicKey& instance, std::string_view message,
                     const Signature& signature) {
  return Verify(instance, StatementBytes(message), signature);
}

absl::Status GrantIdentity(const IdentityOptions& options, GrantSet& grants) {
  WAXVM_RETURN_IF_ERROR(CheckOptions(options));
  grants.own_functions.emplace(kIdentityFunction);
  if (options.grant_signing) grants.own_functions.emplace(kSignFunction);
  if (options.grant_private_key) grants.own_functions.emplace(kPrivateKeyFunction);
  return absl::OkStatus();
}

InstanceIdentity::InstanceIdentity(const IdentityOptions& options, SigningKey key)
    : options_(options), key_(std::move(key)) {}

InstanceIdentity::~InstanceIdentity() { End(); }

std::uint64_t InstanceIdentity::Now() const {
  return options_.clock ? options_.clock() : static_cast<std::uint64_t>(std::time(nullptr));
}

absl::StatusOr<std::shared_ptr<InstanceIdentity>> InstanceIdentity::Make(
    const IdentityOptions& options) {
  WAXVM_ASSIGN_OR_RETURN(SigningKey key, SigningKey::Generate());
  cga::GenerateOptions search = {.sec_code = options.sec_code};
  if (getrandom(search.modifier.data(), search.modifier.size(), 0) !=
      static_cast<ssize_t>(search.modifier.size()))
    return ErrnoStatus(errno, "random numbers for an address");
  WAXVM_ASSIGN_OR_RETURN(const cga::Generated made, cga::Generate(key.public_key(), search));
  std::shared_ptr<InstanceIdentity> identity(new InstanceIdentity(options, std::move(key)));
  identity->claim_ = {.address = made.address, .modifier = made.parameters.modifier};
  {
    const MutexLock lock(identity->mutex_);
    identity->report_.public_key = identity->key_.public_key();
    identity->report_.address = made.address;
    if (options.host != nullptr)
      if (absl::Status first = identity->Advertise(identity->Now(), Seconds(options.lifetime));
          !first.ok()) {
        identity->ended_ = true;
        return first;
      }
  }
  if (options.keeper != nullptr)
    if (auto* keeper = dynamic_cast<Keeper*>(options.keeper.get())) keeper->Add(identity);
  return identity;
}

absl::Status InstanceIdentity::Put(const Advert& advert) {
  ++report_.adverts;
  if (options_.directory == nullptr) return absl::OkStatus();
  return options_.directory->Put(std::span(&advert, 1)).front();
}

absl::Status InstanceIdentity::Advertise(std::uint64_t now, std::uint64_t lifetime) {
  const std::uint64_t ttl = std::min(Seconds(options_.ttl), lifetime);
  WAXVM_ASSIGN_OR_RETURN(const Advert advert,
                         Advert::Make({.sequence = report_.adverts + 1,
                                       .created = now,
                                       .expires = now + lifetime,
                                       .ttl = static_cast<std::uint32_t>(ttl),
                                       .body = VmBody{.claim = claim_,
                                                      .services = options_.services,
                                                      .mailboxes = options_.mailboxes}},
                                      key_, options_.host.get()));
  report_.advert = advert.bytes();
  report_.advert_expires = advert.fields().expires;
  renew_at_ = now + (lifetime + 1) / 2;
  return Put(advert);
}

absl::Status InstanceIdentity::Revoke(std::uint64_t now) {
  WAXVM_ASSIGN_OR_RETURN(
      const Advert revocation,
      Advert::Make({.sequence = 1,
                    .created = now,
                    .expires = kNeverExpires,
                    .ttl = static_cast<std::uint32_t>(Seconds(options_.ttl)),
                    .body = RevocationBody{.reason = RevocationBody::Reason::kRetired}},
                   key_));
  report_.advert = revocation.bytes();
  report_.advert_expires = kNeverExpires;
  return Put(revocation);
}

absl::Status InstanceIdentity::RenewIfDue(std::uint64_t& next) {
  next = kLongestWait;
  if (options_.host == nullptr) return absl::OkStatus();
  const std::uint64_t now = Now();
  const MutexLock lock(mutex_);
  if (ended_) return absl::OkStatus();
  if (now >= renew_at_) {
    report_.advert_status = Advertise(now, Seconds(options_.lifetime));
    if (!report_.advert_status.ok()) renew_at_ = now + kRetrySeconds;
  }
  next = std::min(renew_at_ - now, kLongestWait);
  return report_.advert_status;
}

void InstanceIdentity::End() {
  const MutexLock lock(mutex_);
  if (std::exchange(ended_, true) || options_.host == nullptr) return;
  const std::uint64_t now = Now();
  absl::Status status;
  if (options_.at_end == AdvertEnd::kWithdraw) status = Advertise(now, 1);
  if (options_.at_end == AdvertEnd::kRevoke) status = Revoke(now);
  if (!status.ok()) report_.advert_status = status;
}

std::string InstanceIdentity::Describe() const {
  std::string bytes;
  AppendNumber(bytes, kIdentityVersion, 4);
  AppendNumber(bytes, report_.advert.size(), 4);
  AppendNumber(bytes, report_.advert_expires, 8);
  bytes.append(claim_.address.view()).append(key_.public_key().view());
  bytes.append(options_.host != nullptr ? options_.host->public_key().view() : PublicKey().view());
  return bytes.append(report_.advert);
}

absl::StatusOr<std::string> InstanceIdentity::Answer(std::string_view function,
                                                     std::string_view request) {
  if (function == kSignFunction) {
    if (request.size() > kMaxStatementBytes)
      return InvalidArgument("a statement has %d bytes, at most %d", request.size(),
                             kMaxStatementBytes);
    WAXVM_ASSIGN_OR_RETURN(const Signature signature, key_.Sign(StatementBytes(request)));
    const MutexLock lock(mutex_);
    ++report_.statements;
    return std::string(signature.view());
  }
  WAXVM_RETURN_IF_ERROR(NoRequest(function, request));
  const MutexLock lock(mutex_);
  if (function == kIdentityFunction) return Describe();
  if (function != kPrivateKeyFunction) return Internal("no function of an identity");
  WAXVM_ASSIGN_OR_RETURN(const Secret seed, key_.ToSeed());
  report_.private_key_was_read = true;
  return std::string(seed.view());
}

IdentityReport InstanceIdentity::report() const {
  const MutexLock lock(mutex_);
  return report_;
}

bool InstanceIdentity::private_key_was_read() const {
  const MutexLock lock(mutex_);
  return report_.private_key_was_read;
}

}  // namespace waxvm
