// SPDX-License-Identifier: Apache-2.0
#include "waxvm/resolver_dns.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "src/base/mutex.h"
#include "src/dns/rdata.h"
#include "src/naming/advert_for_test.h"

namespace waxvm {
namespace {

using naming::HostAdvert;
using naming::KeyOf;
using naming::kTestTime;
using naming::NameAdvert;
using naming::RevocationAdvert;
using naming::VmAdvert;

class ResolverDns : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(petnames_.Set("alice", alice_.public_key()).ok());
    Put(NameAdvert(alice_, "sensor", sensor_.public_key(), 1));
    Put(VmAdvert(sensor_, host_));
    Put(HostAdvert(host_));
    Open();
  }
  void Open(ResolverOptions resolving = {}, ResolverDnsOptions options = {}) {
    source_.reset();
    resolving.clock = options.clock = [this] { return now_.load(); };
    resolver_ = Resolver::Create(directory_.get(), &petnames_, resolving);
    auto made = ResolverDnsSource::Create(resolver_.get(), directory_.get(), &petnames_, options);
    ASSERT_TRUE(made.ok()) << made.status();
    source_ = *std::move(made);
  }
  void Put(const Advert& advert) {
    const absl::Status status = directory_->Put(std::span(&advert, 1)).front();
    ASSERT_TRUE(status.ok()) << status;
  }
  /// "TTL RDATA" of each record, with blanks between; or what was found instead.
  std::string Ask(DnsType type, const std::string& name) { return Ask({name, type}); }
  std::string Ask(const DnsQuestion& question) {
    DnsAnswer answer;
    const DnsFound found = source_->Lookup(question, answer);
    if (found == DnsFound::kNo) return "NXDOMAIN";
    if (found == DnsFound::kUnknown) return "SERVFAIL";
    if (found == DnsFound::kPending) return "PENDING";
    std::string text;
    for (const DnsAnswer::Entry& entry : answer.entries()) {
      EXPECT_EQ(entry.type, question.type);
      const auto type = static_cast<std::uint16_t>(entry.type);
      const absl::Status right = dns::CheckRdata(type, answer.data(entry));
      EXPECT_TRUE(right.ok()) << right;
      if (!right.ok()) return "BROKEN";
      text += (text.empty() ? "" : " | ") + std::to_string(entry.ttl_seconds) + " " +
              dns::RdataToText(type, answer.data(entry));
    }
    return text.empty() ? "NODATA" : text;
  }
  std::string AskAddress(const Address& address, DnsType type = DnsType::kPtr) {
    return Ask({.name = "", .type = type, .address = address.bytes});
  }
  /// Until it is no longer being found out.
  std::string Wait(DnsType type, const std::string& name) {
    for (int i = 0; i < 2000; ++i) {
      const std::string text = Ask(type, name);
      if (text != "PENDING") return text;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return "PENDING";
  }
  static Address AddressOf(const SigningKey& key) {
    return naming::NewClaim(key.public_key()).address;
  }

  const SigningKey alice_ = KeyOf(1);
  const SigningKey sensor_ = KeyOf(2);
  const SigningKey host_ = KeyOf(3);
  std::atomic<std::uint64_t> now_ = kTestTime;
  std::unique_ptr<Directory> directory_ = NewMemoryDirectory();
  Petnames petnames_ = Petnames::InMemory();
  std::unique_ptr<Resolver> resolver_;
  std::shared_ptr<ResolverDnsSource> source_;
};

TEST_F(ResolverDns, TheRecordsOfAName) {
  const std::string address = AddressOf(sensor_).ToText();
  EXPECT_EQ(Ask(DnsType::kAaaa, "sensor.alice"), "60 " + address);
  EXPECT_EQ(Ask(DnsType::kTxt, "sensor.alice"),
            "60 \"key=" + sensor_.public_key().ToBase32() +
                "\" \"type=vm\" \"host=" + host_.public_key().ToBase32() + "\"");
  EXPECT_EQ(Ask(DnsType::kSrv, "_coap._udp.sensor.alice"), "60 0 0 5683 sensor.alice.internal.");
  EXPECT_EQ(Ask(DnsType::kSvcb, "_coap.sensor.alice"),
            "60 1 sensor.alice.internal. port=5683 ipv6hint=" + address);
  EXPECT_EQ(Ask(DnsType::kA, "sensor.alice"), "NODATA");
  EXPECT_EQ(Ask(DnsType::kHttps, "sensor.alice"), "NODATA");
  EXPECT_EQ(Ask(DnsType::kAny, "sensor.alice"), "NODATA");
  EXPECT_EQ(Ask(DnsType::kSrv, "_coap._tcp.sensor.alice"), "NXDOMAIN");
  EXPECT_EQ(Ask(DnsType::kSrv, "_http._udp.sensor.alice"), "NXDOMAIN");
  EXPECT_EQ(Ask(DnsType::kSrv, "_coap._sctp.sensor.alice"), "NXDOMAIN");
  EXPECT_EQ(Ask(DnsType::kSrv, "_udp.sensor.alice"), "NODATA") << "there are names below it";
  EXPECT_EQ(Ask(DnsType::kSrv, "_tcp.sensor.alice"), "NXDOMAIN");
  EXPECT_EQ(Ask(DnsType::kSrv, "_coap.sensor.alice"), "NODATA");
  EXPECT_EQ(Ask(DnsType::kAaaa, "_coap._udp.sensor.alice"), "NODATA");
  EXPECT_EQ(Ask(DnsType::kAaaa, ""), "NODATA") << "the suffix itself";
}

TEST_F(ResolverDns, KeysHostsAndTopics) {
  const std::string key = sensor_.public_key().ToBase32();
  EXPECT_EQ(Ask(DnsType::kAaaa, key), "60 " + AddressOf(sensor_).ToText());
  EXPECT_EQ(Ask(DnsType::kSrv, "_coap._udp." + key), "60 0 0 5683 " + key + ".internal.");
  EXPECT_EQ(Ask(DnsType::kAaaa, host_.public_key().ToBase32()), "600 " + AddressOf(host_).ToText());
  EXPECT_NE(Ask(DnsType::kTxt, host_.public_key().ToBase32()).find("\"type=host\""),
            std::string::npos);
  const SigningKey topic = KeyOf(8);
  Put(*Advert::Make({.sequence = 1,
                     .created = kTestTime,
                     .expires = kTestTime + 100,
                     .ttl = 50,
                     .body = TopicBody{.open = true}},
                    topic));
  EXPECT_EQ(Ask(DnsType::kAaaa, topic.public_key().ToBase32()),
            "50 " + cga::GroupOf(topic.public_key()).ToText());
}

TEST_F(ResolverDns, HttpsIsAServiceOfItsName) {
  const SigningKey web = KeyOf(8);
  Put(*Advert::Make({.sequence = 1,
                     .created = kTestTime,
                     .expires = kTestTime + 100,
                     .ttl = 50,
                     .body = VmBody{.claim = naming::NewClaim(web.public_key()),
                                    .services = {{"https", 6, 8443}, {"https", 17, 1}}}},
                    web, &host_));
  const std::string name = web.public_key().ToBase32();
  EXPECT_EQ(Ask(DnsType::kHttps, name), "50 1 . port=8443 ipv6hint=" + AddressOf(web).ToText());
  EXPECT_EQ(Ask(DnsType::kSrv, "_https._tcp." + name), "50 0 0 8443 " + name + ".internal.");
  EXPECT_EQ(Ask(DnsType::kSrv, "_https._udp." + name), "50 0 0 1 " + name + ".internal.");
}

TEST_F(ResolverDns, WhoHasAnAddress) {
  EXPECT_EQ(AskAddress(AddressOf(sensor_)), "60 " + sensor_.public_key().ToBase32() + ".internal.");
  ASSERT_TRUE(petnames_.Set("bedroom", sensor_.public_key()).ok());
  EXPECT_EQ(AskAddress(AddressOf(sensor_)), "60 bedroom.internal.");
  EXPECT_EQ(AskAddress(AddressOf(sensor_), DnsType::kTxt), "NODATA");
  EXPECT_EQ(AskAddress(AddressOf(host_)), "600 " + host_.public_key().ToBase32() + ".internal.");
  EXPECT_EQ(AskAddress(AddressOf(alice_)), "NXDOMAIN");
  now_ += 990;
  EXPECT_EQ(AskAddress(AddressOf(sensor_)), "10 bedroom.internal.") << "it expires before";
  now_ += 10;
  EXPECT_EQ(AskAddress(AddressOf(sensor_)), "NXDOMAIN");
}

TEST_F(ResolverDns, WhatTheSuffixLeavesNoRoomFor) {
  const std::string label(50, 's');
  const std::string suffix = label + "." + label + "." + label + "." + label;
  Open({}, {.suffix = suffix});
  EXPECT_EQ(AskAddress(AddressOf(sensor_)), "NODATA") << "a key has 52 characters";
  ASSERT_TRUE(petnames_.Set("bedroom", sensor_.public_key()).ok());
  EXPECT_EQ(AskAddress(AddressOf(sensor_)), "60 bedroom." + suffix + ".");
}

TEST_F(ResolverDns, NoNameAndNoData) {
  EXPECT_EQ(Ask(DnsType::kAaaa, "alice"), "NODATA") << "sensor.alice would not exist otherwise";
  EXPECT_EQ(Ask(DnsType::kSrv, "_coap._udp.alice"), "NXDOMAIN");
  EXPECT_EQ(Ask(DnsType::kAaaa, "bob"), "NXDOMAIN");
  EXPECT_EQ(Ask(DnsType::kAaaa, "other.alice"), "NXDOMAIN");
  EXPECT_EQ(Ask(DnsType::kAaaa, "x.sensor.alice"), "NXDOMAIN");
  EXPECT_EQ(Ask(DnsType::kAaaa, KeyOf(9).public_key().ToBase32()), "NODATA");
  for (const char* name : {"a_b", "_x", "_x._y", "_", "_.alice", "__.alice", "a\\.b", "\\000", "-",
                           "a.b.c.d.e.f.g.h.alice"})
    EXPECT_EQ(Ask(DnsType::kAaaa, name), "NXDOMAIN") << name;
}

TEST_F(ResolverDns, TtlsRunOut) {
  EXPECT_EQ(Ask(DnsType::kAaaa, "sensor.alice").substr(0, 3), "60 ");
  now_ += 45;
  EXPECT_EQ(Ask(DnsType::kAaaa, "sensor.alice").substr(0, 3), "15 ") << "kept, not new";
  now_ += 15;
  EXPECT_EQ(Ask(DnsType::kAaaa, "sensor.alice").substr(0, 3), "60 ");
  now_ = kTestTime + 999;
  EXPECT_EQ(Ask(DnsType::kAaaa, "sensor.alice").substr(0, 2), "1 ");
  now_ += 1;
  EXPECT_EQ(Ask(DnsType::kAaaa, "sensor.alice"), "NODATA") << "expired";
  Put(RevocationAdvert(sensor_));
  ++now_;
  EXPECT_EQ(Ask(DnsType::kAaaa, "sensor.alice"), "NODATA");
  Put(RevocationAdvert(alice_));
  ++now_;
  EXPECT_EQ(Ask(DnsType::kAaaa, "sensor.alice"), "NXDOMAIN");
}

TEST_F(ResolverDns, WhatIsFetchedIsWaitedForByOthers) {
  const SigningKey far = KeyOf(8);
  const Advert advert = VmAdvert(far, host_);
  std::atomic<int> asked = 0;
  std::atomic<bool> answers = false;
  Open({.fetch = [&](const AdvertSlot& slot) -> absl::StatusOr<std::string> {
         ++asked;
         while (!answers) std::this_thread::sleep_for(std::chrono::milliseconds(1));
         if (slot == advert.slot()) return advert.bytes();
         return absl::NotFoundError("not there");
       }},
       {.threads = 2, .max_waiting = 3});
  const std::string name = far.public_key().ToBase32();
  EXPECT_EQ(Ask(DnsType::kAaaa, name), "PENDING");
  EXPECT_EQ(Ask(DnsType::kAaaa, name), "PENDING");
  EXPECT_EQ(Ask(DnsType::kAaaa, "a.alice"), "PENDING");
  EXPECT_EQ(Ask(DnsType::kAaaa, "b.alice"), "PENDING");
  // Attack: names that take long, until none is left for others.
  EXPECT_EQ(Ask(DnsType::kAaaa, "c.alice"), "SERVFAIL");
  EXPECT_EQ(AskAddress(AddressOf(sensor_)).substr(0, 3), "60 ") << "others are answered";
  answers = true;
  EXPECT_EQ(Wait(DnsType::kAaaa, name), "60 " + AddressOf(far).ToText());
  EXPECT_EQ(Wait(DnsType::kAaaa, "a.alice"), "NXDOMAIN");
  EXPECT_EQ(Wait(DnsType::kAaaa, "b.alice"), "NXDOMAIN");
  EXPECT_EQ(Wait(DnsType::kAaaa, "c.alice"), "NXDOMAIN");
  EXPECT_EQ(Wait(DnsType::kAaaa, "no_name"), "NXDOMAIN") << "is kept by nobody, and answered";
  EXPECT_GT(asked, 0);
}

TEST_F(ResolverDns, EndsWhileNamesWait) {
  std::atomic<bool> entered = false;
  Open({.fetch = [&](const AdvertSlot&) -> absl::StatusOr<std::string> {
         entered = true;
         std::this_thread::sleep_for(std::chrono::milliseconds(50));
         return absl::NotFoundError("not there");
       }},
       {.threads = 1});
  for (const char* name : {"a.alice", "b.alice", "c.alice"}) Ask(DnsType::kAaaa, name);
  while (!entered) std::this_thread::yield();
  source_.reset();
}

/// Fails as a disk does.
class BrokenDirectory final : public Directory {
 public:
  explicit BrokenDirectory(std::atomic<int>* asked = nullptr) : asked_(asked) {}
  std::vector<absl::Status> Put(std::span<const Advert> adverts) override {
    return std::vector<absl::Status>(adverts.size(), absl::DataLossError("the disk"));
  }
  absl::StatusOr<Advert> Get(const AdvertSlot&, std::uint64_t) override {
    if (asked_ != nullptr) ++*asked_;
    return absl::DataLossError("the disk");
  }
  absl::StatusOr<Advert> FindByAddress(const Address&, std::uint64_t) override {
    return absl::DataLossError("the disk");
  }
  std::vector<Equivocation> Equivocations() override { return {}; }
  std::uint64_t Version() override { return 0; }
  DirectoryStats Stats() override { return {}; }

