// SPDX-License-Identifier: Apache-2.0
// Who an instance is, under every way to make one.
#include "waxvm/identity.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "src/naming/advert_codec.h"
#include "src/naming/advert_for_test.h"
#include "src/supervisor/asking_fake_for_test.h"
#include "src/supervisor/fake_provider_for_test.h"
#include "src/supervisor/instance_identity.h"
#include "waxvm/pool.h"
#include "waxvm/resolver.h"
#include "waxvm/session.h"

namespace waxvm {
namespace {

using naming::KeyOf;
using std::chrono_literals::operator""s;
using testing::HasSubstr;

/// A signer that can be made to fail.
class HostSigner final : public Signer {
 public:
  const PublicKey& public_key() const override { return key_.public_key(); }
  absl::StatusOr<Signature> Sign(std::string_view message) const override {
    if (fails) return absl::UnavailableError("the agent is gone");
    return key_.Sign(message);
  }
  std::atomic<bool> fails = false;

 private:
  const SigningKey key_ = KeyOf(77);
};

/// What "waxvm.identity" answers; docs/formats/identity.md.
struct Self {
  explicit Self(std::string_view bytes) {
    EXPECT_GE(bytes.size(), 96u);
    std::uint32_t words[2] = {};
    std::memcpy(words, bytes.data(), sizeof words);
    std::memcpy(&expires, bytes.data() + 8, 8);
    version = words[0];
    address = *Address::FromBytes(bytes.substr(16, 16));
    key = *PublicKey::FromBytes(bytes.substr(32, 32));
    host = *PublicKey::FromBytes(bytes.substr(64, 32));
    advert = bytes.substr(96);
    EXPECT_EQ(advert.size(), words[1]);
  }
  std::uint32_t version = 0;
  std::uint64_t expires = 0;
  Address address;
  PublicKey key, host;
  std::string advert;
};

class Identity : public testing::Test {
 protected:
  IdentityOptions Options() {
    return {.host = host_,
            .directory = directory_,
            .services = {{.name = "coap", .protocol = 17, .port = 5683}},
            .lifetime = 100s,
            .ttl = 10s,
            .clock = [now = now_] { return now->load(); }};
  }
  RunOptions With(IdentityOptions options) { return {.identity = std::move(options)}; }
  absl::StatusOr<Advert> Find(const PublicKey& key) {
    return directory_->Get({.author = key, .type = AdvertType::kVm, .label = ""}, *now_);
  }

