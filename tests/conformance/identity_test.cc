// SPDX-License-Identifier: Apache-2.0
// Who a real program is, in runs, clones, states that are put back, and pools.
#include "waxvm/identity.h"

#include <algorithm>
#include <ctime>
#include <optional>
#include <set>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_split.h"
#include "conformance.h"
#include "waxvm/pool.h"
#include "waxvm/session.h"

namespace waxvm::conformance {
namespace {

// Offsets in what waxvm.identity answers: docs/formats/identity.md.
constexpr std::size_t kAddressAt = 16;
constexpr std::size_t kKeyAt = 32;
constexpr std::size_t kAdvertAt = 96;

struct Self {
  Address address;
  PublicKey key;
  std::string advert;
};

Self Parse(std::string_view bytes) {
  if (bytes.size() < kAdvertAt) return {};
  return {.address = *Address::FromBytes(bytes.substr(kAddressAt, kAddressBytes)),
          .key = *PublicKey::FromBytes(bytes.substr(kKeyAt, kKeyBytes)),
          .advert = std::string(bytes.substr(kAdvertAt))};
}

class Identities : public Conformance {
 protected:
  RunOptions With(std::vector<std::string> arguments = {}) const {
    RunOptions options;
    options.arguments = std::move(arguments);
    options.identity = IdentityOptions{.host = host_, .directory = directory_};
    return options;
  }
  /// The status and the bytes of the one answer that the guest probe prints.
  static std::pair<std::string, std::string> Answer(const std::string& output) {
    const std::vector<std::string> words = absl::StrSplit(output, absl::ByAnyChar(" \n"));
    if (words.size() < 2) return {output, ""};
    return {words[0], absl::HexStringToBytes(words[1])};
  }
  absl::Status FindAdvert(const PublicKey& key) const {
    return directory_
        ->Get({.author = key, .type = AdvertType::kVm, .label = ""},
              static_cast<std::uint64_t>(std::time(nullptr)))
        .status();
  }

