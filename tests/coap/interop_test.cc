// SPDX-License-Identifier: Apache-2.0
// waxvm coap against the programs of libcoap and against the npm package coap, in both directions,
// and again with a relay in between that loses datagrams.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "nlohmann/json.hpp"
#include "tests/coap/command.h"
#include "tests/coap/npm.h"

namespace waxvm::coap {
namespace {

using Json = nlohmann::json;
using std::chrono::milliseconds;

constexpr char kClient[] = "/usr/bin/coap-client-notls";
constexpr char kServer[] = "/usr/bin/coap-server-notls";
constexpr char kPackage[] = "coap@1.5.0";
// Of each direction: about one exchange in three needs a retransmission.
constexpr double kLoss = 0.15;

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != text.npos;
}

std::string UriOf(std::uint16_t port, const std::string& path) {
  return "coap://[::1]:" + std::to_string(port) + path;
}

class LibcoapInterop : public testing::Test {
 protected:
  void SetUp() override {
    if (access(kClient, X_OK) != 0 || access(kServer, X_OK) != 0)
      GTEST_SKIP() << "libcoap3-bin is not installed";
  }

  /// coap-client, and what it wrote into a file.
  std::string Client(std::vector<std::string> arguments, const std::string& uri) {
    arguments.insert(arguments.begin(), {kClient, "-B", "50", "-o", folder_ / ".got"});
    arguments.push_back(uri);
    std::filesystem::remove(folder_ / ".got");
    const Completed done = RunProgram(arguments);
    error_ = done.error;
    EXPECT_EQ(done.exit_code, 0) << done.error;
    return support::ReadFile(folder_ / ".got");
  }

