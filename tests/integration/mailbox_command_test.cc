// SPDX-License-Identifier: Apache-2.0
// waxvm mailbox, and the example, as a user runs them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "command.h"
#include "nlohmann/json.hpp"
#include "src/identity/temp_folder_for_test.h"

namespace waxvm::integration {
namespace {

using identity::TempFolder;
using nlohmann::json;
using testing::HasSubstr;

class MailboxCommand : public testing::Test {
 protected:
  Completed Run(std::vector<std::string> arguments, const std::string& input = "") {
    arguments.insert(arguments.begin() + 1, "--store=" + (temp_ / "m"));
    arguments.insert(arguments.begin(), {WAXVM_COMMAND, "mailbox"});
    CommandOptions options;
    options.input = input;
    return RunCommand(arguments, options);
  }
  json Json(std::vector<std::string> arguments, const std::string& input = "") {
    arguments.push_back("--json");
    const Completed run = Run(arguments, input);
    EXPECT_EQ(run.exit_code, 0) << run.error;
    return json::parse(run.output, nullptr, false);
  }
  std::string Receipt() {
    return Json({"receive", "bob"})["messages"][0]["receipt"].get<std::string>();
  }
  TempFolder temp_;
};

TEST_F(MailboxCommand, WhatIsPutIsReceivedOnce) {
  EXPECT_EQ(Json({"put", "bob", "hello"})["sequence"], 1);
  EXPECT_EQ(Json({"put", "bob", "--sender=alice", "--key=k"}, "from input")["sequence"], 2);
  const json again = Json({"put", "bob", "--sender=alice", "--key=k"}, "from input");
  EXPECT_EQ(again["sequence"], 2);
  EXPECT_EQ(again["duplicate"], true);
  const json got = Json({"receive", "bob", "--max=10", "--lease=1h"})["messages"];
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0]["payload"], "hello");
  EXPECT_EQ(got[1]["payload"], "from input");
  EXPECT_EQ(got[1]["sender"], "alice");
  EXPECT_EQ(Json({"receive", "bob"})["messages"].size(), 0u) << "both are leased";
  const std::string receipt = got[0]["receipt"];
  EXPECT_EQ(Run({"ack", receipt}).exit_code, 0);
  const Completed twice = Run({"ack", receipt});
  EXPECT_EQ(twice.exit_code, 1);
  EXPECT_THAT(twice.error, HasSubstr("done with"));
  EXPECT_EQ(Run({"ack", "nonsense"}).exit_code, 1);
  EXPECT_EQ(Json({"stats"})["messages"], 1);
  const json list = Json({"list"})["mailboxes"];
  EXPECT_EQ(list[0]["name"], "bob");
  EXPECT_EQ(list[0]["groups"][0]["open"], 1);
  EXPECT_THAT(Run({"list"}).output, HasSubstr("1 messages"));
}

