// SPDX-License-Identifier: Apache-2.0
#include "waxvm/petnames.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "src/identity/temp_folder_for_test.h"
#include "src/naming/advert_for_test.h"

namespace waxvm {
namespace {

using identity::TempFolder;
using naming::KeyOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

TEST(Petnames, SetFindRemove) {
  Petnames names = Petnames::InMemory();
  const PublicKey alice = KeyOf(1).public_key();
  const PublicKey bob = KeyOf(2).public_key();
  const std::uint64_t before = names.Version();
  ASSERT_TRUE(names.Set("Alice", alice).ok());
  EXPECT_NE(names.Version(), before);
  EXPECT_EQ(names.Find("alice"), alice);
  EXPECT_EQ(names.Find("ALICE"), alice);
  EXPECT_EQ(names.Find("bob"), std::nullopt);
  EXPECT_EQ(names.Find(std::string(1 << 20, 'a')), std::nullopt);
  ASSERT_TRUE(names.Set("alice", bob).ok());
  ASSERT_TRUE(names.Set("a", alice).ok());
  EXPECT_THAT(names.List(), ElementsAre(Pair("a", alice), Pair("alice", bob)));
  EXPECT_TRUE(names.Remove("alice").ok());
  EXPECT_TRUE(absl::IsNotFound(names.Remove("alice")));
}

TEST(Petnames, TheNameOfAKey) {
  auto petnames = Petnames::InMemory();
  const PublicKey key = KeyOf(1).public_key();
  EXPECT_FALSE(petnames.NameOf(key));
  ASSERT_TRUE(petnames.Set("zoe", key).ok());
  EXPECT_EQ(petnames.NameOf(key), "zoe");
  ASSERT_TRUE(petnames.Set("amy", key).ok());
  EXPECT_EQ(petnames.NameOf(key), "amy");
  ASSERT_TRUE(petnames.Set("amy", KeyOf(2).public_key()).ok());
  EXPECT_EQ(petnames.NameOf(key), "zoe");
  ASSERT_TRUE(petnames.Remove("zoe").ok());
  EXPECT_FALSE(petnames.NameOf(key));
}

TEST(Petnames, WhatIsNoName) {
  Petnames names = Petnames::InMemory();
  const PublicKey key = KeyOf(1).public_key();
  for (const std::string& name :
       {std::string(), std::string("a.b"), std::string("-a"), std::string("a-"), std::string("a b"),
        std::string("a\n"), std::string(64, 'a'), std::string("\xc3\xa4"), key.ToBase32(),
        KeyOf(2).public_key().ToBase32()})
    EXPECT_TRUE(absl::IsInvalidArgument(names.Set(name, key))) << name;
  EXPECT_TRUE(names.Set(std::string(63, 'a'), key).ok());
}

TEST(Petnames, AreKeptInAFile) {
  const TempFolder temp;
  const PublicKey alice = KeyOf(1).public_key();
  {
    auto names = *Petnames::Open(temp / "names");
    EXPECT_TRUE(names.List().empty());
    ASSERT_TRUE(names.Set("alice", alice).ok());
  }
  struct stat status = {};
  ASSERT_EQ(stat((temp / "names").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  auto names = *Petnames::Open(temp / "names");
  EXPECT_EQ(names.Find("alice"), alice);
  // Another one writes: seen within a second or so.
  auto other = *Petnames::Open(temp / "names");
  ASSERT_TRUE(other.Set("bob", KeyOf(2).public_key()).ok());
  for (int i = 0; i < 300 && !names.Find("bob"); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_TRUE(names.Find("bob").has_value());
  EXPECT_EQ(names.Find("alice"), alice);
}

TEST(Petnames, TwoWritersLoseNothing) {
  const TempFolder temp;
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      auto names = *Petnames::Open(temp / "names");
      for (int i = 0; i < 10; ++i)
        EXPECT_TRUE(names.Set("n" + std::to_string(10 * t + i), KeyOf(1).public_key()).ok());
    });
  threads.clear();
  EXPECT_EQ(Petnames::Open(temp / "names")->List().size(), 40u);
}

TEST(Petnames, FilesThatAreRefused) {
  const TempFolder temp;
  const std::string path = temp / "names";
  const std::string good = "a " + KeyOf(1).public_key().ToBase32() + "\n";
  const std::pair<std::string, const char*> kBad[] = {{"a\n", "line 1"},
                                                      {good + "b\n", "line 2"},
                                                      {good + good, "line 2"},
                                                      {"\n", "line 1"},
                                                      {"a b c\n", "line 1"},
                                                      {good + "\xff\n", "line 2"},
                                                      {std::string(2'000'000, 'a'), "more than"}};
  for (const auto& [text, why] : kBad) {
    std::ofstream(path, std::ios::trunc) << text;
    ASSERT_EQ(chmod(path.c_str(), 0600), 0);
    const auto names = Petnames::Open(path);
    EXPECT_TRUE(absl::IsDataLoss(names.status())) << names.status();
    EXPECT_THAT(names.status().message(), HasSubstr(why));
  }
  std::ofstream(path, std::ios::trunc) << good;
  EXPECT_TRUE(Petnames::Open(path).ok());
  ASSERT_EQ(chmod(path.c_str(), 0620), 0);
  EXPECT_TRUE(absl::IsPermissionDenied(Petnames::Open(path).status()));
  ASSERT_EQ(symlink("names", (temp / "link").c_str()), 0);
  EXPECT_FALSE(Petnames::Open(temp / "link").ok());
  EXPECT_FALSE(Petnames::Open("").ok());
}

}  // namespace
}  // namespace waxvm
