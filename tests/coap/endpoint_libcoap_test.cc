// SPDX-License-Identifier: Apache-2.0
// Endpoints and libcoap's client and server, over loopback, with both backends.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "src/base/strings.h"
#include "tests/support/process.h"
#include "waxvm/coap_endpoint.h"
#include "waxvm/coap_uri.h"

namespace waxvm::coap {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr char kClient[] = "/usr/bin/coap-client-notls";
constexpr char kServer[] = "/usr/bin/coap-server-notls";

std::string LongText(std::size_t bytes) {
  std::string text;
  for (std::size_t i = 0; text.size() < bytes; ++i) text += std::to_string(i) + " ";
  text.resize(bytes);
  return text;
}

class LibcoapTest : public testing::TestWithParam<UdpBackend> {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(kClient) || !std::filesystem::exists(kServer))
      GTEST_SKIP() << "libcoap3-bin is not installed";
    auto socket = NewUdpSocket({.local = *SocketAddress::Parse("[::1]:0"), .backend = GetParam()});
    ASSERT_TRUE(socket.ok()) << socket.status();
    auto endpoint = Endpoint::Create(*std::move(socket), {.confirm_every = 2});
    ASSERT_TRUE(endpoint.ok()) << endpoint.status();
    endpoint_ = *std::move(endpoint);
    ASSERT_TRUE(endpoint_->Start().ok());
    folder_ =
        std::filesystem::temp_directory_path() / ("coap_libcoap_test." + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override {
    if (server_ > 0) {
      kill(server_, SIGKILL);
      support::Wait(server_);
    }
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
  }

  /// coap-client's standard output.
  std::string Client(std::vector<std::string> arguments, const std::string& path) {
    arguments.insert(arguments.begin(), {kClient, "-B", "10"});
    arguments.push_back(
        absl::StrFormat("coap://[::1]:%d%s", endpoint_->local_address().port, path));
    support::RunOptions options;
    options.limit = seconds(30);
    const support::Completed done = support::Run(arguments, options);
    error_ = done.error;
    EXPECT_EQ(done.exit_code, 0) << done.error;
    return done.output;
  }
  /// libcoap's example server, on a port that was free.
  SocketAddress StartServer() {
    SocketAddress address = *SocketAddress::Parse("[::1]:0");
    address.port = (*NewUdpSocket({.local = address}))->local_address().port;
    const int log = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    server_ = support::Start({kServer, "-A", "::1", "-p", std::to_string(address.port), "-d", "10"},
                             {}, log, log, log);
    ::close(log);
    for (int i = 0; i < 100; ++i) {
      const auto reply = endpoint_->Ask(address, Message(Code::kGet), {.timeout = seconds(1)});
      if (reply.ok()) break;
      std::this_thread::sleep_for(milliseconds(20));
    }
    return address;
  }
  void ServeStore() {
    ASSERT_TRUE(
        endpoint_
            ->Serve({.path = "/store",
                     .methods = {Code::kGet, Code::kPut, Code::kPost, Code::kDelete, Code::kFetch,
                                 Code::kIPatch},
                     .observable = true,
                     .attributes = {{"rt", "store"}},
                     .handler = [this](const ServedRequest& request,
                                       Responder& responder) { Handle(request, responder); }})
            .ok());
  }
  void Handle(const ServedRequest& request, Responder& responder) {
    ++handled_;
    switch (request.code) {
      case Code::kGet:
        return responder.Send(Code::kContent, ToBytes(stored_), ContentFormat::kTextPlain);
      case Code::kPut:
        stored_ = ToText(request.payload);
        return responder.Send(Code::kChanged);
      case Code::kDelete:
        stored_.clear();
        return responder.Send(Code::kDeleted);
      default:
        return responder.Send(Code::kContent, request.payload);
    }
  }

  std::unique_ptr<Endpoint> endpoint_;
  std::filesystem::path folder_;
  std::string stored_ = "stored";
  std::string error_;
  int handled_ = 0;
  pid_t server_ = -1;
};

INSTANTIATE_TEST_SUITE_P(Backends, LibcoapTest,
                         testing::Values(UdpBackend::kMmsg, UdpBackend::kIoUring),
                         [](const auto& tested) {
                           return tested.param == UdpBackend::kMmsg ? "mmsg" : "io_uring";
                         });

TEST_P(LibcoapTest, ItsClientGetsPutsPostsFetchesAndDeletes) {
  ServeStore();
  EXPECT_EQ(Client({"-m", "get"}, "/store"), "stored\n");
  EXPECT_EQ(Client({"-m", "get", "-N"}, "/store"), "stored\n");
  EXPECT_EQ(Client({"-m", "put", "-e", "changed"}, "/store"), "");
  EXPECT_EQ(stored_, "changed");
  EXPECT_EQ(Client({"-m", "post", "-e", "echo"}, "/store"), "echo\n");
  EXPECT_EQ(Client({"-m", "fetch", "-e", "fetched", "-t", "text"}, "/store"), "fetched\n");
  EXPECT_EQ(Client({"-m", "ipatch", "-e", "patched", "-t", "text"}, "/store"), "patched\n");
  EXPECT_EQ(Client({"-m", "delete"}, "/store"), "");
  EXPECT_EQ(stored_, "");
  Client({"-m", "get"}, "/nowhere");
  EXPECT_NE(error_.find("4.04"), std::string::npos) << error_;
  Client({"-m", "patch", "-e", "x"}, "/store");
  EXPECT_NE(error_.find("4.05"), std::string::npos) << error_;
  const std::string list = Client({"-m", "get"}, "/.well-known/core");
  EXPECT_NE(list.find("</store>;rt=\"store\";obs"), std::string::npos) << list;
}

TEST_P(LibcoapTest, ItsClientSendsAndGetsLongBodies) {
  ServeStore();
  stored_ = LongText(50'000);
  const std::string got = (folder_ / "got").string();
  for (const char* size : {"16", "256", "1024"}) {
    if (size == std::string("16")) stored_.resize(2000);
    Client({"-m", "get", "-b", size, "-o", got}, "/store");
    EXPECT_TRUE(support::ReadFile(got) == stored_) << size;
    stored_ = LongText(50'000);
  }
  const std::string sent = (folder_ / "sent").string();
  const std::string text = LongText(70'001);
  std::ofstream(sent) << text;
  const int before = handled_;
  Client({"-m", "put", "-f", sent}, "/store");
  EXPECT_TRUE(stored_ == text) << stored_.size();
  EXPECT_EQ(handled_, before + 1);
  Client({"-m", "put", "-b", "64", "-f", sent}, "/store");
  EXPECT_TRUE(stored_ == text) << stored_.size();
}

TEST_P(LibcoapTest, ItsClientObserves) {
  ServeStore();
  std::thread changes([&] {
    for (int i = 0; i < 6; ++i) {
      std::this_thread::sleep_for(milliseconds(300));
      endpoint_->Notify("/store", Message(Code::kContent, "change " + std::to_string(i))
                                      .SetContentFormat(ContentFormat::kTextPlain));
    }
  });
  const std::string told = Client({"-m", "get", "-s", "2", "-w"}, "/store");
  changes.join();
  for (int i = 0; i < 5; ++i)
    EXPECT_NE(told.find("change " + std::to_string(i)), std::string::npos) << told;
  // It says so when it has enough, and does not wait for that to be heard.
  for (int i = 0; i < 500 && endpoint_->stats().observers != 0; ++i)
    std::this_thread::sleep_for(milliseconds(10));
  EXPECT_EQ(endpoint_->stats().observers, 0u);
}

TEST_P(LibcoapTest, ItsServerAnswersUs) {
  const SocketAddress server = StartServer();
  const auto ask = [&](const Message& message) {
    const auto reply = endpoint_->Ask(server, message);
    EXPECT_TRUE(reply.ok()) << reply.status();
    return reply.ok() ? reply->message : Message();
  };
  const Message root = ask(Message(Code::kGet));
  EXPECT_EQ(root.code(), Code::kContent);
  EXPECT_NE(root.payload().find("libcoap"), std::string::npos) << root.payload();
  const Message list = ask(Message(Code::kGet).SetPath("/.well-known/core"));
  EXPECT_EQ(list.options().content_format(), ContentFormat::kLinkFormat);
  const auto links = ParseLinks(list.payload());
  ASSERT_TRUE(links.ok()) << links.status();
  EXPECT_GE(links->size(), 3u);
  EXPECT_EQ(ask(Message(Code::kGet).SetPath("/nowhere")).code(), Code::kNotFound);
  // A separate response, after an empty acknowledgement.
  EXPECT_EQ(ask(Message(Code::kGet).SetPath("/async").AddQuery("1")).code(), Code::kContent);
  const std::string text = LongText(30'000);
  EXPECT_EQ(ask(Message(Code::kPut, text).SetPath("/made")).code(), Code::kCreated);
  const Message made = ask(Message(Code::kGet).SetPath("/made"));
  EXPECT_EQ(made.code(), Code::kContent);
  EXPECT_TRUE(made.payload() == text) << made.payload().size();
  EXPECT_EQ(ask(Message(Code::kDelete).SetPath("/made")).code(), Code::kDeleted);
  const auto unreliable = endpoint_->Ask(server, Message(Code::kGet), {.confirmable = false});
  ASSERT_TRUE(unreliable.ok()) << unreliable.status();
  EXPECT_EQ(unreliable->message.code(), Code::kContent);
}

TEST_P(LibcoapTest, ItsServerIsObservedByUs) {
  const SocketAddress server = StartServer();
  std::mutex mutex;
  std::vector<std::string> told;
  const auto id =
      endpoint_->Request(server, Message(Code::kGet).SetPath("/time"),
                         [&](const absl::StatusOr<Response>& response) {
                           const std::lock_guard<std::mutex> lock(mutex);
                           told.push_back(response.ok() ? std::string(ToText(response->payload))
                                                        : response.status().ToString());
                         },
                         {.observe = true});
  ASSERT_TRUE(id.ok()) << id.status();
  std::this_thread::sleep_for(milliseconds(3500));
  EXPECT_TRUE(endpoint_->Cancel(*id));
  const std::lock_guard<std::mutex> lock(mutex);
  EXPECT_GE(told.size(), 3u);
}

}  // namespace
}  // namespace waxvm::coap
