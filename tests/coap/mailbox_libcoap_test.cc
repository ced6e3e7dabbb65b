// SPDX-License-Identifier: Apache-2.0
// Mailboxes over CoAP: libcoap's client uses them, and an endpoint tries what that cannot.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "src/base/strings.h"
#include "src/identity/temp_folder_for_test.h"
#include "tests/support/process.h"
#include "waxvm/coap_endpoint.h"
#include "waxvm/mailbox_coap.h"
#include "waxvm/mailbox_file.h"

namespace waxvm {
namespace {

using coap::Code;
using coap::Message;
using coap::OptionNumber;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

constexpr char kClient[] = "/usr/bin/coap-client-notls";

class MailboxCoap : public testing::Test {
 protected:
  void SetUp() override {
    store_ = *MailboxFile::Open(temp_ / "m");
    ASSERT_TRUE(store_->Create("bob", {.max_messages = 3}).ok());
    ASSERT_TRUE(store_->Create("closed", {}).ok());
    server_ = NewEndpoint();
    client_ = NewEndpoint();
    const auto authorize = [](const coap::ServedRequest& request, const std::string& mailbox,
                              MailboxAccess) -> absl::StatusOr<std::string> {
      if (mailbox == "closed") return absl::PermissionDeniedError("not yours");
      return request.peer.address.ToText();
    };
    ASSERT_TRUE(ServeMailboxes(*server_, store_.get(), authorize).ok());
    ASSERT_TRUE(server_->Start().ok());
  }
  void TearDown() override {
    client_.reset();
    server_.reset();
  }
  static std::unique_ptr<coap::Endpoint> NewEndpoint() {
    auto socket = NewUdpSocket({.local = *SocketAddress::Parse("[::1]:0")});
    EXPECT_TRUE(socket.ok()) << socket.status();
    return *coap::Endpoint::Create(*std::move(socket));
  }

  coap::Message Ask(Code method, const std::string& path, const std::vector<std::string>& queries,
                    const std::string& payload = "") {
    Message request(method, payload);
    request.SetPath(path);
    for (const std::string& query : queries) request.AddQuery(query);
    const auto reply = client_->Ask(server_->local_address(), request, {.timeout = seconds(30)});
    EXPECT_TRUE(reply.ok()) << reply.status();
    return reply.ok() ? reply->message : Message();
  }
  static std::vector<std::string> All(const Message& message, OptionNumber number) {
    std::vector<std::string> all;
    message.options().ForEach(number, [&](std::string_view value) { all.emplace_back(value); });
    return all;
  }
  static std::string Receipt(const Message& message) {
    for (const std::string& query : All(message, OptionNumber::kLocationQuery))
      if (query.starts_with("r=")) return query;
    return "";
  }