  /// Everything that its client does with a folder that we serve.
  void UseOurServer(const std::string& base) {
    EXPECT_EQ(Client({}, base + "/text.txt"), "hello");
    EXPECT_EQ(Client({"-N"}, base + "/text.txt"), "hello");
    EXPECT_TRUE(Client({}, base + "/large") == LongText(20'000));
    EXPECT_TRUE(Client({"-b", "64"}, base + "/small") == LongText(1000));
    Client({"-m", "put", "-e", "put"}, base + "/put");
    EXPECT_EQ(support::ReadFile(folder_ / "www/put"), "put");
    folder_.Write(".sent", LongText(15'000));
    Client({"-m", "put", "-f", folder_ / ".sent"}, base + "/put");
    EXPECT_TRUE(support::ReadFile(folder_ / "www/put") == LongText(15'000));
    Client({"-m", "put", "-b", "256", "-f", folder_ / ".sent"}, base + "/put2");
    EXPECT_TRUE(support::ReadFile(folder_ / "www/put2") == LongText(15'000));
    Client({"-m", "delete"}, base + "/put");
    EXPECT_FALSE(std::filesystem::exists(folder_ / "www/put"));
    Client({}, base + "/put");
    EXPECT_TRUE(Contains(error_, "4.04")) << error_;
    Client({"-m", "post", "-e", "x"}, base + "/text.txt");
    EXPECT_TRUE(Contains(error_, "4.05")) << error_;
    EXPECT_TRUE(Contains(Client({}, base + "/.well-known/core"), "</text.txt>;obs;ct=0"));
  }
  void FillOurFolder() {
    folder_.Write("www/text.txt", "hello");
    folder_.Write("www/large", LongText(20'000));
    folder_.Write("www/small", LongText(1000));
  }

  /// Everything that we do with its server.
  void UseItsServer(const std::string& base) {
    Completed done = RunCoap({"get", base + "/"});
    EXPECT_EQ(done.exit_code, 0) << done.error;
    EXPECT_TRUE(Contains(done.output, "libcoap")) << done.output;
    EXPECT_EQ(RunCoap({"get", "--non", base + "/"}).exit_code, 0);
    EXPECT_TRUE(Contains(RunCoap({"get", base + "/.well-known/core"}).output, "</time>"));
    done = RunCoap({"get", base + "/none"});
    EXPECT_EQ(done.exit_code, 4);
    EXPECT_TRUE(Contains(done.error, "4.04")) << done.error;
    // Separate: an acknowledgement now, the response a second later.
    EXPECT_EQ(RunCoap({"get", base + "/async?1"}).exit_code, 0);
    done = RunCoap({"put", base + "/made"}, LongText(15'000));
    EXPECT_EQ(done.exit_code, 0) << done.error;
    EXPECT_TRUE(RunCoap({"get", base + "/made"}).output == LongText(15'000));
    EXPECT_TRUE(RunCoap({"get", "--block-size=128", base + "/made"}).output == LongText(15'000));
    EXPECT_EQ(RunCoap({"put", "--data=short", base + "/made"}).exit_code, 0);
    EXPECT_EQ(RunCoap({"get", base + "/made"}).output, "short");
    EXPECT_EQ(RunCoap({"delete", base + "/made"}).exit_code, 0);
    EXPECT_EQ(RunCoap({"get", base + "/made"}).exit_code, 4);
    done = RunCoap({"observe", "--count=3", base + "/time"});
    EXPECT_EQ(done.exit_code, 0) << done.error;
    EXPECT_EQ(std::count(done.output.begin(), done.output.end(), '\n'), 3) << done.output;
  }

  std::uint16_t StartItsServer() {
    const std::uint16_t port = FreePort();
    its_server_ = std::make_unique<Background>(std::vector<std::string>{
        kServer, "-A", "::1", "-p", std::to_string(port), "-d", "10", "-v", "0"});
    for (int i = 0; i < 100; ++i)
      if (RunCoap({"get", "--timeout=200ms", UriOf(port, "/")}).exit_code == 0) break;
    return port;
  }

  TempFolder folder_;
  std::string error_;
  std::unique_ptr<Background> its_server_;
};

TEST_F(LibcoapInterop, ItsClientAndOurServer) {
  FillOurFolder();
  Served served(folder_ / "www", {"--writable", "--poll=50ms"});
  UseOurServer(served.Uri(""));
}

TEST_F(LibcoapInterop, ItsClientProvesItsAddressToOurServer) {
  FillOurFolder();
  Served served(folder_ / "www", {"--writable", "--poll=50ms", "--echo=yes"});
  UseOurServer(served.Uri(""));
}

TEST_F(LibcoapInterop, ItsClientObservesOurServer) {
  FillOurFolder();
  Served served(folder_ / "www", {"--poll=50ms"});
  std::thread writer([&] {
    for (int i = 0; i < 4; ++i) {
      std::this_thread::sleep_for(milliseconds(400));
      folder_.Write("www/text.txt", "change " + std::to_string(i));
    }
  });
  const Completed done =
      RunProgram({kClient, "-B", "10", "-s", "2", "-w", served.Uri("/text.txt")});
  writer.join();
  for (const char* part : {"hello", "change 0", "change 1", "change 2", "change 3"})
    EXPECT_TRUE(Contains(done.output, part)) << part << " in " << done.output << done.error;
}

TEST_F(LibcoapInterop, OurClientAndItsServer) { UseItsServer(UriOf(StartItsServer(), "")); }

TEST_F(LibcoapInterop, ItsClientAndOurServerWithLosses) {
  FillOurFolder();
  Served served(folder_ / "www", {"--writable", "--poll=50ms"});
  LossyRelay relay(served.port(), kLoss, 7);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(Client({}, relay.Uri("/text.txt")), "hello");
  folder_.Write("www/long", LongText(6'000));
  EXPECT_TRUE(Client({}, relay.Uri("/long")) == LongText(6'000)) << error_;
  folder_.Write(".sent", LongText(5'000));
  Client({"-m", "put", "-f", folder_ / ".sent"}, relay.Uri("/put"));
  EXPECT_TRUE(support::ReadFile(folder_ / "www/put") == LongText(5'000));
  EXPECT_GE(relay.lost(), 3) << "of " << relay.passed();
}

TEST_F(LibcoapInterop, OurClientAndItsServerWithLosses) {
  LossyRelay relay(StartItsServer(), kLoss, 2);
  for (int i = 0; i < 5; ++i)
    EXPECT_TRUE(Contains(RunCoap({"get", relay.Uri("/")}).output, "libcoap"));
  const Completed done = RunCoap({"put", relay.Uri("/made")}, LongText(5'000));
  EXPECT_EQ(done.exit_code, 0) << done.error;
  EXPECT_TRUE(RunCoap({"get", relay.Uri("/made")}).output == LongText(5'000));
  EXPECT_EQ(RunCoap({"observe", "--count=3", relay.Uri("/time")}).exit_code, 0);
  EXPECT_GE(relay.lost(), 3) << "of " << relay.passed();
}

TEST(WaxvmInterop, BothOursWithLosses) {
  TempFolder folder;
  folder.Write("large", LongText(20'000));
  Served served(folder.path(), {"--writable", "--poll=50ms"});
  LossyRelay relay(served.port(), kLoss, 3);
  EXPECT_TRUE(RunCoap({"get", relay.Uri("/large")}).output == LongText(20'000));
  EXPECT_EQ(RunCoap({"put", relay.Uri("/new")}, LongText(5'000)).exit_code, 0);
  EXPECT_TRUE(support::ReadFile(folder / "new") == LongText(5'000));
  EXPECT_GE(relay.lost(), 3) << "of " << relay.passed();
}

class NodeInterop : public testing::Test {
 protected:
  void SetUp() override {
    const std::string why = InstallPackage(WAXVM_NPM_FOLDER, kPackage);
    if (!why.empty()) GTEST_SKIP() << why;
  }
  /// Lets the package's client send these requests, one after the other.
  Json Ask(const Json& requests) {
    const Completed done = RunProgram(
        {FindProgram("node"), WAXVM_COAP_NODE, WAXVM_NPM_FOLDER, "ask"}, requests.dump());
    EXPECT_EQ(done.exit_code, 0) << done.error;
    Json results = Json::parse(done.output, nullptr, /*allow_exceptions=*/false);
    if (!results.is_array() || results.size() != requests.size()) {
      ADD_FAILURE() << done.output << done.error;
      results = Json(std::vector<Json>(requests.size(), Json::object()));
    }
    return results;
  }
  static std::string Text(const Json& result, const char* name) {
    return result.contains(name) && result[name].is_string() ? result[name].get<std::string>()
                                                             : result.dump();
  }

  TempFolder folder_;
};

TEST_F(NodeInterop, ItsClientAndOurServer) {
  folder_.Write("text.txt", "hello");
  folder_.Write("large", LongText(20'000));
  folder_.Write("gone", "x");
  Served served(folder_.path(), {"--writable", "--poll=50ms"});
  const std::uint16_t port = served.port();
  const Json requests = {
      {{"port", port}, {"path", "/text.txt"}},
      {{"port", port}, {"path", "/text.txt"}, {"confirmable", false}},
      {{"port", port}, {"path", "/large"}},
      {{"port", port}, {"path", "/put"}, {"method", "PUT"}, {"payload", "put"}},
      {{"port", port},
       {"path", "/long"},
       {"method", "PUT"},
       {"payload", LongText(5000)},
       {"options", {{"Block1", {6}}}}},
      {{"port", port}, {"path", "/gone"}, {"method", "DELETE"}},
      {{"port", port}, {"path", "/gone"}},
      {{"port", port}, {"path", "/text.txt"}, {"method", "POST"}, {"payload", "x"}},
      {{"port", port}, {"path", "/.well-known/core"}}};
  const Json results = Ask(requests);
  EXPECT_EQ(Text(results[0], "payload"), "hello");
  EXPECT_EQ(Text(results[0], "code"), "2.05");
  EXPECT_EQ(Text(results[0], "format"), "text/plain");
  EXPECT_EQ(Text(results[1], "payload"), "hello");
  EXPECT_TRUE(Text(results[2], "payload") == LongText(20'000));
  EXPECT_EQ(Text(results[3], "code"), "2.01");
  EXPECT_EQ(support::ReadFile(folder_ / "put"), "put");
  EXPECT_EQ(Text(results[4], "code"), "2.01");
  EXPECT_TRUE(support::ReadFile(folder_ / "long") == LongText(5000));
  EXPECT_EQ(Text(results[5], "code"), "2.02");
  EXPECT_EQ(Text(results[6], "code"), "4.04");
  EXPECT_EQ(Text(results[7], "code"), "4.05");
  EXPECT_TRUE(Contains(Text(results[8], "payload"), "</text.txt>;obs;ct=0"));
}

TEST_F(NodeInterop, ItsClientObservesOurServer) {
  folder_.Write("state", "0");
  Served served(folder_.path(), {"--poll=50ms"});
  std::thread writer([&] {
    for (int i = 1; i < 12; ++i) {
      std::this_thread::sleep_for(milliseconds(400));
      folder_.Write("state", std::to_string(i));
    }
  });
  const Json requests = {{{"port", served.port()}, {"path", "/state"}, {"observe", 3}}};
  const Json results = Ask(requests);
  writer.join();
  ASSERT_TRUE(results[0].contains("seen")) << results.dump();
  int last = -1;
  for (const Json& one : results[0]["seen"]) {
    EXPECT_GT(std::stoi(one.get<std::string>()), last) << results.dump();
    last = std::stoi(one.get<std::string>());
  }
}

/// Its server, and what we do with it.
class NodeServer : public NodeInterop {
 protected:
  void SetUp() override {
    NodeInterop::SetUp();
    if (IsSkipped()) return;
    server_ = std::make_unique<Background>(
        std::vector<std::string>{FindProgram("node"), WAXVM_COAP_NODE, WAXVM_NPM_FOLDER, "serve",
                                 std::to_string(FreePort())});
    port_ = static_cast<std::uint16_t>(std::atoi(server_->ReadLine().c_str()));
    ASSERT_NE(port_, 0);
  }
  void Use(const std::string& base) {
    Completed done = RunCoap({"get", "-v", base + "/text"});
    EXPECT_EQ(done.exit_code, 0) << done.error;
    EXPECT_EQ(done.output, "a text");
    EXPECT_TRUE(Contains(done.error, "Content-Format: text/plain")) << done.error;
    EXPECT_EQ(RunCoap({"get", "--non", base + "/text"}).output, "a text");
    EXPECT_TRUE(RunCoap({"get", base + "/large"}).output == LongText(20'000));
    EXPECT_EQ(RunCoap({"get", base + "/query?a=1&b=2"}).output, "/query?a=1&b=2");
    EXPECT_EQ(RunCoap({"put", "--data=put", base + "/store"}).exit_code, 0);
    EXPECT_EQ(RunCoap({"get", base + "/store"}).output, "put");
    EXPECT_EQ(RunCoap({"post", base + "/store"}, LongText(1000)).exit_code, 0);
    EXPECT_TRUE(RunCoap({"get", base + "/store"}).output == LongText(1000));
    // Known: its server finds the blocks of a body by their token, which is another one in each of
    // our requests. RFC 7959 section 2.5 has them found by client and resource.
    done = RunCoap({"put", base + "/store"}, LongText(5000));
    EXPECT_EQ(done.exit_code, 5);
    EXPECT_TRUE(Contains(done.error, "Byte offset not the next in line")) << done.error;
    EXPECT_EQ(RunCoap({"delete", base + "/store"}).exit_code, 0);
    EXPECT_EQ(RunCoap({"get", base + "/store"}).output, "");
    done = RunCoap({"get", base + "/none"});
    EXPECT_EQ(done.exit_code, 4);
    EXPECT_EQ(done.error, "waxvm: 4.04 Not Found: nothing here\n");
    EXPECT_EQ(RunCoap({"get", base + "/failure"}).exit_code, 5);
    done = RunCoap({"observe", "--count=4", base + "/count"});
    EXPECT_EQ(done.exit_code, 0) << done.error;
    EXPECT_EQ(std::count(done.output.begin(), done.output.end(), '\n'), 4) << done.output;
  }

  std::unique_ptr<Background> server_;
  std::uint16_t port_ = 0;
};

TEST_F(NodeServer, OurClientAndItsServer) { Use(UriOf(port_, "")); }

TEST_F(NodeServer, OurClientAndItsServerWithLosses) {
  LossyRelay relay(port_, kLoss, 5);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(RunCoap({"get", relay.Uri("/text")}).output, "a text");
  EXPECT_TRUE(RunCoap({"get", relay.Uri("/large")}).output == LongText(20'000));
  EXPECT_EQ(RunCoap({"put", "--data=put", relay.Uri("/store")}).exit_code, 0);
  EXPECT_EQ(RunCoap({"get", relay.Uri("/store")}).output, "put");
  EXPECT_GE(relay.lost(), 3) << "of " << relay.passed();
}

}  // namespace
}  // namespace waxvm::coap
