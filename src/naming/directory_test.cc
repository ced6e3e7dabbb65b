// SPDX-License-Identifier: Apache-2.0
// The same of every store; what only the one on disk can do is at the end.
#include "waxvm/directory.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/escaping.h"
#include "src/identity/temp_folder_for_test.h"
#include "src/naming/advert_codec.h"
#include "src/naming/advert_for_test.h"

namespace waxvm {
namespace {

using identity::TempFolder;
using naming::HostAdvert;
using naming::KeyOf;
using naming::kTestTime;
using naming::NameAdvert;
using naming::RevocationAdvert;
using naming::VmAdvert;

enum class Kind { kMemory, kDisk };

class Stores : public testing::TestWithParam<Kind> {
 protected:
  std::unique_ptr<Directory> New(const DirectoryOptions& options = {}) {
    if (GetParam() == Kind::kMemory) return NewMemoryDirectory(options);
    auto opened = OpenDirectory(temp_ / ("directory-" + std::to_string(++opened_)), options);
    EXPECT_TRUE(opened.ok()) << opened.status();
    return opened.ok() ? *std::move(opened) : NewMemoryDirectory();
  }
  TempFolder temp_;
  int opened_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Directory, Stores, testing::Values(Kind::kMemory, Kind::kDisk),
                         [](const auto& test) {
                           return test.param == Kind::kMemory ? "Memory" : "Disk";
                         });

absl::Status PutOne(Directory& directory, const Advert& advert) {
  return directory.Put(std::span(&advert, 1)).front();
}

TEST_P(Stores, TheNewestOfEachSlot) {
  const auto directory = New();
  const SigningKey key = KeyOf(1);
  const PublicKey target = KeyOf(3).public_key();
  const Advert first = NameAdvert(key, "a", target, 5);
  const Advert other = NameAdvert(key, "b", target, 1);
  EXPECT_TRUE(absl::IsNotFound(directory->Get(first.slot(), kTestTime).status()));
  EXPECT_TRUE(PutOne(*directory, first).ok());
  EXPECT_TRUE(PutOne(*directory, other).ok()) << "another label is another slot";
  EXPECT_EQ(directory->Get(first.slot(), kTestTime)->bytes(), first.bytes());
  EXPECT_EQ(directory->Get(other.slot(), kTestTime)->fields(), other.fields());
  const Advert newer = NameAdvert(key, "a", key.public_key(), 6);
  EXPECT_TRUE(PutOne(*directory, newer).ok());
  EXPECT_EQ(directory->Get(first.slot(), kTestTime)->bytes(), newer.bytes());
  EXPECT_EQ(directory->Stats().adverts, 2u);
  EXPECT_EQ(directory->Stats().authors, 1u);
}

TEST_P(Stores, ReplaysAreRefused) {
  const auto directory = New();
  const SigningKey key = KeyOf(1);
  const Advert old = NameAdvert(key, "a", key.public_key(), 5);
  const Advert newer = NameAdvert(key, "a", key.public_key(), 6, kTestTime, 10, 5);
  ASSERT_TRUE(PutOne(*directory, old).ok());
  EXPECT_TRUE(PutOne(*directory, old).ok()) << "the same once more is no replay";
  ASSERT_TRUE(PutOne(*directory, newer).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(PutOne(*directory, old)));
  // The newer one dies first, and is remembered all the same.
  EXPECT_TRUE(absl::IsDeadlineExceeded(directory->Get(old.slot(), kTestTime + 10).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(PutOne(*directory, old)));
  EXPECT_TRUE(absl::IsDeadlineExceeded(directory->Get(old.slot(), kTestTime + 10).status()));
}

TEST_P(Stores, EquivocationIsReportedAndQuarantined) {
  const auto directory = New();
  const SigningKey key = KeyOf(1);
  const Advert one = NameAdvert(key, "a", KeyOf(2).public_key(), 5);
  const Advert two = NameAdvert(key, "a", KeyOf(3).public_key(), 5);
  ASSERT_TRUE(PutOne(*directory, one).ok());
  EXPECT_TRUE(absl::IsAborted(PutOne(*directory, two)));
  EXPECT_TRUE(absl::IsAborted(directory->Get(one.slot(), kTestTime).status()));
  EXPECT_TRUE(absl::IsAborted(PutOne(*directory, one))) << "neither of them counts any more";
  EXPECT_TRUE(absl::IsAborted(PutOne(*directory, two)));
  const auto reports = directory->Equivocations();
  ASSERT_EQ(reports.size(), 1u) << "one report, however often they are sent";
  EXPECT_EQ(reports[0].slot, one.slot());
  EXPECT_EQ(reports[0].sequence, 5u);
  EXPECT_EQ(reports[0].first, one.hash());
  EXPECT_EQ(reports[0].second, two.hash());
  EXPECT_TRUE(
      absl::IsFailedPrecondition(PutOne(*directory, NameAdvert(key, "a", key.public_key(), 4))));
  // A higher sequence ends it.
  const Advert three = NameAdvert(key, "a", key.public_key(), 6);
  EXPECT_TRUE(PutOne(*directory, three).ok());
  EXPECT_EQ(directory->Get(one.slot(), kTestTime)->bytes(), three.bytes());
  EXPECT_EQ(directory->Equivocations().size(), 1u);
}

TEST_P(Stores, ARevokedKeyIsSilent) {
  const auto directory = New();
  const SigningKey key = KeyOf(1);
  const SigningKey other = KeyOf(2);
  const Advert advert = NameAdvert(key, "a", key.public_key(), 1);
  const Advert theirs = NameAdvert(other, "a", key.public_key(), 1);
  ASSERT_TRUE(PutOne(*directory, advert).ok());
  ASSERT_TRUE(PutOne(*directory, theirs).ok());
  const Advert revocation = RevocationAdvert(key);
  ASSERT_TRUE(PutOne(*directory, revocation).ok());
  EXPECT_TRUE(absl::IsPermissionDenied(directory->Get(advert.slot(), kTestTime).status()));
  EXPECT_TRUE(absl::IsPermissionDenied(PutOne(*directory, advert)));
  EXPECT_TRUE(absl::IsPermissionDenied(
      PutOne(*directory, NameAdvert(key, "new", key.public_key(), 1'000'000))));
  EXPECT_EQ(directory->Get(revocation.slot(), kTestTime)->bytes(), revocation.bytes());
  EXPECT_TRUE(PutOne(*directory, revocation).ok());
  EXPECT_TRUE(directory->Get(theirs.slot(), kTestTime).ok());
  EXPECT_EQ(directory->Stats().adverts, 2u) << "what it said before takes no room";
}

Address AddressOf(const Advert& advert) {
  const auto* vm = advert.As<VmBody>();
  return vm != nullptr ? vm->claim.address : advert.As<HostBody>()->claim.address;
}

TEST_P(Stores, FoundByAddress) {
  const auto directory = New();
  const SigningKey vm = KeyOf(1), host = KeyOf(2);
  const Advert of_vm = VmAdvert(vm, host);
  const Advert of_host = HostAdvert(host);
  const Address address = AddressOf(of_vm);
  EXPECT_TRUE(absl::IsNotFound(directory->FindByAddress(address, kTestTime).status()));
  ASSERT_TRUE(PutOne(*directory, of_vm).ok());
  ASSERT_TRUE(PutOne(*directory, of_host).ok());
  // Whatever bytes a name has where others have their address.
  ASSERT_TRUE(PutOne(*directory, NameAdvert(host, "a", vm.public_key(), 1)).ok());
  EXPECT_EQ(directory->FindByAddress(address, kTestTime)->bytes(), of_vm.bytes());
  EXPECT_EQ(directory->FindByAddress(AddressOf(of_host), kTestTime)->bytes(), of_host.bytes());
  EXPECT_TRUE(absl::IsNotFound(directory->FindByAddress(Address(), kTestTime).status()));
  EXPECT_TRUE(
      absl::IsDeadlineExceeded(directory->FindByAddress(address, kTestTime + 1000).status()));
  // Another address in a newer advert of the same slot.
  const auto moved = cga::Generate(vm.public_key(), {.sec_code = cga::kSha256, .modifier = {9}});
  const Advert newer = *Advert::Make(
      {.sequence = 2,
       .created = kTestTime,
       .expires = kTestTime + 1000,
       .ttl = 60,
       .body =
           VmBody{.claim = {.address = moved->address, .modifier = moved->parameters.modifier}}},
      vm, &host);
  ASSERT_TRUE(PutOne(*directory, newer).ok());
  EXPECT_TRUE(absl::IsNotFound(directory->FindByAddress(address, kTestTime).status()));
  EXPECT_EQ(directory->FindByAddress(moved->address, kTestTime)->bytes(), newer.bytes());
  // One that is a host as well, under the same address.
  ASSERT_TRUE(PutOne(*directory, VmAdvert(host, host)).ok());
  EXPECT_EQ(directory->FindByAddress(AddressOf(of_host), kTestTime)->fields().type(),
            AdvertType::kVm);
  ASSERT_TRUE(PutOne(*directory, VmAdvert(vm, host, 3, 1)).ok());
  EXPECT_TRUE(absl::IsAborted(PutOne(*directory, VmAdvert(vm, host, 3, 2))));
  EXPECT_TRUE(absl::IsAborted(directory->FindByAddress(address, kTestTime).status()));
  ASSERT_TRUE(PutOne(*directory, RevocationAdvert(vm)).ok());
  EXPECT_FALSE(directory->FindByAddress(address, kTestTime).ok());
  EXPECT_FALSE(directory->FindByAddress(moved->address, kTestTime).ok());
}

TEST_P(Stores, WhatIsEvictedIsNotFoundByAddress) {
  const auto directory = New({.max_adverts = 10});
  const SigningKey host = KeyOf(1000);
  int found = 0;
  std::vector<Address> addresses;
  for (unsigned i = 0; i < 50; ++i) {
    const Advert advert = VmAdvert(KeyOf(i), host);
    addresses.push_back(AddressOf(advert));
    ASSERT_TRUE(PutOne(*directory, advert).ok());
  }
  for (const Address& address : addresses) {
    const auto advert = directory->FindByAddress(address, kTestTime);
    EXPECT_TRUE(advert.ok() || absl::IsNotFound(advert.status())) << advert.status();
    found += advert.ok();
  }
  EXPECT_EQ(found, 10);
}

TEST_P(Stores, ManyInOneWrite) {
  const auto directory = New();
  const SigningKey key = KeyOf(1);
  const SigningKey dead = KeyOf(2);
  const std::vector<Advert> adverts = {NameAdvert(key, "a", key.public_key(), 2),
                                       NameAdvert(key, "a", key.public_key(), 1),
                                       NameAdvert(key, "b", key.public_key(), 1),
                                       NameAdvert(key, "b", dead.public_key(), 1),
                                       RevocationAdvert(dead),
                                       NameAdvert(dead, "c", key.public_key(), 1)};
  const auto results = directory->Put(adverts);
  ASSERT_EQ(results.size(), adverts.size());
  EXPECT_TRUE(results[0].ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(results[1]));
  EXPECT_TRUE(results[2].ok());
  EXPECT_TRUE(absl::IsAborted(results[3]));
  EXPECT_TRUE(results[4].ok());
  EXPECT_TRUE(absl::IsPermissionDenied(results[5]));
  EXPECT_TRUE(directory->Put({}).empty());
}

TEST_P(Stores, VersionChangesWithTheContents) {
  const auto directory = New();
  const SigningKey key = KeyOf(1);
  const Advert advert = NameAdvert(key, "a", key.public_key(), 1);
  const std::uint64_t empty = directory->Version();
  EXPECT_EQ(directory->Version(), empty);
  ASSERT_TRUE(PutOne(*directory, advert).ok());
  const std::uint64_t one = directory->Version();
  EXPECT_NE(one, empty);
  ASSERT_TRUE(PutOne(*directory, advert).ok());
  EXPECT_EQ(directory->Version(), one) << "nothing has changed";
}

/// A flooder's label of a number.
std::string LabelOf(int i) { return "x" + std::to_string(i); }

/// The same advert with another label of six digits, without a signature that holds.
Advert Relabelled(const Advert& advert, int number) {
  std::string bytes = advert.bytes();
  const std::string digits = std::to_string(1'000'000 + number).substr(1);
  bytes.replace(naming::kBodyAt + 1, digits.size(), digits);
  return *Advert::FromTrusted(bytes);
}

TEST_P(Stores, AFloodDisplacesNobodyButItself) {
  constexpr std::size_t kMax = 1'000;
  constexpr int kFlood = 100'000;
  const auto directory = New({.max_adverts = kMax});
  std::vector<Advert> honest;
  for (unsigned author = 1; author <= 40; ++author)
    for (int label = 0; label < 5; ++label)
      honest.push_back(NameAdvert(KeyOf(author), LabelOf(label), KeyOf(1).public_key(), 1));
  for (const absl::Status& status : directory->Put(honest)) ASSERT_TRUE(status.ok()) << status;
  // One advert is signed, and carried under many labels: what a store does with it does not depend
  // on the signature, which was checked before.
  const SigningKey flooder = KeyOf(99);
  const Advert last =
      Relabelled(NameAdvert(flooder, "000000", flooder.public_key(), 1), kFlood - 1);
  std::vector<Advert> flood;
  for (int i = 0; i < kFlood; ++i) {
    flood.push_back(Relabelled(last, i));
    if (flood.size() < 500) continue;
    directory->Put(flood);
    flood.clear();
    ASSERT_LE(directory->Stats().adverts, kMax);
  }
  for (const Advert& advert : honest)
    EXPECT_TRUE(directory->Get(advert.slot(), kTestTime).ok()) << "displaced by the flood";
  EXPECT_TRUE(directory->Get(last.slot(), kTestTime).ok())
      << "of the flooder's the newest are kept";
  EXPECT_GE(directory->Stats().evicted, kFlood - kMax);
  // Somebody new finds room, at the flooder's expense.
  const Advert late = NameAdvert(KeyOf(200), "late", flooder.public_key(), 1);
  ASSERT_TRUE(PutOne(*directory, late).ok());
  EXPECT_TRUE(directory->Get(late.slot(), kTestTime).ok());
}

TEST_P(Stores, ManyKeysDisplaceThoseThatNobodyAskedFor) {
  constexpr unsigned kMax = 100;
  const auto directory = New({.max_adverts = kMax});
  const SigningKey known = KeyOf(1);
  const Advert wanted = NameAdvert(known, "a", known.public_key(), 1);
  const Advert revocation = RevocationAdvert(KeyOf(2));
  ASSERT_TRUE(PutOne(*directory, wanted).ok());
  ASSERT_TRUE(PutOne(*directory, revocation).ok());
  for (unsigned i = 0; i < 5 * kMax; ++i) {
    ASSERT_TRUE(PutOne(*directory, NameAdvert(KeyOf(1000 + i), "a", known.public_key(), 1)).ok());
    ASSERT_LE(directory->Stats().adverts, kMax);
    if (i % 20 != 0) continue;
    ASSERT_TRUE(directory->Get(wanted.slot(), kTestTime).ok()) << i;
  }
  EXPECT_TRUE(directory->Get(revocation.slot(), kTestTime).ok()) << "a revocation stays";
}

TEST_P(Stores, RevocationsFillNoMoreThanHalf) {
  constexpr unsigned kMax = 60;
  const auto directory = New({.max_adverts = kMax});
  for (unsigned i = 0; i < kMax / 2; ++i)
    ASSERT_TRUE(PutOne(*directory, NameAdvert(KeyOf(i), "a", KeyOf(1).public_key(), 1)).ok());
  for (unsigned i = 0; i < 4 * kMax; ++i)
    ASSERT_TRUE(PutOne(*directory, RevocationAdvert(KeyOf(1000 + i))).ok());
  EXPECT_LE(directory->Stats().adverts, kMax);
  unsigned kept = 0;
  for (unsigned i = 0; i < kMax / 2; ++i)
    kept += directory
                ->Get({.author = KeyOf(i).public_key(), .type = AdvertType::kName, .label = "a"},
                      kTestTime)
                .ok();
  EXPECT_GE(kept, kMax / 2 - 2);
}

TEST_P(Stores, AcceptChecksEverything) {
  const auto directory = New();
  const SigningKey key = KeyOf(1);
  const Advert advert = NameAdvert(key, "a", key.public_key(), 3);
  EXPECT_TRUE(absl::IsInvalidArgument(Accept(*directory, "x", kTestTime).status()));
  std::string forged = advert.bytes();
  forged.back() = static_cast<char>(forged.back() ^ 1);
  EXPECT_TRUE(absl::IsUnauthenticated(Accept(*directory, forged, kTestTime).status()));
  EXPECT_TRUE(absl::IsDeadlineExceeded(Accept(*directory, advert.bytes(), kTestTime * 2).status()));
  EXPECT_EQ(directory->Stats().adverts, 0u) << "nothing of it is kept";
  EXPECT_TRUE(Accept(*directory, advert.bytes(), kTestTime).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(
      Accept(*directory, NameAdvert(key, "a", key.public_key(), 2).bytes(), kTestTime).status()));
}

TEST_P(Stores, ManyThreads) {
  const auto directory = New();
  std::vector<std::jthread> threads;
  for (unsigned t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      const SigningKey key = KeyOf(10 + t);
      for (int i = 0; i < 50; ++i) {
        const Advert advert = NameAdvert(key, LabelOf(i), key.public_key(), 1);
        EXPECT_TRUE(PutOne(*directory, advert).ok());
        EXPECT_TRUE(directory->Get(advert.slot(), kTestTime).ok());
        directory->Version();
      }
    });
  threads.clear();
  EXPECT_EQ(directory->Stats().adverts, 200u);
}

TEST(DiskDirectory, KeepsEverythingWhenItIsClosed) {
  const TempFolder temp;
  const SigningKey key = KeyOf(1);
  const SigningKey dead = KeyOf(2);
  const Advert advert = NameAdvert(key, "a", key.public_key(), 7);
  const Advert rival = NameAdvert(key, "b", key.public_key(), 7);
  {
    auto directory = *OpenDirectory(temp / "d");
    ASSERT_TRUE(PutOne(*directory, advert).ok());
    ASSERT_TRUE(PutOne(*directory, rival).ok());
    PutOne(*directory, NameAdvert(key, "b", dead.public_key(), 7)).IgnoreError();
    ASSERT_TRUE(PutOne(*directory, RevocationAdvert(dead)).ok());
  }
  struct stat status = {};
  ASSERT_EQ(stat((temp / "d").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  auto directory = *OpenDirectory(temp / "d");
  EXPECT_EQ(directory->Get(advert.slot(), kTestTime)->bytes(), advert.bytes());
  EXPECT_TRUE(absl::IsAborted(directory->Get(rival.slot(), kTestTime).status()));
  EXPECT_EQ(directory->Equivocations().size(), 1u);
  EXPECT_TRUE(
      absl::IsPermissionDenied(PutOne(*directory, NameAdvert(dead, "a", key.public_key(), 1))));
  EXPECT_TRUE(
      absl::IsFailedPrecondition(PutOne(*directory, NameAdvert(key, "a", key.public_key(), 6))));
}

TEST(DiskDirectory, TwoSeeWhatTheOtherWrites) {
  const TempFolder temp;
  auto one = *OpenDirectory(temp / "d");
  auto two = *OpenDirectory(temp / "d");
  const SigningKey key = KeyOf(1);
  const Advert advert = NameAdvert(key, "a", key.public_key(), 1);
  const std::uint64_t before = two->Version();
  ASSERT_TRUE(PutOne(*one, advert).ok());
  EXPECT_NE(two->Version(), before);
  EXPECT_TRUE(two->Get(advert.slot(), kTestTime).ok());
  ASSERT_TRUE(PutOne(*two, RevocationAdvert(key)).ok());
  EXPECT_TRUE(absl::IsPermissionDenied(one->Get(advert.slot(), kTestTime).status()));
  EXPECT_TRUE(absl::IsPermissionDenied(PutOne(*one, advert)));
  EXPECT_EQ(one->Stats().adverts, 1u);
}

/// Runs SQL on a file past the directory.
void Execute(const std::string& path, const std::string& sql) {
  sqlite3* file = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &file), SQLITE_OK);
  EXPECT_EQ(sqlite3_exec(file, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
      << sqlite3_errmsg(file);
  sqlite3_close(file);
}

TEST(DiskDirectory, FilesOfOtherVersions) {
  const TempFolder temp;
  const std::string path = temp / "d";
  const SigningKey host = KeyOf(9);
  const Advert advert = VmAdvert(KeyOf(1), host);
  ASSERT_TRUE(PutOne(**OpenDirectory(path), advert).ok());
  // What version 1 lacks.
  Execute(path, "DROP INDEX by_address; PRAGMA user_version=1");
  for (int round = 0; round < 2; ++round) {
    const auto directory = OpenDirectory(path);
    ASSERT_TRUE(directory.ok()) << directory.status();
    EXPECT_EQ((*directory)->FindByAddress(AddressOf(advert), kTestTime)->bytes(), advert.bytes());
    EXPECT_TRUE((*directory)->Get(advert.slot(), kTestTime).ok());
  }
  // Somebody who knows version 1 still has it open.
  const Advert other = VmAdvert(KeyOf(2), host);
  const std::string slot = other.fields().author.ToHex() + "01";
  const std::string bytes = absl::BytesToHexString(other.bytes());
  Execute(path,
          "INSERT INTO adverts(slot, bytes, stored) VALUES(x'" + slot + "', x'" + bytes + "', 7)");
  EXPECT_TRUE((*OpenDirectory(path))->FindByAddress(AddressOf(other), kTestTime).ok());
  for (const char* version : {"3", "0", "-1"}) {
    Execute(path, std::string("PRAGMA user_version=") + version);
    EXPECT_TRUE(absl::IsFailedPrecondition(OpenDirectory(path).status())) << version;
  }
}

// Attack: a file that somebody else made, which does what they like when it is written to.
TEST(DiskDirectory, TriggersOfAFileDoNotRun) {
  const TempFolder temp;
  const std::string path = temp / "d";
  const SigningKey host = KeyOf(9);
  const Advert first = VmAdvert(KeyOf(1), host);
  ASSERT_TRUE(PutOne(**OpenDirectory(path), first).ok());
  Execute(path, "CREATE TRIGGER t AFTER INSERT ON adverts BEGIN DELETE FROM adverts; END");
  const Advert second = VmAdvert(KeyOf(2), host);
  const auto directory = OpenDirectory(path);
  ASSERT_TRUE(directory.ok()) << directory.status();
  EXPECT_TRUE(PutOne(**directory, second).ok());
  EXPECT_EQ((*directory)->Get(first.slot(), kTestTime).status(), absl::OkStatus());
  EXPECT_EQ((*directory)->Get(second.slot(), kTestTime).status(), absl::OkStatus());
}

TEST(DiskDirectory, OtherFilesAreRefusedAndLeftAsTheyAre) {
  const TempFolder temp;
  std::ofstream(temp / "text") << std::string(10'000, 'x');
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenDirectory(temp / "text").status()));
  sqlite3* other = nullptr;
  ASSERT_EQ(sqlite3_open((temp / "other").c_str(), &other), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(other, "CREATE TABLE t(x)", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(other);
  std::ifstream before_file(temp / "other", std::ios::binary);
  const std::string before{std::istreambuf_iterator<char>(before_file), {}};
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenDirectory(temp / "other").status()));
  std::ifstream after_file(temp / "other", std::ios::binary);
  const std::string after{std::istreambuf_iterator<char>(after_file), {}};
  EXPECT_EQ(after, before);
  ASSERT_EQ(symlink("d", (temp / "link").c_str()), 0);
  EXPECT_FALSE(OpenDirectory(temp / "link").ok());
  EXPECT_FALSE(OpenDirectory(temp / "no/such").ok());
  EXPECT_FALSE(OpenDirectory(temp.path()).ok());
}

TEST(DiskDirectory, DamageIsAnErrorNotACrash) {
  const TempFolder temp;
  const SigningKey key = KeyOf(1);
  std::vector<Advert> adverts;
  for (int i = 0; i < 100; ++i) adverts.push_back(NameAdvert(key, LabelOf(i), key.public_key(), 1));
  (*OpenDirectory(temp / "good"))->Put(adverts);
  std::ifstream file(temp / "good", std::ios::binary);
  const std::string good{std::istreambuf_iterator<char>(file), {}};
  ASSERT_GT(good.size(), 20'000u);
  int differs = 0;
  for (std::size_t at = 100; at < good.size(); at += 997) {
    std::string bad = good;
    std::fill_n(bad.begin() + static_cast<std::ptrdiff_t>(at),
                std::min(std::size_t{64}, bad.size() - at), '\xa5');
    std::ofstream(temp / "bad", std::ios::binary | std::ios::trunc) << bad;
    (void)unlink((temp / "bad-wal").c_str());
    (void)unlink((temp / "bad-shm").c_str());
    auto directory = OpenDirectory(temp / "bad");
    if (!directory.ok()) {
      ++differs;
      continue;
    }
    for (const Advert& advert : adverts) {
      const auto got = (*directory)->Get(advert.slot(), kTestTime);
      differs += !got.ok();
    }
    (void)(*directory)->Put(adverts);
  }
  EXPECT_GT(differs, 0);
}

/// Writes batches and says how many are in, until it is killed.
[[noreturn]] void WriteUntilKilled(const std::string& path, int acknowledge, int round) {
  auto directory = OpenDirectory(path);
  if (!directory.ok()) _exit(3);
  const SigningKey key = KeyOf(static_cast<unsigned>(1000 + round));
  for (int i = 0;; i += 4) {
    std::vector<Advert> adverts;
    for (int j = i; j < i + 4; ++j)
      adverts.push_back(NameAdvert(key, LabelOf(j), key.public_key(), 1));
    for (const absl::Status& status : (*directory)->Put(adverts))
      if (!status.ok()) _exit(4);
    const int done = i + 4;
    if (write(acknowledge, &done, sizeof done) != sizeof done) _exit(5);
  }
}

TEST(DiskDirectory, HoldsWhatItAcknowledgedWhenItIsKilled) {
  const TempFolder temp;
  const std::string path = temp / "d";
  std::size_t expected = 0;
  for (int round = 0; round < 25; ++round) {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) WriteUntilKilled(path, ends[1], round);
    close(ends[1]);
    // From its first write on, at another moment each round.
    int done = 0;
    ASSERT_EQ(read(ends[0], &done, sizeof done), static_cast<ssize_t>(sizeof done));
    std::this_thread::sleep_for(std::chrono::microseconds(700 * round + 137));
    kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << WEXITSTATUS(status);
    for (int next; read(ends[0], &next, sizeof next) == static_cast<ssize_t>(sizeof next);)
      done = next;
    close(ends[0]);
    auto directory = OpenDirectory(path);
    ASSERT_TRUE(directory.ok()) << directory.status();
    const PublicKey author = KeyOf(static_cast<unsigned>(1000 + round)).public_key();
    int found = 0;
    while (
        (*directory)
            ->Get({.author = author, .type = AdvertType::kName, .label = LabelOf(found)}, kTestTime)
            .ok())
      ++found;
    EXPECT_GE(found, done) << "acknowledged, and lost";
    EXPECT_EQ(found % 4, 0) << "half of a write";
    expected += static_cast<std::size_t>(found);
    EXPECT_EQ((*directory)->Stats().adverts, expected);
  }
  EXPECT_GT(expected, 200u);
}

}  // namespace
}  // namespace waxvm
