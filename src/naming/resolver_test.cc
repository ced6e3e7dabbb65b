// SPDX-License-Identifier: Apache-2.0
#include "waxvm/resolver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "src/naming/advert_for_test.h"

namespace waxvm {
namespace {

using namespace std::chrono_literals;
using naming::HostAdvert;
using naming::KeyOf;
using naming::kTestTime;
using naming::NameAdvert;
using naming::RevocationAdvert;
using naming::VmAdvert;
using testing::ElementsAre;
using testing::HasSubstr;

class Names : public testing::Test {
 protected:
  void Put(const Advert& advert) {
    const absl::Status status = directory_->Put(std::span(&advert, 1)).front();
    ASSERT_TRUE(status.ok()) << status;
  }
  /// What changed is seen at the next second.
  void Tick(std::uint64_t seconds = 1) { now_ += seconds; }
  std::unique_ptr<Resolver> New(ResolverOptions options = {}) {
    options.clock = [this] { return now_.load(); };
    return Resolver::Create(directory_.get(), &petnames_, options);
  }

  const SigningKey alice_ = KeyOf(1);
  const SigningKey sensor_ = KeyOf(2);
  const SigningKey host_ = KeyOf(3);
  std::atomic<std::uint64_t> now_ = kTestTime;
  std::unique_ptr<Directory> directory_ = NewMemoryDirectory();
  Petnames petnames_ = Petnames::InMemory();
};

TEST_F(Names, ADelegatedNameToTheTransportsOfItsHost) {
  ASSERT_TRUE(petnames_.Set("alice", alice_.public_key()).ok());
  Put(NameAdvert(alice_, "sensor", sensor_.public_key(), 1));
  const Advert vm = VmAdvert(sensor_, host_);
  Put(vm);
  Put(HostAdvert(host_));
  const auto resolver = New();
  const auto found = resolver->Resolve("Sensor.ALICE");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ((*found)->name, "sensor.alice");
  EXPECT_EQ((*found)->key, sensor_.public_key());
  EXPECT_EQ((*found)->type, AdvertType::kVm);
  EXPECT_EQ((*found)->address, vm.As<VmBody>()->claim.address);
  EXPECT_EQ((*found)->services, vm.As<VmBody>()->services);
  EXPECT_THAT((*found)->mailboxes, ElementsAre(host_.public_key()));
  EXPECT_EQ((*found)->host, host_.public_key());
  ASSERT_EQ((*found)->transports.size(), 2u);
  EXPECT_EQ((*found)->transports[0].scheme, "udp") << "the heaviest first";
  EXPECT_TRUE((*found)->tunnel_key.has_value());
  EXPECT_EQ((*found)->ttl, 60u) << "the least on the way";
  EXPECT_EQ((*found)->expires, kTestTime + 1000) << "the first on the way";
  EXPECT_EQ(*resolver->Resolve("sensor.alice"), *found) << "kept";
}

TEST_F(Names, KeysAreNames) {
  Put(VmAdvert(sensor_, host_));
  Put(NameAdvert(alice_, "sensor", sensor_.public_key(), 1));
  const auto resolver = New();
  const std::string key = sensor_.public_key().ToBase32();
  const auto found = resolver->Resolve(key);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ((*found)->key, sensor_.public_key());
  EXPECT_TRUE((*found)->transports.empty()) << "nothing is known of the host";
  EXPECT_EQ((*found)->host, host_.public_key());
  const auto delegated = resolver->Resolve("sensor." + alice_.public_key().ToBase32());
  ASSERT_TRUE(delegated.ok());
  EXPECT_EQ((*delegated)->address, (*found)->address);
}

TEST_F(Names, HostsAndTopics) {
  Put(HostAdvert(host_));
  const SigningKey topic = KeyOf(5);
  Put(*Advert::Make({.created = kTestTime,
                     .expires = kTestTime + 100,
                     .ttl = 10,
                     .body = TopicBody{.open = true, .tags = {"weather"}}},
                    topic));
  const auto resolver = New();
  const auto host = resolver->Resolve(host_.public_key().ToBase32());
  ASSERT_TRUE(host.ok()) << host.status();
  EXPECT_EQ((*host)->type, AdvertType::kHost);
  EXPECT_EQ((*host)->host, host_.public_key());
  EXPECT_EQ((*host)->transports.size(), 2u);
  const auto found = resolver->Resolve(topic.public_key().ToBase32());
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ((*found)->type, AdvertType::kTopic);
  EXPECT_EQ((*found)->address, cga::GroupOf(topic.public_key()));
  EXPECT_THAT((*found)->topic->tags, ElementsAre("weather"));
}

TEST_F(Names, WhatIsNoNameAndWhatNobodyKnows) {
  const auto resolver = New();
  std::string nine = "a";
  for (int i = 0; i < 8; ++i) nine += ".a";
  for (const std::string& name :
       {std::string(), std::string("."), std::string("a."), std::string(".a"), std::string("a..b"),
        std::string("a b"), std::string(64, 'a'), nine, std::string(1 << 20, 'a'),
        std::string("a\0b", 3)})
    EXPECT_TRUE(absl::IsInvalidArgument(resolver->Resolve(name).status())) << name.substr(0, 80);
  const auto nobody = resolver->Resolve("sensor.nobody");
  EXPECT_TRUE(absl::IsNotFound(nobody.status()));
  EXPECT_THAT(nobody.status().message(), HasSubstr("nobody"));
  ASSERT_TRUE(petnames_.Set("alice", alice_.public_key()).ok());
  EXPECT_TRUE(absl::IsNotFound(resolver->Resolve("sensor.alice").status()));
}

TEST_F(Names, ALoopEnds) {
  ASSERT_TRUE(petnames_.Set("alice", alice_.public_key()).ok());
  Put(NameAdvert(alice_, "a", alice_.public_key(), 1));
  Put(VmAdvert(alice_, host_));
  const auto resolver = New();
  EXPECT_TRUE(resolver->Resolve("a.a.a.a.a.a.a.alice").ok());
}

TEST_F(Names, ChangesAreSeenASecondLater) {
  ASSERT_TRUE(petnames_.Set("alice", alice_.public_key()).ok());
  Put(VmAdvert(alice_, host_, 1, 1));
  const auto resolver = New();
  EXPECT_EQ((*resolver->Resolve("alice"))->services[0].port, 1);
  Put(VmAdvert(alice_, host_, 2, 2));
  EXPECT_EQ((*resolver->Resolve("alice"))->services[0].port, 1) << "kept";
  Tick();
  EXPECT_EQ((*resolver->Resolve("alice"))->services[0].port, 2);
  ASSERT_TRUE(petnames_.Remove("alice").ok());
  Tick();
  EXPECT_TRUE(absl::IsNotFound(resolver->Resolve("alice").status()));
}

TEST_F(Names, NothingIsKeptPastItsExpiry) {
  Put(VmAdvert(alice_, host_));
  const auto resolver = New();
  const std::string name = alice_.public_key().ToBase32();
  ASSERT_TRUE(resolver->Resolve(name).ok());
  Tick(999);
  EXPECT_TRUE(resolver->Resolve(name).ok());
  Tick();
  EXPECT_TRUE(absl::IsDeadlineExceeded(resolver->Resolve(name).status()));
}

TEST_F(Names, RevokedKeysAnywhereOnTheWay) {
  ASSERT_TRUE(petnames_.Set("alice", alice_.public_key()).ok());
  Put(NameAdvert(alice_, "sensor", sensor_.public_key(), 1));
  Put(VmAdvert(sensor_, host_));
  Put(HostAdvert(host_));
  const auto resolver = New();
  ASSERT_TRUE(resolver->Resolve("sensor.alice").ok());
  for (const SigningKey* key : {&host_, &sensor_, &alice_}) {
    Put(RevocationAdvert(*key));
    Tick();
    const auto found = resolver->Resolve("sensor.alice");
    EXPECT_TRUE(absl::IsPermissionDenied(found.status())) << found.status();
    EXPECT_THAT(found.status().message(), HasSubstr(key->public_key().ToBase32()));
  }
}

/// Somebody to ask, who counts.
struct Others {
  std::map<AdvertSlot, std::string> adverts;
  absl::Status error;
  int asked = 0;
  ResolverOptions Options() {
    return {.fetch = [this](const AdvertSlot& slot) -> absl::StatusOr<std::string> {
      ++asked;
      if (!error.ok()) return error;
      const auto found = adverts.find(slot);
      if (found == adverts.end()) return absl::NotFoundError("not here");
      return found->second;
    }};
  }
  void Add(const Advert& advert) { adverts[advert.slot()] = advert.bytes(); }
};

TEST_F(Names, AsksOthersAndAgainAfterTheTtl) {
  Others others;
  others.Add(VmAdvert(alice_, host_, 1, 1));
  others.Add(HostAdvert(host_));
  const auto resolver = New(others.Options());
  const std::string name = alice_.public_key().ToBase32();
  EXPECT_EQ((*resolver->Resolve(name))->services[0].port, 1);
  EXPECT_EQ(others.asked, 2);
  others.Add(VmAdvert(alice_, host_, 2, 2));
  Tick(59);
  EXPECT_EQ((*resolver->Resolve(name))->services[0].port, 1);
  EXPECT_EQ(others.asked, 2) << "not before the ttl is over";
  Tick(1);
  EXPECT_EQ((*resolver->Resolve(name))->services[0].port, 2);
  EXPECT_EQ(others.asked, 3) << "the host's ttl is longer";
  // Without the others it goes on from what it has, until that expires.
  others.error = absl::UnavailableError("offline");
  Tick(600);
  EXPECT_EQ((*resolver->Resolve(name))->services[0].port, 2);
  Tick(1000);
  EXPECT_TRUE(absl::IsDeadlineExceeded(resolver->Resolve(name).status()));
}

TEST_F(Names, OthersThatLie) {
  Others others;
  const SigningKey liar = KeyOf(66);
  const AdvertSlot slot = VmAdvert(alice_, host_).slot();
  const auto resolver = New(others.Options());
  std::string forged = VmAdvert(alice_, host_).bytes();
  forged[100] = static_cast<char>(forged[100] ^ 1);
  const std::string kLies[] = {VmAdvert(liar, host_).bytes(), forged, "", std::string(5000, 'x'),
                               HostAdvert(alice_).bytes()};
  for (const std::string& lie : kLies) {
    others.adverts[slot] = lie;
    Tick(100);
    EXPECT_TRUE(absl::IsNotFound(resolver->Resolve(alice_.public_key().ToBase32()).status()));
  }
  EXPECT_EQ(directory_->Stats().adverts, 0u);
}

TEST_F(Names, WhatDoesNotExistIsNotAskedForAgainAndAgain) {
  Others others;
  ResolverOptions options = others.Options();
  options.negative_ttl = 10;
  const auto resolver = New(options);
  const std::string name = alice_.public_key().ToBase32();
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(absl::IsNotFound(resolver->Resolve(name).status()));
    Tick(i < 9 ? 1 : 0);
  }
  EXPECT_EQ(others.asked, 3) << "as vm, host and topic, once";
  Tick(1);
  EXPECT_TRUE(absl::IsNotFound(resolver->Resolve(name).status()));
  EXPECT_EQ(others.asked, 6);
}

TEST_F(Names, ANameWithoutMeaningMayExist) {
  ASSERT_TRUE(petnames_.Set("alice", alice_.public_key()).ok());
  Put(NameAdvert(alice_, "sensor", sensor_.public_key(), 1));
  Put(NameAdvert(alice_, "brief", sensor_.public_key(), 1, kTestTime, 1, 1));
  const auto resolver = New();
  EXPECT_FALSE(resolver->Look("alice", /*kept_alone=*/true)) << "never looked for";
  const auto exists = [&](std::string_view name) {
    const auto state = resolver->Look(name, /*kept_alone=*/false);
    EXPECT_TRUE(state.has_value());
    EXPECT_FALSE(state->meaning.ok()) << name;
    EXPECT_EQ(state->until, now_ + 10) << name;
    return state->exists;
  };
  EXPECT_TRUE(exists("alice")) << "there may be names below it";
  EXPECT_TRUE(exists("sensor.alice"));
  EXPECT_TRUE(exists(KeyOf(9).public_key().ToBase32()));
  EXPECT_FALSE(exists("other.alice"));
  EXPECT_FALSE(exists("a.sensor.alice"));
  EXPECT_FALSE(exists("bob"));
  EXPECT_FALSE(exists("no_name"));
  EXPECT_TRUE(resolver->Look("alice", /*kept_alone=*/true)->exists);
  EXPECT_FALSE(resolver->Look("bob", /*kept_alone=*/true)->exists);
  Tick(2);
  EXPECT_FALSE(exists("brief.alice")) << "given, and not any more";
  Put(VmAdvert(sensor_, host_));
  Tick();
  const auto state = resolver->Look("sensor.alice", /*kept_alone=*/false);
  ASSERT_TRUE(state && state->meaning.ok());
  EXPECT_TRUE(state->exists);
  EXPECT_EQ(state->until, now_ + 60) << "the vm's ttl";
  EXPECT_EQ(*resolver->Look("sensor.alice", /*kept_alone=*/true)->meaning, *state->meaning);
  Put(RevocationAdvert(alice_));
  Tick();
  EXPECT_FALSE(exists("sensor.alice")) << "nothing that it gave counts any more";
  EXPECT_TRUE(exists("alice"));
}

TEST_F(Names, ManyNamesTakeBoundedRoom) {
  Others others;
  ResolverOptions options = others.Options();
  options.max_cached = 10;
  const auto resolver = New(options);
  Put(VmAdvert(alice_, host_));
  const std::string wanted = alice_.public_key().ToBase32();
  ASSERT_TRUE(resolver->Resolve(wanted).ok());
  for (int i = 0; i < 200; ++i)
    EXPECT_FALSE(resolver->Resolve("n" + std::to_string(i) + "." + wanted).ok());
  const int before = others.asked;
  EXPECT_TRUE(resolver->Resolve(wanted).ok());
  EXPECT_EQ(others.asked, before) << "names that do not exist displace none that does";
}

TEST_F(Names, WaitsForAChange) {
  Put(VmAdvert(alice_, host_, 1, 1));
  const auto resolver = New();
  const std::string name = alice_.public_key().ToBase32();
  const auto known = *resolver->Resolve(name);
  EXPECT_TRUE(absl::IsDeadlineExceeded(resolver->WaitForChange(name, known, 1ms).status()));
  std::jthread later([&] {
    std::this_thread::sleep_for(50ms);
    const Advert newer = VmAdvert(alice_, host_, 2, 2);
    directory_->Put(std::span(&newer, 1));
    Tick();
  });
  const auto changed = resolver->WaitForChange(name, known, 10s);
  ASSERT_TRUE(changed.ok()) << changed.status();
  EXPECT_EQ((*changed)->services[0].port, 2);
  std::stop_source stop;
  stop.request_stop();
  EXPECT_TRUE(
      absl::IsCancelled(resolver->WaitForChange(name, *changed, 10s, stop.get_token()).status()));
  // From nothing to something, and back.
  EXPECT_TRUE(resolver->WaitForChange(name, nullptr, 1s).ok());
  Tick(2000);
  EXPECT_TRUE(absl::IsDeadlineExceeded(resolver->WaitForChange(name, *changed, 10s).status()))
      << "it has expired";
}

TEST_F(Names, ManyThreads) {
  Put(VmAdvert(alice_, host_));
  const auto resolver = New();
  const std::string name = alice_.public_key().ToBase32();
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) {
        EXPECT_TRUE(resolver->Resolve(name).ok());
        EXPECT_FALSE(resolver->Resolve("nobody" + std::to_string(i % 7)).ok());
        if (i % 100 == 0) Tick();
      }
    });
}

}  // namespace
}  // namespace waxvm