  identity::TempFolder temp_;
  std::unique_ptr<MailboxFile> store_;
  std::unique_ptr<coap::Endpoint> server_;
  std::unique_ptr<coap::Endpoint> client_;
};

TEST_F(MailboxCoap, LibcoapsClientPutsTakesAndAcknowledges) {
  if (!std::filesystem::exists(kClient)) GTEST_SKIP() << "libcoap3-bin is not installed";
  std::string error;
  const auto client = [&](std::vector<std::string> arguments, const std::string& path) {
    arguments.insert(arguments.begin(), {kClient, "-B", "10", "-v", "7"});
    arguments.push_back(absl::StrFormat("coap://[::1]:%d%s", server_->local_address().port, path));
    support::RunOptions options;
    options.limit = seconds(30);
    const support::Completed done = support::Run(arguments, options);
    EXPECT_EQ(done.exit_code, 0) << done.error;
    error = done.error;
    return done.output + done.error;
  };
  EXPECT_THAT(client({"-m", "post", "-e", "hello", "-t", "text"}, "/mb/bob?k=once"),
              HasSubstr("2.01"));
  EXPECT_THAT(client({"-m", "post", "-e", "hello", "-t", "text"}, "/mb/bob?k=once"),
              HasSubstr("2.04"));
  EXPECT_EQ(store_->Info("bob")->messages, 1u);
  const std::string taken = client({"-m", "get"}, "/mb/bob?l=60");
  EXPECT_THAT(taken, HasSubstr("hello"));
  const std::size_t at = taken.find("r=");
  ASSERT_NE(at, taken.npos) << taken;
  const std::string receipt = taken.substr(at, 2 + 64);
  EXPECT_THAT(client({"-m", "delete"}, "/mb/bob?" + receipt), HasSubstr("2.02"));
  EXPECT_EQ(store_->Info("bob")->messages, 0u);
  EXPECT_THAT(client({"-m", "delete"}, "/mb/bob?" + receipt), HasSubstr("4.04"));
  EXPECT_THAT(client({"-m", "post", "-e", "x"}, "/mb/nobody"), HasSubstr("4.04"));
}

TEST_F(MailboxCoap, ALongMessageGoesInBlocksAndComesBack) {
  const std::string payload(100'000, 'x');
  const Message stored = Ask(Code::kPost, "/mb/bob", {"o=line"}, payload);
  EXPECT_EQ(stored.code(), Code::kCreated) << stored.payload();
  EXPECT_EQ(All(stored, OptionNumber::kLocationPath), (std::vector<std::string>{"mb", "bob", "1"}));
  const Message taken = Ask(Code::kGet, "/mb/bob", {"l=60"});
  EXPECT_EQ(taken.code(), Code::kContent);
  EXPECT_EQ(taken.payload(), payload);
  EXPECT_EQ(taken.options().max_age_seconds(), 0u);
  EXPECT_EQ(store_->Info("bob")->groups[0].open, 1u) << "its blocks are of one lease";
  EXPECT_EQ(Ask(Code::kDelete, "/mb/bob", {Receipt(taken)}).code(), Code::kDeleted);
}

TEST_F(MailboxCoap, RejectExtendAndWait) {
  EXPECT_EQ(Receipt(Ask(Code::kGet, "/mb/bob", {})), "") << "there is nothing";
  auto waits = std::async(std::launch::async, [&] {
    return Ask(Code::kGet, "/mb/bob", {"w=20", "l=60"});
  });
  std::this_thread::sleep_for(milliseconds(100));
  ASSERT_TRUE(store_->AppendOne(MailboxMessage{.mailbox = "bob", .payload = "x"}).ok());
  const Message taken = waits.get();
  EXPECT_EQ(taken.payload(), "x");
  const std::string receipt = Receipt(taken);
  EXPECT_EQ(Ask(Code::kPut, "/mb/bob", {receipt, "l=90"}).code(), Code::kChanged);
  EXPECT_EQ(Ask(Code::kPost, "/mb/bob", {receipt, "x=busy", "d=1"}).code(), Code::kChanged);
  EXPECT_EQ(Ask(Code::kDelete, "/mb/bob", {receipt}).code(), Code::kPreconditionFailed);
  EXPECT_EQ(Ask(Code::kGet, "/mb/bob", {"w=20"}).payload(), "x");
}

TEST_F(MailboxCoap, WhatIsWrongIsRefused) {
  EXPECT_EQ(Ask(Code::kPost, "/mb/closed", {}, "x").code(), Code::kForbidden);
  EXPECT_EQ(Ask(Code::kGet, "/mb/closed", {}).code(), Code::kForbidden);
  EXPECT_EQ(Ask(Code::kDelete, "/mb/closed", {"r=0"}).code(), Code::kForbidden);
  EXPECT_EQ(Ask(Code::kGet, "/mb", {}).code(), Code::kNotFound);
  EXPECT_EQ(Ask(Code::kGet, "/mb/bob/1", {}).code(), Code::kNotFound);
  EXPECT_EQ(Ask(Code::kGet, "/mb/b b", {}).code(), Code::kBadRequest);
  EXPECT_EQ(Ask(Code::kGet, "/mb/bob", {"z=1"}).code(), Code::kBadRequest);
  EXPECT_EQ(Ask(Code::kGet, "/mb/bob", {"l=1", "l=1"}).code(), Code::kBadRequest);
  EXPECT_EQ(Ask(Code::kGet, "/mb/bob", {"l=-1"}).code(), Code::kBadRequest);
  EXPECT_EQ(Ask(Code::kGet, "/mb/bob", {"l=99999999999999999999"}).code(), Code::kBadRequest);
  EXPECT_EQ(Ask(Code::kGet, "/mb/bob", {"l=0"}).code(), Code::kBadRequest);
  EXPECT_EQ(Ask(Code::kDelete, "/mb/bob", {}).code(), Code::kBadRequest);
  EXPECT_EQ(Ask(Code::kDelete, "/mb/bob", {"r=" + std::string(64, '0')}).code(), Code::kForbidden);
  EXPECT_EQ(Ask(Code::kPost, "/mb/bob", {"k=" + std::string(65, 'k')}).code(), Code::kBadRequest);
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(Ask(Code::kPost, "/mb/bob", {}, "x").code(), Code::kCreated);
  const Message full = Ask(Code::kPost, "/mb/bob", {}, "x");
  EXPECT_EQ(full.code(), Code::kTooManyRequests);
  EXPECT_THAT(full.payload(), HasSubstr("max_messages"));
  EXPECT_EQ(full.options().max_age_seconds(), 5u);
}

TEST_F(MailboxCoap, AReceiptIsGoodForItsOwnMailboxOnly) {
  ASSERT_TRUE(store_->AppendOne(MailboxMessage{.mailbox = "closed", .payload = "x"}).ok());
  const auto held = store_->Receive(ReceiveOptions{.mailbox = "closed"});
  ASSERT_TRUE(held.ok() && held->size() == 1);
  const std::string receipt = "r=" + held->front().receipt;
  // Whoever may receive from bob's may do nothing with what is held of the closed one.
  EXPECT_EQ(Ask(Code::kPut, "/mb/bob", {receipt, "l=90"}).code(), Code::kForbidden);
  EXPECT_EQ(Ask(Code::kPost, "/mb/bob", {receipt, "d=90"}).code(), Code::kForbidden);
  EXPECT_EQ(Ask(Code::kDelete, "/mb/bob", {receipt}).code(), Code::kForbidden);
  EXPECT_TRUE(store_->Acknowledge(held->front().receipt).ok());
}

TEST_F(MailboxCoap, ALaterBlockLeasesNoOtherMessage) {
  ASSERT_TRUE(store_->AppendOne(MailboxMessage{.mailbox = "bob", .payload = "x"}).ok());
  Message request(Code::kGet);
  request.SetPath("/mb/bob").SetBlock2({.number = 3, .more = false, .exponent = 6});
  const auto reply = client_->Ask(server_->local_address(), request, {.timeout = seconds(30)});
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->message.code(), Code::kRequestEntityIncomplete);
  EXPECT_EQ(store_->Info("bob")->groups[0].open, 0u);
}

TEST_F(MailboxCoap, WhoAuthorizesMayAskTheStore) {
  coap::Endpoint& endpoint = *server_;
  const auto authorize = [&](const coap::ServedRequest&, const std::string& mailbox,
                             MailboxAccess) -> absl::StatusOr<std::string> {
    // The store's thread may be answering an earlier request just now.
    if (!store_->Info(mailbox).ok()) return absl::NotFoundError("nothing");
    return "somebody";
  };
  ASSERT_TRUE(ServeMailboxes(endpoint, store_.get(), authorize, {.path = "/asked"}).ok());
  ASSERT_TRUE(store_->Create("many", {}).ok());
  const auto append = [&] {
    const auto client = NewEndpoint();
    int stored = 0;
    for (int i = 0; i < 50; ++i) {
      const auto reply =
          client->Ask(server_->local_address(), Message(Code::kPost, "x").SetPath("/asked/many"),
                      {.timeout = seconds(10)});
      if (!reply.ok()) break;
      stored += reply->message.code() == Code::kCreated;
    }
    return stored;
  };
  std::vector<std::future<int>> clients;
  for (int i = 0; i < 8; ++i) clients.push_back(std::async(std::launch::async, append));
  for (auto& client : clients) EXPECT_EQ(client.get(), 50);
}

TEST_F(MailboxCoap, TheStoreMayEndWhileSomebodyWaits) {
  auto waits = std::async(std::launch::async, [&] { return Ask(Code::kGet, "/mb/bob", {"w=20"}); });
  std::this_thread::sleep_for(milliseconds(100));
  ASSERT_TRUE(server_->Remove("/mb").ok());
  store_.reset();
  EXPECT_EQ(waits.get().code(), Code::kServiceUnavailable);
}

}  // namespace
}  // namespace waxvm
