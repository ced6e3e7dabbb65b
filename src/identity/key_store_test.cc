// SPDX-License-Identifier: Apache-2.0
#include "waxvm/key_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_format.h"
#include "src/identity/temp_folder_for_test.h"

namespace waxvm {
namespace {

using identity::TempFolder;
using testing::ElementsAre;
using testing::HasSubstr;

mode_t ModeOf(const std::string& path) {
  struct stat status = {};
  return lstat(path.c_str(), &status) == 0 ? status.st_mode & 07777 : 0;
}

TEST(KeyStore, KeepsKeys) {
  const TempFolder temp;
  auto store = KeyStore::Open(temp / "keys");
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_EQ(ModeOf(temp / "keys"), 0700u);
  const auto key = SigningKey::Generate();
  const auto exchange = ExchangeKey::Generate();
  const mode_t before = umask(0);
  ASSERT_TRUE(store->Save("node", *key).ok());
  umask(0277);
  ASSERT_TRUE(store->Save("tunnel", *exchange).ok());
  umask(before);
  EXPECT_EQ(ModeOf(store->PathOf("node")), 0600u) << "whatever the umask";
  EXPECT_EQ(ModeOf(store->PathOf("tunnel")), 0600u);
  const auto again = KeyStore::Open(temp / "keys/");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->Load("node")->public_key(), key->public_key());
  EXPECT_EQ(again->LoadExchange("tunnel")->public_key(), exchange->public_key());
  EXPECT_EQ(LoadKeyFile(again->PathOf("node"))->public_key(), key->public_key());
  EXPECT_THAT(*again->List(), ElementsAre("node", "tunnel"));
  EXPECT_TRUE(absl::IsInvalidArgument(again->Load("tunnel").status()));
  EXPECT_TRUE(absl::IsNotFound(again->Load("other").status()));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(temp / "keys"), {}), 2)
      << "no draft is left";
}

TEST(KeyStore, NeverReplacesAKey) {
  const TempFolder temp;
  auto store = *KeyStore::Open(temp / "keys");
  const auto key = SigningKey::Generate();
  ASSERT_TRUE(store.Save("a", *key).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(store.Save("a", *SigningKey::Generate())));
  EXPECT_EQ(store.Load("a")->public_key(), key->public_key());
  EXPECT_EQ(store.LoadOrCreate("a")->public_key(), key->public_key());
  ASSERT_TRUE(store.Remove("a").ok());
  EXPECT_TRUE(absl::IsNotFound(store.Remove("a")));
  EXPECT_NE(store.LoadOrCreate("a")->public_key(), key->public_key());
}

TEST(KeyStore, AllWhoCreateAtOnceGetOneKey) {
  const TempFolder temp;
  auto store = *KeyStore::Open(temp / "keys");
  std::vector<PublicKey> keys(8);
  {
    std::vector<std::jthread> threads;
    for (auto& key : keys)
      threads.emplace_back([&] { key = store.LoadOrCreate("shared")->public_key(); });
  }
  EXPECT_EQ(std::set<PublicKey>(keys.begin(), keys.end()).size(), 1u);
}

TEST(KeyStore, NamesAreNoPaths) {
  const TempFolder temp;
  auto store = *KeyStore::Open(temp / "keys");
  const auto key = SigningKey::Generate();
  for (const std::string& name :
       {std::string(), std::string("../x"), std::string("a/b"), std::string(".hidden"),
        std::string("a\0b", 3), std::string(65, 'a'), std::string("\xc3\xa4")}) {
    EXPECT_TRUE(absl::IsInvalidArgument(store.Save(name, *key))) << name;
    EXPECT_TRUE(absl::IsInvalidArgument(store.Load(name).status())) << name;
    EXPECT_TRUE(absl::IsInvalidArgument(store.Remove(name))) << name;
  }
}

TEST(KeyStore, LooserRightsAreRefused) {
  const TempFolder temp;
  auto store = *KeyStore::Open(temp / "keys");
  ASSERT_TRUE(store.LoadOrCreate("a").ok());
  const std::string path = store.PathOf("a");
  for (const mode_t mode : {0640, 0604, 0660, 0601, 0610}) {
    ASSERT_EQ(chmod(path.c_str(), mode), 0);
    const auto key = store.Load("a");
    EXPECT_TRUE(absl::IsPermissionDenied(key.status())) << key.status();
    EXPECT_THAT(key.status().message(), HasSubstr(absl::StrFormat("%04o", mode)));
    EXPECT_FALSE(store.LoadOrCreate("a").ok()) << "it must not make another one";
  }
  ASSERT_EQ(chmod(path.c_str(), 0400), 0);
  EXPECT_TRUE(store.Load("a").ok());
  ASSERT_EQ(chmod((temp / "keys").c_str(), 0750), 0);
  EXPECT_TRUE(absl::IsPermissionDenied(KeyStore::Open(temp / "keys").status()));
}

TEST(KeyStore, LinksAndSpecialFilesAreRefused) {
  const TempFolder temp;
  auto store = *KeyStore::Open(temp / "keys");
  ASSERT_TRUE(store.LoadOrCreate("a").ok());
  ASSERT_EQ(symlink("a.pem", store.PathOf("symbolic").c_str()), 0);
  EXPECT_TRUE(absl::IsPermissionDenied(store.Load("symbolic").status()));
  ASSERT_EQ(link(store.PathOf("a").c_str(), store.PathOf("hard").c_str()), 0);
  EXPECT_TRUE(absl::IsPermissionDenied(store.Load("hard").status()));
  ASSERT_EQ(mkfifo(store.PathOf("fifo").c_str(), 0600), 0);
  EXPECT_TRUE(absl::IsInvalidArgument(store.Load("fifo").status()));
  ASSERT_EQ(mkdir(store.PathOf("folder").c_str(), 0700), 0);
  EXPECT_TRUE(absl::IsInvalidArgument(store.Load("folder").status()));
  ASSERT_EQ(symlink("keys", (temp / "link").c_str()), 0);
  EXPECT_TRUE(absl::IsInvalidArgument(KeyStore::Open(temp / "link").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(KeyStore::Open(temp / "link/").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(KeyStore::Open(store.PathOf("a")).status()));
  EXPECT_TRUE(absl::IsNotFound(KeyStore::Open(temp / "no/keys").status()));
}

TEST(KeyStore, OtherOwnersAreRefused) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to give a file away";
  const TempFolder temp;
  auto store = *KeyStore::Open(temp / "keys");
  ASSERT_TRUE(store.LoadOrCreate("a").ok());
  ASSERT_EQ(chown(store.PathOf("a").c_str(), 65534, 0), 0);
  EXPECT_TRUE(absl::IsPermissionDenied(store.Load("a").status()));
  ASSERT_EQ(chown((temp / "keys").c_str(), 65534, 0), 0);
  EXPECT_TRUE(absl::IsPermissionDenied(KeyStore::Open(temp / "keys").status()));
}

TEST(KeyStore, DamagedFilesAreRefused) {
  const TempFolder temp;
  auto store = *KeyStore::Open(temp / "keys");
  for (const std::string& contents : {std::string(), std::string("x"), std::string(1 << 20, 'x')}) {
    std::ofstream(store.PathOf("bad")) << contents;
    ASSERT_EQ(chmod(store.PathOf("bad").c_str(), 0600), 0);
    EXPECT_TRUE(absl::IsInvalidArgument(store.Load("bad").status())) << contents.size();
  }
}

}  // namespace
}  // namespace waxvm
