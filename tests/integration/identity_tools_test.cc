// SPDX-License-Identifier: Apache-2.0
// Keys between this library and the programs that everybody has: openssl and ssh-agent.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "src/identity/temp_folder_for_test.h"
#include "tests/support/process.h"
#include "waxvm/key.h"
#include "waxvm/key_store.h"
#include "waxvm/ssh_agent.h"

namespace waxvm::integration {
namespace {

using identity::TempFolder;
using support::Completed;
using support::ReadFile;
using testing::HasSubstr;

constexpr char kOpenssl[] = "/usr/bin/openssl";
constexpr char kAgent[] = "/usr/bin/ssh-agent";

bool Installed(const char* program) { return access(program, X_OK) == 0; }

Completed RunTool(const std::vector<std::string>& arguments,
                  const std::vector<std::string>& environment = {}) {
  return support::Run(arguments,
                      {.start = {.environment = environment, .working_folder = "", .afresh = false},
                       .input = "",
                       .output_fd = -1,
                       .limit = std::chrono::seconds(30)});
}

std::string WriteTo(const std::string& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

TEST(Openssl, ReadsOurKeys) {
  if (!Installed(kOpenssl)) GTEST_SKIP() << kOpenssl << " is not installed";
  const TempFolder temp;
  auto store = *KeyStore::Open(temp / "keys");
  const auto key = store.LoadOrCreate("node");
  ASSERT_TRUE(key.ok()) << key.status();
  const auto exchange = ExchangeKey::Generate();
  ASSERT_TRUE(store.Save("tunnel", *exchange).ok());
  EXPECT_EQ(RunTool({kOpenssl, "pkey", "-in", store.PathOf("node"), "-pubout"}).output,
            key->public_key().ToPem());
  EXPECT_EQ(RunTool({kOpenssl, "pkey", "-in", store.PathOf("tunnel"), "-pubout"}).output,
            exchange->public_key().ToPem(KeyType::kX25519));
  const std::string der = WriteTo(temp / "key.der", key->ToDer()->view());
  EXPECT_EQ(RunTool({kOpenssl, "pkey", "-inform", "DER", "-in", der, "-pubout"}).output,
            key->public_key().ToPem());
  const std::string pub = WriteTo(temp / "pub.pem", key->public_key().ToPem());
  EXPECT_THAT(RunTool({kOpenssl, "pkey", "-pubin", "-in", pub, "-noout", "-text"}).output,
              HasSubstr("ED25519 Public-Key"));
}

TEST(Openssl, WritesKeysThatWeRead) {
  if (!Installed(kOpenssl)) GTEST_SKIP() << kOpenssl << " is not installed";
  const TempFolder temp;
  for (const char* form : {"PEM", "DER"}) {
    const std::string path = temp / form;
    for (const bool signs : {true, false}) {
      const char* const type = signs ? "ed25519" : "x25519";
      ASSERT_EQ(RunTool({kOpenssl, "genpkey", "-algorithm", type, "-outform", form, "-out", path})
                    .exit_code,
                0);
      const std::string bytes = ReadFile(path);
      const std::string expected =
          RunTool({kOpenssl, "pkey", "-inform", form, "-in", path, "-pubout"}).output;
      const bool pem = form == std::string_view("PEM");
      if (signs) {
        const auto key = pem ? SigningKey::FromPem(bytes) : SigningKey::FromDer(bytes);
        ASSERT_TRUE(key.ok()) << key.status();
        EXPECT_EQ(key->public_key().ToPem(), expected);
        EXPECT_EQ(*PublicKey::FromPem(expected), key->public_key());
      } else {
        const auto key = pem ? ExchangeKey::FromPem(bytes) : ExchangeKey::FromDer(bytes);
        ASSERT_TRUE(key.ok()) << key.status();
        EXPECT_EQ(key->public_key().ToPem(KeyType::kX25519), expected);
      }
    }
  }
}

TEST(Openssl, VerifiesOurSignature) {
  if (!Installed(kOpenssl)) GTEST_SKIP() << kOpenssl << " is not installed";
  const TempFolder temp;
  const auto key = SigningKey::Generate();
  const std::string message = WriteTo(temp / "message", "what was signed");
  const std::string pub = WriteTo(temp / "pub.pem", key->public_key().ToPem());
  const std::string signature = WriteTo(temp / "signature", key->Sign("what was signed")->view());
  EXPECT_EQ(RunTool({kOpenssl, "pkeyutl", "-verify", "-pubin", "-inkey", pub, "-rawin", "-in",
                     message, "-sigfile", signature})
                .exit_code,
            0);
}

/// A real agent on a socket of its own, with one new key.
class SshAgent : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* program : {kAgent, "/usr/bin/ssh-add", "/usr/bin/ssh-keygen"})
      if (!Installed(program)) GTEST_SKIP() << program << " is not installed";
    child_ = support::Start({kAgent, "-D", "-a", socket_}, {}, STDIN_FILENO, STDERR_FILENO,
                            STDERR_FILENO);
    ASSERT_GT(child_, 0);
    for (int i = 0; i < 500 && access(socket_.c_str(), F_OK) != 0; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    ASSERT_EQ(RunTool({"/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test key",
                       "-f", temp_ / "id"})
                  .exit_code,
              0);
    ASSERT_EQ(Add({temp_ / "id"}), 0);
  }
  void TearDown() override {
    if (child_ <= 0) return;
    kill(child_, SIGTERM);
    support::Wait(child_, std::chrono::seconds(10));
  }
  int Add(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "/usr/bin/ssh-add");
    return RunTool(arguments, {"SSH_AUTH_SOCK=" + socket_}).exit_code;
  }

  TempFolder temp_;
  std::string socket_ = temp_ / "agent";
  pid_t child_ = -1;
};

TEST_F(SshAgent, SignsForUs) {
  const auto keys = ListSshAgent(socket_);
  ASSERT_TRUE(keys.ok()) << keys.status();
  ASSERT_EQ(keys->size(), 1u);
  EXPECT_EQ((*keys)[0].comment, "test key");
  const PublicKey key = (*keys)[0].public_key;
  const auto signer = NewSshAgentSigner(socket_, key);
  for (const std::string& message : {std::string(), std::string(680, '\0'), std::string("x")}) {
    const auto signature = signer->Sign(message);
    ASSERT_TRUE(signature.ok()) << signature.status();
    EXPECT_TRUE(Verify(key, message, *signature));
  }
}

TEST_F(SshAgent, RefusesWhatItDoesNotHave) {
  const auto stranger = NewSshAgentSigner(socket_, SigningKey::Generate()->public_key());
  EXPECT_TRUE(absl::IsPermissionDenied(stranger->Sign("x").status()));
  const auto signer = NewSshAgentSigner(socket_, ListSshAgent(socket_)->at(0).public_key);
  ASSERT_EQ(Add({"-D"}), 0);
  EXPECT_TRUE(absl::IsPermissionDenied(signer->Sign("x").status()));
  EXPECT_TRUE(ListSshAgent(socket_)->empty());
  kill(child_, SIGTERM);
  support::Wait(child_, std::chrono::seconds(10));
  child_ = -1;
  EXPECT_TRUE(absl::IsUnavailable(signer->Sign("x").status()));
}

}  // namespace
}  // namespace waxvm::integration