TEST_F(MailboxCommand, RejectedMessagesComeBackAndDie) {
  ASSERT_EQ(Run({"create", "bob", "--max-deliveries=2", "--max-messages=1"}).exit_code, 0);
  ASSERT_EQ(Run({"put", "bob", "x"}).exit_code, 0);
  const Completed full = Run({"put", "bob", "y"});
  EXPECT_EQ(full.exit_code, 1);
  EXPECT_THAT(full.error, HasSubstr("max_messages: the mailbox"));
  ASSERT_EQ(Run({"reject", "--reason=busy", "--delay=1ms", Receipt()}).exit_code, 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  ASSERT_EQ(Run({"reject", "--reason=really no", Receipt()}).exit_code, 0);
  json dead = Json({"dead", "bob"})["dead"];
  ASSERT_EQ(dead.size(), 1u);
  EXPECT_THAT(dead[0]["reason"].get<std::string>(), HasSubstr("really no"));
  EXPECT_EQ(dead[0]["deliveries"], 2);
  EXPECT_THAT(Run({"dead", "bob"}).output, HasSubstr("really no"));
  EXPECT_EQ(Json({"dead", "bob", "--requeue=1"})["sequence"], 2);
  ASSERT_EQ(Run({"reject", "--dead", "--reason=never", Receipt()}).exit_code, 0);
  EXPECT_EQ(Run({"dead", "bob", "--remove=2"}).exit_code, 0);
  EXPECT_EQ(Run({"dead", "bob", "--remove=2"}).exit_code, 1);
  EXPECT_EQ(Json({"dead", "bob"})["dead"].size(), 0u);
}

TEST_F(MailboxCommand, GroupsOfATopic) {
  ASSERT_EQ(Run({"create", "news", "--topic", "--ttl=1h"}).exit_code, 0);
  ASSERT_EQ(Run({"subscribe", "news", "a"}).exit_code, 0);
  ASSERT_EQ(Run({"subscribe", "news", "b"}).exit_code, 0);
  ASSERT_EQ(Run({"put", "news", "x"}).exit_code, 0);
  for (const char* group : {"--group=a", "--group=b"})
    EXPECT_THAT(Run({"receive", "news", group, "--ack"}).output, HasSubstr("payload          x"));
  EXPECT_EQ(Json({"stats"})["messages"], 0);
  EXPECT_EQ(Run({"subscribe", "--remove", "news", "b"}).exit_code, 0);
  EXPECT_EQ(Run({"receive", "news", "--group=b"}).exit_code, 1);
  EXPECT_EQ(Run({"remove", "news"}).exit_code, 0);
  EXPECT_EQ(Json({"list"})["mailboxes"].size(), 0u);
}

TEST_F(MailboxCommand, BytesOfOthersForgeNothing) {
  ASSERT_EQ(Run({"put", "bob"}, "x\nreceipt          00").exit_code, 0);
  ASSERT_EQ(Run({"put", "bob"}, "\x1b[2J").exit_code, 0);
  ASSERT_EQ(Run({"put", "bob"}, "\xff").exit_code, 0);
  const std::string text = Run({"receive", "bob", "--max=9", "--lease=1ms"}).output;
  EXPECT_EQ(text.find('\x1b'), text.npos);
  EXPECT_THAT(text, HasSubstr("payload_hex      780a"));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const json got = Json({"receive", "bob", "--max=9"})["messages"];
  ASSERT_EQ(got.size(), 3u);
  EXPECT_EQ(got[0]["payload"], "x\nreceipt          00");
  EXPECT_EQ(got[2]["payload_hex"], "ff");
}

TEST_F(MailboxCommand, WhatIsTypedWrongIsSaid) {
  EXPECT_EQ(Run({"put"}).exit_code, 125);
  EXPECT_EQ(Run({"put", "a/b", "x"}).exit_code, 125);
  EXPECT_EQ(Run({"receive", "bob", "--lease=soon"}).exit_code, 125);
  EXPECT_EQ(Run({"receive", "bob", "--max=5000"}).exit_code, 125);
  EXPECT_EQ(Run({"receive", "nobody"}).exit_code, 1);
  EXPECT_EQ(Run({"put", "bob"}, std::string(300'000, 'x')).exit_code, 125);
  std::ofstream(temp_ / "m", std::ios::trunc) << std::string(10'000, 'x');
  const Completed other = Run({"list"});
  EXPECT_EQ(other.exit_code, 125);
  EXPECT_THAT(other.error, HasSubstr("m:"));
}

TEST_F(MailboxCommand, TheExample) {
  const std::vector<std::string> run = {std::string(WAXVM_EXAMPLES_DIR) + "/use_mailbox",
                                        temp_ / "example"};
  EXPECT_EQ(RunCommand(run).output, "1 first\n2 second\n0 left\n");
  // Within the window of its keys it stores nothing anew.
  EXPECT_EQ(RunCommand(run).output, "0 left\n");
}

}  // namespace
}  // namespace waxvm::integration