 private:
  std::atomic<int>* const asked_;
};

TEST_F(ResolverDns, AFailureIsNotKeptWhereTheClockIsPutBack) {
  std::atomic<int> asked = 0;
  directory_ = std::make_unique<BrokenDirectory>(&asked);
  Open({}, {.threads = 1});
  EXPECT_EQ(Wait(DnsType::kAaaa, "sensor.alice"), "SERVFAIL");
  const int before = asked;
  EXPECT_EQ(Ask(DnsType::kAaaa, "sensor.alice"), "SERVFAIL");
  EXPECT_EQ(asked, before);
  now_ -= 1'000;
  EXPECT_EQ(Wait(DnsType::kAaaa, "sensor.alice"), "SERVFAIL");
  EXPECT_GT(asked, before);
}

TEST_F(ResolverDns, ADirectoryThatFailsIsNoAnswer) {
  const Address address = AddressOf(sensor_);
  directory_ = std::make_unique<BrokenDirectory>();
  for (const unsigned threads : {0u, 1u}) {
    Open({}, {.threads = threads});
    EXPECT_EQ(Wait(DnsType::kAaaa, "sensor.alice"), "SERVFAIL");
    EXPECT_EQ(Wait(DnsType::kAaaa, "alice"), "SERVFAIL");
    EXPECT_EQ(Wait(DnsType::kAaaa, "bob"), "NXDOMAIN");
    EXPECT_EQ(AskAddress(address), "SERVFAIL");
  }
}

TEST_F(ResolverDns, ManyThreads) {
  for (const unsigned threads : {0u, 2u}) {
    Open({}, {.threads = threads});
    std::vector<std::thread> all;
    for (int i = 0; i < 4; ++i)
      all.emplace_back([&, i] {
        for (int j = 0; j < 200; ++j) {
          Ask(DnsType::kAaaa, j % 2 == 0 ? "sensor.alice" : "n" + std::to_string(j) + ".alice");
          AskAddress(AddressOf(sensor_));
          if (i == 0 && j % 20 == 0)
            Put(VmAdvert(sensor_, host_, threads * 1000 + static_cast<unsigned>(j) + 2));
        }
      });
    for (std::thread& thread : all) thread.join();
    EXPECT_EQ(Wait(DnsType::kAaaa, "sensor.alice").substr(0, 3), "60 ");
  }
}

TEST(ResolverDnsSource, ASuffixThatIsNone) {
  const auto directory = NewMemoryDirectory();
  const auto petnames = Petnames::InMemory();
  const auto resolver = Resolver::Create(directory.get(), &petnames);
  EXPECT_TRUE(absl::IsInvalidArgument(
      ResolverDnsSource::Create(resolver.get(), directory.get(), &petnames, {.suffix = "a..b"})
          .status()));
}

}  // namespace
}  // namespace waxvm