  const std::shared_ptr<HostSigner> host_ = std::make_shared<HostSigner>();
  const std::shared_ptr<Directory> directory_ = NewMemoryDirectory();
  const std::shared_ptr<std::atomic<std::uint64_t>> now_ =
      std::make_shared<std::atomic<std::uint64_t>>(naming::kTestTime);
};

TEST_F(Identity, ARunIsSomebody) {
  std::string seen;
  bool advertised = false;
  const auto result = RunMock(
      [&](NativeContext& context) {
        seen = *context.CallHost("waxvm.identity", "");
        const Self self(seen);
        const auto found = directory_->FindByAddress(self.address, *now_);
        advertised = found.ok() && found->bytes() == self.advert;
        return 0;
      },
      With(Options()));
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_TRUE(result->report.identity);
  const IdentityReport& report = *result->report.identity;
  const Self self(seen);
  EXPECT_TRUE(advertised) << "before the program started";
  EXPECT_EQ(self.version, 1u);
  EXPECT_EQ(self.address, report.address);
  EXPECT_EQ(self.key, report.public_key);
  EXPECT_EQ(self.host, host_->public_key());
  EXPECT_EQ(self.expires, naming::kTestTime + 100);
  const auto advert = Advert::Check(self.advert, *now_);
  ASSERT_TRUE(advert.ok()) << advert.status();
  EXPECT_EQ(advert->fields().author, self.key);
  EXPECT_EQ(advert->fields().ttl, 10u);
  const auto* vm = advert->As<VmBody>();
  ASSERT_NE(vm, nullptr);
  EXPECT_EQ(vm->claim.address, self.address);
  EXPECT_EQ(vm->host, host_->public_key());
  ASSERT_EQ(vm->services.size(), 1u);
  EXPECT_EQ(vm->services[0].port, 5683);
  EXPECT_TRUE(
      cga::Verify(self.address, self.key, vm->claim.modifier, vm->claim.collision_count).ok());
  EXPECT_EQ(result->report.host_calls, 1u);
  EXPECT_EQ(report.statements, 0u);
  EXPECT_FALSE(report.private_key_was_read);
  // Withdrawn: there for a second, then gone.
  EXPECT_EQ(Find(self.key)->fields().sequence, 2u);
  *now_ += 1;
  EXPECT_TRUE(absl::IsDeadlineExceeded(Find(self.key).status()));
}

TEST_F(Identity, EachRunIsSomebodyElse) {
  auto supervisor = Supervisor::Create(NewMockProvider());
  std::set<PublicKey> keys;
  std::set<Address> addresses;
  for (int i = 0; i < 10; ++i) {
    const auto result =
        supervisor->Run(Native([](NativeContext&) { return 0; }), With({.host = host_}));
    ASSERT_TRUE(result.ok()) << result.status();
    keys.insert(result->report.identity->public_key);
    addresses.insert(result->report.identity->address);
  }
  EXPECT_EQ(keys.size(), 10u);
  EXPECT_EQ(addresses.size(), 10u);
}

TEST_F(Identity, WithoutAHostThereIsNoAdvert) {
  std::string seen;
  const auto result = RunMock(
      [&](NativeContext& context) {
        seen = *context.CallHost("waxvm.identity", "");
        return 0;
      },
      With({}));
  ASSERT_TRUE(result.ok()) << result.status();
  const Self self(seen);
  EXPECT_EQ(self.advert, "");
  EXPECT_EQ(self.host, PublicKey());
  EXPECT_EQ(self.expires, 0u);
  EXPECT_EQ(self.address, result->report.identity->address);
  EXPECT_EQ(cga::SecCodeOf(self.address), cga::kSha256);
  EXPECT_EQ(result->report.identity->adverts, 0u);
}

TEST_F(Identity, NobodyWithoutTheOption) {
  const auto result = RunMock([](NativeContext& context) {
    for (const auto function : {kIdentityFunction, kSignFunction, kPrivateKeyFunction})
      EXPECT_TRUE(absl::IsPermissionDenied(context.CallHost(function, "").status()));
    return 0;
  });
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_FALSE(result->report.identity);
  EXPECT_EQ(result->report.denials, 3u);
}

TEST_F(Identity, OnlyWhatIsGranted) {
  for (const bool granted : {false, true}) {
    IdentityOptions options = Options();
    options.grant_signing = options.grant_private_key = granted;
    std::string signature, seed;
    const auto result = RunMock(
        [&](NativeContext& context) {
          const auto sign = context.CallHost("waxvm.identity.sign", "I am here");
          const auto key = context.CallHost("waxvm.identity.private_key", "");
          EXPECT_EQ(sign.ok(), granted) << sign.status();
          EXPECT_EQ(key.ok(), granted) << key.status();
          if (granted) signature = *sign, seed = *key;
          EXPECT_EQ(absl::IsPermissionDenied(key.status()), !granted);
          return 0;
        },
        With(options));
    ASSERT_TRUE(result.ok()) << result.status();
    const IdentityReport& report = *result->report.identity;
    EXPECT_EQ(report.statements, granted ? 1u : 0u);
    EXPECT_EQ(report.private_key_was_read, granted);
    EXPECT_EQ(result->report.denials, granted ? 0u : 2u);
    if (!granted) continue;
    Signature signed_by;
    ASSERT_EQ(signature.size(), signed_by.bytes.size());
    std::copy(signature.begin(), signature.end(), signed_by.bytes.begin());
    EXPECT_TRUE(VerifyStatement(report.public_key, "I am here", signed_by));
    EXPECT_FALSE(VerifyStatement(report.public_key, "I am there", signed_by));
    EXPECT_FALSE(Verify(report.public_key, "I am here", signed_by)) << "never the bytes alone";
    EXPECT_EQ(SigningKey::FromSeed(seed)->public_key(), report.public_key);
  }
}

// Attack: a program that may sign makes an advert of its own, for a host that did not agree to it
// or for longer than it lives.
TEST_F(Identity, NoStatementIsAnAdvert) {
  IdentityOptions options = Options();
  options.grant_signing = true;
  std::string forged;
  const auto result = RunMock(
      [&](NativeContext& context) {
        const Self self(*context.CallHost("waxvm.identity", ""));
        std::string said = self.advert.substr(0, self.advert.size() - kSignatureBytes);
        said[naming::kSequenceAt + 7] = 9;
        forged = said + *context.CallHost("waxvm.identity.sign", said);
        EXPECT_TRUE(ParseAdvert(forged).ok()) << "the form is right";
        return 0;
      },
      With(options));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(absl::IsUnauthenticated(Advert::Check(forged, *now_).status()));
  EXPECT_TRUE(absl::IsUnauthenticated(Accept(*directory_, forged, *now_).status()));
  for (const std::string_view context : {naming::kAdvertContext, naming::kHostingContext})
    EXPECT_NE(StatementBytes("").substr(0, context.size()), context);
}

TEST_F(Identity, TheAuthorizerDecidesToo) {
  RunOptions options = With(Options());
  options.identity->grant_signing = true;
  options.authorizer = [](std::string_view, const Access& access) {
    return access.name == kSignFunction ? absl::PermissionDeniedError("not today")
                                        : absl::OkStatus();
  };
  const auto result = RunMock(
      [](NativeContext& context) {
        EXPECT_TRUE(context.CallHost("waxvm.identity", "").ok());
        EXPECT_TRUE(
            absl::IsPermissionDenied(context.CallHost("waxvm.identity.sign", "x").status()));
        return 0;
      },
      options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->report.identity->statements, 0u);
  EXPECT_EQ(result->report.denied[0].name, "waxvm.identity.sign");
}

TEST_F(Identity, WhatIsAskedWrongly) {
  RunOptions options = With(Options());
  options.identity->grant_signing = options.identity->grant_private_key = true;
  options.limits.host_calls = 5;
  const auto result = RunMock(
      [](NativeContext& context) {
        const std::string large(kMaxStatementBytes + 1, 'x');
        EXPECT_TRUE(absl::IsInvalidArgument(context.CallHost("waxvm.identity", "x").status()));
        EXPECT_TRUE(
            absl::IsInvalidArgument(context.CallHost("waxvm.identity.private_key", "x").status()));
        EXPECT_TRUE(
            absl::IsInvalidArgument(context.CallHost("waxvm.identity.sign", large).status()));
        EXPECT_TRUE(context.CallHost("waxvm.identity.sign", large.substr(1)).ok());
        EXPECT_TRUE(context.CallHost("waxvm.identity.sign", "").ok());
        context.CallHost("waxvm.identity", "").IgnoreError();
        return 0;
      },
      options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->limit, LimitKind::kHostCalls);
  EXPECT_FALSE(result->report.identity->private_key_was_read);
}

TEST_F(Identity, OptionsThatCannotBe) {
  const auto status = [&](auto change) {
    IdentityOptions options = Options();
    change(options);
    bool ran = false;
    const auto result = RunMock([&](NativeContext&) { return ran = true, 0; }, With(options));
    EXPECT_FALSE(ran);
    EXPECT_EQ(directory_->Stats().adverts, 0u);
    return result.status();
  };
  using O = IdentityOptions;
  EXPECT_TRUE(absl::IsInvalidArgument(status([](O& o) { o.host = nullptr; })));
  EXPECT_TRUE(absl::IsInvalidArgument(status([](O& o) { o.lifetime = 3s; })));
  EXPECT_TRUE(absl::IsInvalidArgument(status([](O& o) { o.lifetime = 367 * 86'400s; })));
  EXPECT_TRUE(absl::IsInvalidArgument(status([](O& o) { o.ttl = 0s; })));
  EXPECT_TRUE(absl::IsInvalidArgument(status([](O& o) { o.ttl = 604'801s; })));
  EXPECT_TRUE(absl::IsInvalidArgument(status([](O& o) { o.sec_code = cga::kSha1; })));
  EXPECT_TRUE(absl::IsInvalidArgument(status([](O& o) { o.sec_code = 6; })));
  EXPECT_TRUE(absl::IsInvalidArgument(status([](O& o) { o.services[0].name = "No Name"; })));
  EXPECT_TRUE(absl::IsInvalidArgument(status([](O& o) { o.mailboxes.resize(5); })));
  EXPECT_TRUE(absl::IsInvalidArgument(status([](O& o) {
    o.host = nullptr;
    o.directory = nullptr;
    o.keeper = AdvertKeeper::Create();
  })));
  host_->fails = true;
  EXPECT_TRUE(absl::IsUnavailable(status([](O&) {})));
}

/// Not AdvertKeeper::Create's: there is nothing that would tell it of an instance.
class OwnKeeper final : public AdvertKeeper {
  absl::StatusOr<std::chrono::seconds> Renew() override { return 1s; }
  std::size_t size() const override { return 0; }
};

TEST_F(Identity, AKeeperOfSomebodyElseIsRefused) {
  IdentityOptions options = Options();
  options.keeper = std::make_shared<OwnKeeper>();
  const auto result = RunMock([](NativeContext&) { return 0; }, With(options));
  EXPECT_TRUE(absl::IsInvalidArgument(result.status())) << result.status();
}

// A child's adverts would have the sequences of its parent's, and say something else: directories
// that see both believe neither.
TEST_F(Identity, AForkedChildRenewsNothing) {
  IdentityOptions options = Options();
  options.keeper = AdvertKeeper::Create();
  const auto keeper = options.keeper;
  const auto result = RunMock(
      [&](NativeContext& context) {
        const Self self(*context.CallHost("waxvm.identity", ""));
        *now_ += 60;
        const pid_t child = fork();
        if (child == 0) {
          const bool refused = absl::IsFailedPrecondition(keeper->Renew().status());
          _exit(refused && Find(self.key)->fields().sequence == 1 ? 0 : 1);
        }
        int status = -1;
        EXPECT_EQ(waitpid(child, &status, 0), child);
        EXPECT_EQ(status, 0);
        EXPECT_TRUE(keeper->Renew().ok());
        EXPECT_EQ(Find(self.key)->fields().sequence, 2u);
        return 0;
      },
      With(options));
  ASSERT_TRUE(result.ok()) << result.status();
}

TEST_F(Identity, EndsAsAsked) {
  const auto end = [&](AdvertEnd how) {
    IdentityOptions options = Options();
    options.at_end = how;
    const auto result = RunMock([](NativeContext&) { return 0; }, With(options));
    EXPECT_TRUE(result.ok()) << result.status();
    return *result->report.identity;
  };
  const IdentityReport left = end(AdvertEnd::kLeave);
  EXPECT_EQ(Find(left.public_key)->bytes(), left.advert);
  EXPECT_EQ(left.advert_expires, *now_ + 100);
  const IdentityReport revoked = end(AdvertEnd::kRevoke);
  EXPECT_TRUE(absl::IsPermissionDenied(Find(revoked.public_key).status()));
  EXPECT_EQ(revoked.adverts, 2u);
  const auto revocation = Advert::Check(revoked.advert, *now_);
  ASSERT_TRUE(revocation.ok()) << revocation.status();
  EXPECT_EQ(revocation->As<RevocationBody>()->reason, RevocationBody::Reason::kRetired);
}

TEST_F(Identity, IsRenewedWhileItRuns) {
  IdentityOptions options = Options();
  options.keeper = AdvertKeeper::Create();
  const auto keeper = options.keeper;
  const auto result = RunMock(
      [&](NativeContext& context) {
        const Self self(*context.CallHost("waxvm.identity", ""));
        EXPECT_EQ(keeper->size(), 1u);
        *now_ += 49;
        EXPECT_EQ(keeper->Renew().value(), 1s);
        EXPECT_EQ(Find(self.key)->fields().sequence, 1u) << "not yet due";
        *now_ += 1;
        EXPECT_EQ(keeper->Renew().value(), 50s);
        EXPECT_EQ(Find(self.key)->fields().sequence, 2u);
        EXPECT_EQ(Find(self.key)->fields().expires, *now_ + 100);
        *now_ += 60;
        // Without a keeper, at any host call.
        const Self again(*context.CallHost("waxvm.identity", ""));
        EXPECT_EQ(again.address, self.address);
        EXPECT_EQ(Find(self.key)->fields().sequence, 3u);
        EXPECT_EQ(again.advert, Find(self.key)->bytes());
        // A host that cannot be asked ends nothing, and is asked again.
        host_->fails = true;
        *now_ += 60;
        EXPECT_TRUE(absl::IsUnavailable(keeper->Renew().status()));
        EXPECT_TRUE(context.CallHost("waxvm.identity", "").ok());
        EXPECT_EQ(Find(self.key)->fields().sequence, 3u);
        host_->fails = false;
        *now_ += 1;
        EXPECT_EQ(keeper->Renew().value(), 50s);
        EXPECT_EQ(Find(self.key)->fields().sequence, 4u);
        host_->fails = true;
        return 0;
      },
      With(options));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(keeper->size(), 0u);
  EXPECT_EQ(keeper->Renew().value(), 3600s);
  // It could not be withdrawn, and the report says so.
  EXPECT_TRUE(absl::IsUnavailable(result->report.identity->advert_status));
  EXPECT_EQ(result->report.identity->adverts, 4u);
}

TEST_F(Identity, AResolverFindsIt) {
  auto petnames = Petnames::InMemory();
  const auto resolver =
      Resolver::Create(directory_.get(), &petnames, {.clock = [&] { return now_->load(); }});
  const auto result = RunMock(
      [&](NativeContext& context) {
        const Self self(*context.CallHost("waxvm.identity", ""));
        const auto found = resolver->Resolve(self.key.ToBase32());
        EXPECT_TRUE(found.ok()) << found.status();
        if (found.ok()) {
          EXPECT_EQ((*found)->address, self.address);
        }
        return 0;
      },
      With(Options()));
  EXPECT_TRUE(result.ok()) << result.status();
}

// --- sessions, snapshots, clones and pools, over a program that asks what its caller says ---

class IdentitySession : public Identity {
 protected:
  std::unique_ptr<Session> Start(const IdentityOptions& options) {
    auto session = Session::Start(provider_, Native(nullptr), With(options));
    EXPECT_TRUE(session.ok()) << session.status();
    return session.ok() ? *std::move(session) : nullptr;
  }
  static Self Ask(Session& session) {
    const auto said = session.Call("waxvm.identity", "");
    EXPECT_TRUE(said.ok()) << said.status();
    return Self(said.value_or(std::string(96, '\0')));
  }
  const std::shared_ptr<AskingProvider> provider_ = std::make_shared<AskingProvider>();
};

TEST_F(IdentitySession, EachCloneIsSomebodyElse) {
  const auto session = Start(Options());
  const Self original = Ask(*session);
  EXPECT_EQ(session->report().identity->address, original.address);
  const auto snapshot = session->TakeSnapshot();
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  std::set<PublicKey> keys = {original.key};
  for (int i = 0; i < 5; ++i) {
    const auto clone = snapshot->Clone();
    ASSERT_TRUE(clone.ok()) << clone.status();
    EXPECT_TRUE(Find((*clone)->report().identity->public_key).ok()) << "before its first call";
    const Self self = Ask(**clone);
    EXPECT_EQ(self.key, (*clone)->report().identity->public_key);
    EXPECT_EQ(Advert::Check(self.advert, *now_)->fields().author, self.key);
    keys.insert(self.key);
    // The state that it is put back to was never that instance.
    ASSERT_TRUE((*clone)->Reset().ok());
    const Self next = Ask(**clone);
    keys.insert(next.key);
    EXPECT_EQ(Find(self.key)->fields().sequence, 2u) << "withdrawn";
    EXPECT_EQ(Find(next.key)->fields().sequence, 1u);
  }
  EXPECT_EQ(keys.size(), 11u);
  EXPECT_EQ(Ask(*session).key, original.key) << "the session itself stays who it is";
}

TEST_F(IdentitySession, ASnapshotNeverHoldsAPrivateKeyThatWasRead) {
  IdentityOptions options = Options();
  options.grant_private_key = true;
  const auto session = Start(options);
  const auto before = session->TakeSnapshot();
  ASSERT_TRUE(before.ok()) << "granted, and not in there: " << before.status();
  ASSERT_TRUE(session->Call("waxvm.identity.private_key", "").ok());
  EXPECT_TRUE(session->report().identity->private_key_was_read);
  const auto after = session->TakeSnapshot();
  EXPECT_TRUE(absl::IsFailedPrecondition(after.status()));
  EXPECT_THAT(std::string(after.status().message()), HasSubstr("private key"));
  // What was taken before gives every clone a key of its own.
  std::set<std::string> seeds;
  for (int i = 0; i < 3; ++i) {
    const auto clone = *before->Clone();
    const auto seed = clone->Call("waxvm.identity.private_key", "");
    ASSERT_TRUE(seed.ok()) << seed.status();
    EXPECT_EQ(SigningKey::FromSeed(*seed)->public_key(), clone->report().identity->public_key);
    seeds.insert(*seed);
    EXPECT_TRUE(absl::IsFailedPrecondition(clone->TakeSnapshot().status()));
    // Put back, the key is gone from it.
    ASSERT_TRUE(clone->Reset().ok());
    EXPECT_FALSE(clone->report().identity->private_key_was_read);
    EXPECT_TRUE(clone->TakeSnapshot().ok());
    seeds.insert(*clone->Call("waxvm.identity.private_key", ""));
  }
  EXPECT_EQ(seeds.size(), 6u);
}

TEST_F(IdentitySession, APoisonedSessionIsNobodyAnyMore) {
  const auto session = Start(Options());
  const Self self = Ask(*session);
  EXPECT_FALSE(session->Call("fault", "").ok());
  EXPECT_EQ(Find(self.key)->fields().sequence, 2u) << "withdrawn at once";
  EXPECT_EQ(session->report().identity->address, self.address) << "who it was";
}

TEST_F(IdentitySession, WhereNoneCanBeMade) {
  host_->fails = true;
  const auto refused = Session::Start(provider_, Native(nullptr), With(Options()));
  EXPECT_TRUE(absl::IsUnavailable(refused.status()));
  host_->fails = false;
  const auto session = Start(Options());
  const auto snapshot = session->TakeSnapshot();
  const auto clone = *snapshot->Clone();
  EXPECT_TRUE(clone->Call("waxvm.identity", "").ok());
  host_->fails = true;
  EXPECT_TRUE(absl::IsUnavailable(snapshot->Clone().status()));
  // It must not go on as who it was.
  EXPECT_TRUE(absl::IsUnavailable(clone->Reset()));
  EXPECT_TRUE(absl::IsFailedPrecondition(clone->Call("waxvm.identity", "").status()));
  EXPECT_EQ(provider_->alive, 1) << "the session itself";
}

TEST_F(IdentitySession, CallsRenewToo) {
  const auto session = Start(Options());
  const Self self = Ask(*session);
  *now_ += 60;
  EXPECT_TRUE(session->Call("nothing", "").ok());
  EXPECT_EQ(Find(self.key)->fields().sequence, 2u);
}

TEST_F(IdentitySession, EachRunOfALoadedProgramIsSomebodyElse) {
  const auto start = Snapshot::OfStart(provider_, Native(nullptr), With(Options()));
  ASSERT_TRUE(start.ok()) << start.status();
  EXPECT_EQ(directory_->Stats().adverts, 0u) << "nothing has run";
  const auto session = *start->Clone();
  std::set<PublicKey> keys;
  for (int i = 0; i < 4; ++i) {
    const auto result = session->Run();
    ASSERT_TRUE(result.ok()) << result.status();
    const Self self(result->output);
    EXPECT_EQ(self.key, result->report.identity->public_key);
    EXPECT_EQ(Find(self.key)->fields().sequence, 2u) << "withdrawn";
    keys.insert(self.key);
  }
  EXPECT_EQ(keys.size(), 4u);
  EXPECT_FALSE(session->report().identity) << "between runs it is nobody";
}

/// What `pool` answers to `calls` calls from each of three threads.
std::set<PublicKey> KeysOfCalls(Pool& pool, int calls) {
  Mutex mutex;
  std::set<PublicKey> keys;
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i)
    threads.emplace_back([&] {
      for (int j = 0; j < calls; ++j) {
        const auto said = pool.Call("waxvm.identity", "");
        EXPECT_TRUE(said.ok()) << said.status();
        if (!said.ok()) return;
        const MutexLock lock(mutex);
        keys.insert(Self(*said).key);
      }
    });
  for (std::thread& thread : threads) thread.join();
  return keys;
}

TEST_F(IdentitySession, EachCallOfAPoolIsSomebodyElse) {
  IdentityOptions options = Options();
  options.keeper = AdvertKeeper::Create();
  options.lifetime = 4s;
  std::atomic<bool> done = false;
  // Renewals of instances that come and go.
  std::thread clock([&] {
    while (!done) {
      *now_ += 1;
      EXPECT_TRUE(options.keeper->Renew().ok());
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  {
    const auto session = Start(options);
    const auto pool = *Pool::Create(*session->TakeSnapshot(), {.max_instances = 3});
    EXPECT_EQ(KeysOfCalls(*pool, 50).size(), 150u);
  }
  done = true;
  clock.join();
  EXPECT_EQ(options.keeper->size(), 0u);
}

TEST_F(IdentitySession, APoolThatKeepsStateKeepsWhoItIs) {
  const auto session = Start(Options());
  const auto pool = *Pool::Create(*session->TakeSnapshot(), {.fresh_state = false});
  std::set<PublicKey> keys;
  for (int i = 0; i < 10; ++i) keys.insert(Self(*pool->Call("waxvm.identity", "")).key);
  EXPECT_EQ(keys.size(), 1u);
}

TEST_F(IdentitySession, EachRunOfAPoolIsSomebodyElse) {
  const auto pool = *Pool::Create(*Snapshot::OfStart(provider_, Native(nullptr), With(Options())));
  std::set<PublicKey> keys;
  for (int i = 0; i < 10; ++i) keys.insert(Self(pool->Run()->output).key);
  EXPECT_EQ(keys.size(), 10u);
}

/// How often the last 16 of these bytes, each turned by 0x5a, are in the memory of this process:
/// malloc itself writes over the first ones of what is freed.
int CountInMemory(const std::array<unsigned char, 32>& turned) {
  constexpr std::size_t kAtMost = std::size_t{256} << 20;  // what a sanitizer maps is larger
  int count = 0;
  std::ifstream maps("/proc/self/maps");
  const int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
  std::vector<unsigned char> bytes;
  for (std::string line; std::getline(maps, line);) {
    unsigned long begin = 0, end = 0;
    char rights[5] = "";
    if (sscanf(line.c_str(), "%lx-%lx %4s", &begin, &end, rights) != 3) continue;
    if (rights[0] != 'r' || rights[1] != 'w' || end - begin > kAtMost) continue;
    bytes.resize(end - begin);
    const ssize_t size = pread(memory, bytes.data(), bytes.size(), static_cast<off_t>(begin));
    if (size < 16) continue;
    const unsigned char* const last = bytes.data() + size - 15;
    for (const unsigned char* at = bytes.data(); at < last; ++at) {
      // One byte of it alone is nowhere else than in a register.
      at = static_cast<const unsigned char*>(
          std::memchr(at, turned[16] ^ 0x5a, static_cast<std::size_t>(last - at)));
      if (at == nullptr) break;
      std::size_t same = 0;
      while (same < 16 && (at[same] ^ 0x5a) == turned[16 + same]) ++same;
      if (same == 16) ++count;
    }
    // Or what is copied here would be found in the next round.
    explicit_bzero(bytes.data(), bytes.size());
  }
  close(memory);
  return count;
}

TEST_F(IdentitySession, NoTraceOfAGrantedKeyStays) {
  IdentityOptions options = Options();
  options.grant_private_key = true;
  std::array<unsigned char, 32> turned = {};
  {
    const auto session = Start(options);
    // The program keeps it like this, and this test never has it.
    ASSERT_TRUE(session->Call("take the key", "").ok());
    turned = provider_->turned_key;
    EXPECT_GE(CountInMemory(turned), 1) << "locked, while the instance lives";
  }
  EXPECT_NE(turned, (std::array<unsigned char, 32>{}));
  EXPECT_EQ(CountInMemory(turned), 0);
}

}  // namespace
}  // namespace waxvm