  const std::shared_ptr<SigningKey> host_ = std::make_shared<SigningKey>(*SigningKey::Generate());
  const std::shared_ptr<Directory> directory_ = NewMemoryDirectory();
};

INSTANTIATE_TEST_SUITE_P(EveryProvider, Identities, testing::ValuesIn(Subjects()),
                         [](const auto& test) { return test.param.name; });

TEST_P(Identities, ARunIsSomebody) {
  std::set<PublicKey> keys;
  for (int i = 0; i < 3; ++i) {
    const RunResult result = Run("probe", With({"hex", "waxvm.identity"}));
    const auto [status, bytes] = Answer(result.output);
    ASSERT_EQ(status, "0") << result.output;
    const Self self = Parse(bytes);
    ASSERT_TRUE(result.report.identity);
    EXPECT_EQ(self.address, result.report.identity->address);
    EXPECT_EQ(self.key, result.report.identity->public_key);
    const auto advert = Advert::Check(self.advert, static_cast<std::uint64_t>(std::time(nullptr)));
    ASSERT_TRUE(advert.ok()) << advert.status();
    EXPECT_EQ(advert->As<VmBody>()->claim.address, self.address);
    EXPECT_EQ(advert->As<VmBody>()->host, host_->public_key());
    keys.insert(self.key);
  }
  EXPECT_EQ(keys.size(), 3u);
}

TEST_P(Identities, NobodyWithoutIt) {
  RunOptions options = WithArguments({"hex", "waxvm.identity"});
  options.grants = {Function("other", [](const HostCallContext&, std::string_view) {
    return absl::StatusOr<std::string>("");
  })};
  const RunResult result = Run("probe", options);
  EXPECT_EQ(Answer(result.output).first, "7");
  EXPECT_FALSE(result.report.identity);
  EXPECT_EQ(Denials(result.report, Resource::kHostFunction, "waxvm.identity"), 1u);
}

TEST_P(Identities, SignsOnlyWhereThatIsGranted) {
  RunOptions options = With({"hex", "waxvm.identity.sign", "hello"});
  EXPECT_EQ(Answer(Run("probe", options).output).first, "7");
  options.identity->grant_signing = true;
  const RunResult result = Run("probe", options);
  const auto [status, bytes] = Answer(result.output);
  ASSERT_EQ(status, "0") << result.output;
  Signature signature;
  ASSERT_EQ(bytes.size(), signature.bytes.size());
  std::copy(bytes.begin(), bytes.end(), signature.bytes.begin());
  EXPECT_TRUE(VerifyStatement(result.report.identity->public_key, "hello", signature));
  EXPECT_EQ(result.report.identity->statements, 1u);
}

TEST_P(Identities, HasItsPrivateKeyOnlyWhereThatIsGranted) {
  RunOptions options = With({"hex", "waxvm.identity.private_key"});
  const RunResult refused = Run("probe", options);
  EXPECT_EQ(Answer(refused.output).first, "7");
  EXPECT_FALSE(refused.report.identity->private_key_was_read);
  options.identity->grant_private_key = true;
  const RunResult result = Run("probe", options);
  const auto [status, seed] = Answer(result.output);
  ASSERT_EQ(status, "0") << result.output;
  EXPECT_EQ(SigningKey::FromSeed(seed)->public_key(), result.report.identity->public_key);
  EXPECT_TRUE(result.report.identity->private_key_was_read);
}

/// What the guest call_functions is answered.
absl::StatusOr<Self> Ask(Session& session) {
  const auto bytes = session.Call("call_host", "waxvm.identity ");
  if (!bytes.ok()) return bytes.status();
  return Parse(*bytes);
}

TEST_P(Identities, EachCloneAndEachStateIsSomebodyElse) {
  WAXVM_NEEDS_PROGRAM("call_functions");
  RunOptions options = With();
  options.identity->grant_private_key = true;
  const auto session = Session::Start(provider_, *Find("call_functions"), options);
  ASSERT_TRUE(session.ok()) << session.status();
  const auto original = Ask(**session);
  ASSERT_TRUE(original.ok()) << original.status();
  EXPECT_EQ(original->key, (*session)->report().identity->public_key);
  const auto snapshot = (*session)->TakeSnapshot();
  if (absl::IsUnimplemented(snapshot.status()))
    GTEST_SKIP() << info_.name << ": " << snapshot.status();
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  std::set<PublicKey> keys = {original->key};
  for (int i = 0; i < 3; ++i) {
    const auto clone = snapshot->Clone();
    ASSERT_TRUE(clone.ok()) << clone.status();
    for (int state = 0; state < 3; ++state) {
      const auto self = Ask(**clone);
      ASSERT_TRUE(self.ok()) << self.status();
      EXPECT_EQ(self->key, (*clone)->report().identity->public_key);
      EXPECT_TRUE(FindAdvert(self->key).ok());
      keys.insert(self->key);
      const auto seed = (*clone)->Call("call_host", "waxvm.identity.private_key ");
      ASSERT_TRUE(seed.ok()) << seed.status();
      EXPECT_EQ(SigningKey::FromSeed(*seed)->public_key(), self->key);
      EXPECT_TRUE(absl::IsFailedPrecondition((*clone)->TakeSnapshot().status()))
          << "its memory has the key";
      ASSERT_TRUE((*clone)->Reset().ok());
    }
  }
  EXPECT_EQ(keys.size(), 10u);
}

TEST_P(Identities, ASnapshotOfAFileHasNoKey) {
  WAXVM_NEEDS_PROGRAM("call_functions");
  const RunOptions options = With();
  const auto session = Session::Start(provider_, *Find("call_functions"), options);
  ASSERT_TRUE(session.ok()) << session.status();
  const Self original = *Ask(**session);
  const auto snapshot = (*session)->TakeSnapshot();
  if (absl::IsUnimplemented(snapshot.status()))
    GTEST_SKIP() << info_.name << ": " << snapshot.status();
  const TemporaryFolder folder;
  const absl::Status saved = snapshot->Save(folder.Path("snapshot"));
  if (absl::IsUnimplemented(saved)) GTEST_SKIP() << info_.name << ": " << saved;
  ASSERT_TRUE(saved.ok()) << saved;
  std::set<PublicKey> keys = {original.key};
  for (int i = 0; i < 2; ++i) {
    const auto loaded =
        Snapshot::Load(provider_, *Find("call_functions"), options, folder.Path("snapshot"));
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    keys.insert(Ask(**loaded->Clone())->key);
  }
  EXPECT_EQ(keys.size(), 3u);
}

TEST_P(Identities, EachCallAndEachRunOfAPoolIsSomebodyElse) {
  WAXVM_NEEDS_PROGRAM("call_functions");
  const auto start = Snapshot::OfStart(provider_, *Find("probe"), With());
  if (absl::IsUnimplemented(start.status())) GTEST_SKIP() << info_.name << ": " << start.status();
  ASSERT_TRUE(start.ok()) << start.status();
  std::set<PublicKey> keys;
  {
    const auto pool = *Pool::Create(*start);
    for (int i = 0; i < 5; ++i) {
      const auto result = pool->Run({.arguments = {"hex", "waxvm.identity"}});
      ASSERT_TRUE(result.ok()) << result.status();
      const Self self = Parse(Answer(result->output).second);
      EXPECT_EQ(self.key, result->report.identity->public_key);
      keys.insert(self.key);
    }
  }
  EXPECT_EQ(keys.size(), 5u);
  const auto session = Session::Start(provider_, *Find("call_functions"), With());
  ASSERT_TRUE(session.ok()) << session.status();
  const auto pool = *Pool::Create(*(*session)->TakeSnapshot());
  for (int i = 0; i < 5; ++i) {
    const auto bytes = pool->Call("call_host", "waxvm.identity ");
    ASSERT_TRUE(bytes.ok()) << bytes.status();
    keys.insert(Parse(*bytes).key);
  }
  EXPECT_EQ(keys.size(), 10u);
}

}  // namespace
}  // namespace waxvm::conformance
