// SPDX-License-Identifier: Apache-2.0
// Against an agent that answers whatever the test wants; tests/integration has the real one.
#include "waxvm/ssh_agent.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <utility>

#include "src/base/unique_fd.h"
#include "src/identity/temp_folder_for_test.h"

namespace waxvm {
namespace {

using namespace std::chrono_literals;
using identity::TempFolder;

std::string Number(std::size_t number) {
  std::string bytes;
  for (const int shift : {24, 16, 8, 0}) bytes.push_back(static_cast<char>(number >> shift & 0xff));
  return bytes;
}
std::string String(const std::string& text) { return Number(text.size()) + text; }

/// Answers one connection: what it read goes through `answer`, and is sent as it comes out.
class FakeAgent {
 public:
  explicit FakeAgent(std::function<std::string(const std::string&)> answer) {
    listener_ = UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path().data(), path().size());
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(listener_.get(), 8), 0);
    thread_ = std::jthread([this, answer = std::move(answer)] {
      const UniqueFd client(accept(listener_.get(), nullptr, nullptr));
      char request[4096];
      const ssize_t bytes = read(client.get(), request, sizeof request);
      const std::string reply =
          answer(std::string(request, bytes > 0 ? static_cast<std::size_t>(bytes) : 0));
      for (const char c : reply)  // in the smallest pieces
        if (send(client.get(), &c, 1, MSG_NOSIGNAL) != 1) return;
      if (reply.empty()) std::this_thread::sleep_for(300ms);
    });
  }
  std::string path() const { return folder_ / "agent"; }

 private:
  TempFolder folder_;
  UniqueFd listener_;
  std::jthread thread_;
};

auto Always(const std::string& bytes) {
  return [bytes](const std::string&) { return bytes; };
}

std::string KeyBlob(const PublicKey& key) {
  return String("ssh-ed25519") + String(std::string(key.view()));
}

TEST(SshAgent, ListsEd25519Keys) {
  const PublicKey key = SigningKey::Generate()->public_key();
  const FakeAgent agent(Always(
      String("\x0c" + Number(3) + String("other") + String("rsa") + String(KeyBlob(key)) +
             String("mine") + String(String("ssh-ed25519") + String("short")) + String("bad"))));
  const auto keys = ListSshAgent(agent.path());
  ASSERT_TRUE(keys.ok()) << keys.status();
  ASSERT_EQ(keys->size(), 1u);
  EXPECT_EQ((*keys)[0].public_key, key);
  EXPECT_EQ((*keys)[0].comment, "mine");
}

TEST(SshAgent, SignsWhatItIsAsked) {
  const auto key = SigningKey::Generate();
  const std::string expected =
      String("\x0d" + String(KeyBlob(key->public_key())) + String("hello") + Number(0));
  const auto answer = [&](const std::string& request) {
    EXPECT_EQ(request, expected);
    return String("\x0e" +
                  String(String("ssh-ed25519") + String(std::string(key->Sign("hello")->view()))));
  };
  const FakeAgent agent(answer);
  const auto signature = NewSshAgentSigner(agent.path(), key->public_key())->Sign("hello");
  ASSERT_TRUE(signature.ok()) << signature.status();
  EXPECT_TRUE(Verify(key->public_key(), "hello", *signature));
}

TEST(SshAgent, BrokenAnswersAreRefused) {
  const auto key = SigningKey::Generate();
  const std::string other = std::string(key->Sign("other")->view());
  const std::string kAnswers[] = {
      Number(0),
      Number(0xffffffff),
      Number(256 * 1024 + 1),
      String("\x06"),
      String("\x0e"),
      String("\x0e" + Number(100)),
      String("\x0e" + String("")),
      String("\x0e" + String(String("ssh-rsa") + String(other))),
      String("\x0e" + String(String("ssh-ed25519") + String(other + "x"))),
      String("\x0e" + String(String("ssh-ed25519") + String(other))),
      String("\x0e" + String(String("ssh-ed25519") + String(other)) + "x"),
      String("\x0e" + String(String("ssh-ed25519") + String(other) + "x"))};
  for (const std::string& answer : kAnswers) {
    const FakeAgent agent(Always(answer));
    const auto signature = NewSshAgentSigner(agent.path(), key->public_key())->Sign("hello");
    EXPECT_TRUE(absl::IsDataLoss(signature.status())) << signature.status();
  }
  for (const std::string& answer :
       {String("\x0c"), String("\x0c" + Number(0xffffffff)), String("\x0c" + Number(1)),
        String("\x0c" + Number(1) + String("blob")), String("\x0c" + Number(0) + "x"),
        String("\x0e" + Number(0))}) {
    const FakeAgent agent(Always(answer));
    EXPECT_TRUE(absl::IsDataLoss(ListSshAgent(agent.path()).status()));
  }
}

TEST(SshAgent, RefusalAndAbsence) {
  const PublicKey key = SigningKey::Generate()->public_key();
  const FakeAgent refuses(Always(String("\x05")));
  EXPECT_TRUE(absl::IsPermissionDenied(NewSshAgentSigner(refuses.path(), key)->Sign("x").status()));
  const FakeAgent goes_away(Always(Number(100) + "abc"));
  EXPECT_TRUE(absl::IsUnavailable(ListSshAgent(goes_away.path()).status()));
  EXPECT_TRUE(absl::IsUnavailable(ListSshAgent("/nonexistent/agent").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(ListSshAgent("").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(ListSshAgent(std::string(200, 'x')).status()));
}

TEST(SshAgent, AnAgentThatNeverAnswers) {
  const FakeAgent silent(Always(""));
  const auto start = std::chrono::steady_clock::now();
  const auto keys = ListSshAgent(silent.path(), {.timeout = 50ms});
  EXPECT_TRUE(absl::IsDeadlineExceeded(keys.status())) << keys.status();
  EXPECT_LT(std::chrono::steady_clock::now() - start, 250ms);
}

}  // namespace
}  // namespace waxvm
