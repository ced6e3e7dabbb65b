// SPDX-License-Identifier: Apache-2.0
// waxvm coap, both sides of it, as a user runs them.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "tests/coap/command.h"

namespace waxvm::coap {
namespace {

using std::chrono::milliseconds;
namespace fs = std::filesystem;

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != text.npos;
}

std::size_t LinesOf(const std::string& text) {
  return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

/// Sends as many GETs with these Uri-Path options, whatever is in them, from one socket, and
/// returns the responses' codes; -1: none came.
std::vector<int> RawGets(std::uint16_t port, const std::vector<std::string>& path, int count,
                         std::string* answers = nullptr) {
  std::string bytes("\x41\x01\x00\x00t", 5);
  int last = 0;
  for (const std::string& segment : path) {
    const int delta = 11 - last;
    last = 11;
    if (segment.size() < 13) {
      bytes.push_back(static_cast<char>(delta << 4 | static_cast<int>(segment.size())));
    } else {
      bytes.push_back(static_cast<char>(delta << 4 | 13));
      bytes.push_back(static_cast<char>(segment.size() - 13));
    }
    bytes += segment;
  }
  const int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_in6 server = {};
  server.sin6_family = AF_INET6;
  server.sin6_addr = in6addr_loopback;
  server.sin6_port = htons(port);
  std::vector<int> codes;
  for (int i = 0; i < count; ++i) {
    bytes[3] = static_cast<char>(i);
    (void)sendto(fd, bytes.data(), bytes.size(), 0, reinterpret_cast<const sockaddr*>(&server),
                 sizeof server);
    pollfd readable = {fd, POLLIN, 0};
    unsigned char answer[2048] = {};
    const ssize_t bytes_came =
        poll(&readable, 1, 5000) > 0 ? recv(fd, answer, sizeof answer, 0) : -1;
    const bool came = bytes_came >= 4;
    if (came && answers != nullptr)
      answers->append(reinterpret_cast<const char*>(answer), static_cast<std::size_t>(bytes_came));
    codes.push_back(came ? (answer[1] >> 5) * 100 + (answer[1] & 31) : -1);
  }
  close(fd);
  return codes;
}

int RawGet(std::uint16_t port, const std::vector<std::string>& path) {
  return RawGets(port, path, 1).front();
}

TEST(CoapCommand, GetsPutsAndDeletes) {
  TempFolder folder;
  folder.Write("a.txt", "hello\n");
  folder.Write("sub/b.json", "{\"x\": 1}");
  Served served(folder.path(), {"--writable"});
  EXPECT_EQ(served.line(), "serves " + served.Uri("/"));
  Completed done = RunCoap({"get", served.Uri("/a.txt")});
  EXPECT_EQ(done.exit_code, 0) << done.error;
  EXPECT_EQ(done.output, "hello\n");
  EXPECT_EQ(done.error, "");
  EXPECT_EQ(RunCoap({"get", "--non", served.Uri("/sub/b.json")}).output, "{\"x\": 1}");
  // A body that is no text, in blocks, from a file and from standard input.
  std::string bytes = LongText(100'000);
  for (std::size_t i = 0; i < bytes.size(); i += 7) bytes[i] = static_cast<char>(i);
  folder.Write(".source", bytes);
  done = RunCoap({"put", "--file=" + folder / ".source", served.Uri("/new.bin")});
  EXPECT_EQ(done.exit_code, 0) << done.error;
  EXPECT_EQ(done.output, "");
  EXPECT_TRUE(support::ReadFile(folder / "new.bin") == bytes);
  EXPECT_TRUE(RunCoap({"get", served.Uri("/new.bin")}).output == bytes);
  EXPECT_TRUE(RunCoap({"get", "--block-size=64", served.Uri("/new.bin")}).output == bytes);
  EXPECT_EQ(RunCoap({"put", served.Uri("/new.bin")}, "short").exit_code, 0);
  EXPECT_EQ(support::ReadFile(folder / "new.bin"), "short");
  EXPECT_EQ(RunCoap({"put", "--data", "-v", "-v", served.Uri("/v")}).exit_code, 0);
  EXPECT_EQ(support::ReadFile(folder / "v"), "-v");
  EXPECT_EQ(RunCoap({"delete", served.Uri("/new.bin")}).exit_code, 0);
  EXPECT_FALSE(fs::exists(folder / "new.bin"));
  done = RunCoap({"get", served.Uri("/new.bin")});
  EXPECT_EQ(done.exit_code, 4);
  EXPECT_EQ(done.output, "");
  EXPECT_EQ(done.error, "waxvm: 4.04 Not Found: there is no such file\n");
  // Neither is made by those who only read.
  Served reader(folder.path());
  EXPECT_EQ(RunCoap({"put", "--data=x", reader.Uri("/a.txt")}).exit_code, 4);
  EXPECT_EQ(RunCoap({"delete", reader.Uri("/a.txt")}).exit_code, 4);
  EXPECT_EQ(support::ReadFile(folder / "a.txt"), "hello\n");
  EXPECT_EQ(served.Stop(SIGTERM), 0);
  EXPECT_EQ(reader.Stop(SIGINT), 0);
}

TEST(CoapCommand, SaysMoreWhereAsked) {
  TempFolder folder;
  folder.Write("a.json", "{}");
  Served served(folder.path());
  Completed done = RunCoap({"get", "-v", served.Uri("/a.json?q")});
  EXPECT_EQ(done.output, "{}");
  EXPECT_TRUE(Contains(done.error, "> GET /a.json?q to [::1]:")) << done.error;
  EXPECT_TRUE(Contains(done.error, "< 2.05 Content from [::1]:")) << done.error;
  EXPECT_TRUE(Contains(done.error, "ms, 2 bytes")) << done.error;
  EXPECT_TRUE(Contains(done.error, "Content-Format: application/json")) << done.error;
  EXPECT_TRUE(Contains(done.error, "ETag: ")) << done.error;
  done = RunCoap({"get", "--json", served.Uri("/a.json")});
  EXPECT_EQ(done.exit_code, 0);
  EXPECT_EQ(LinesOf(done.output), 1u);
  EXPECT_TRUE(Contains(done.output, "\"code\":\"2.05\"")) << done.output;
  EXPECT_TRUE(Contains(done.output, "{\"number\":12,\"name\":\"Content-Format\",\"value\":50}"))
      << done.output;
  EXPECT_TRUE(Contains(done.output, "\"payload\":\"{}\"")) << done.output;
  folder.Write("b.bin", "\xff\x00z");
  EXPECT_TRUE(
      Contains(RunCoap({"get", "--json", served.Uri("/b.bin")}).output, "\"payload_hex\":\"ff\""));
  done = RunCoap({"get", "--json", served.Uri("/none")});
  EXPECT_EQ(done.exit_code, 4);
  EXPECT_TRUE(Contains(done.output, "\"code\":\"4.04\"")) << done.output;
  // What it has already is not sent again.
  const std::string text = RunCoap({"get", "-v", served.Uri("/a.json")}).error;
  const std::string etag = text.substr(text.find("ETag: ") + 6, 16);
  done = RunCoap({"get", "-v", "--etag=" + etag, served.Uri("/a.json")});
  EXPECT_EQ(done.exit_code, 0);
  EXPECT_EQ(done.output, "");
  EXPECT_TRUE(Contains(done.error, "< 2.03 Valid")) << done.error;
  EXPECT_EQ(RunCoap({"get", "--accept=application/cbor", served.Uri("/a.json")}).exit_code, 4);
  EXPECT_EQ(RunCoap({"get", "--accept=50", served.Uri("/a.json")}).output, "{}");
}

TEST(CoapCommand, ConditionsProtectWhatIsThere) {
  TempFolder folder;
  folder.Write("a.txt", "one");
  Served served(folder.path(), {"--writable"});
  const std::string uri = served.Uri("/a.txt");
  EXPECT_EQ(RunCoap({"put", "--data=x", "--if-none-match", uri}).exit_code, 4);
  EXPECT_EQ(RunCoap({"put", "--data=x", "--if-match=0011", uri}).exit_code, 4);
  EXPECT_EQ(RunCoap({"put", "--data=x", "--content-format=application/cbor", uri}).exit_code, 4);
  EXPECT_EQ(support::ReadFile(folder / "a.txt"), "one");
  const std::string text = RunCoap({"get", "-v", uri}).error;
  const std::string etag = text.substr(text.find("ETag: ") + 6, 16);
  EXPECT_EQ(RunCoap({"put", "--data=two", "--if-match=" + etag, uri}).exit_code, 0);
  EXPECT_EQ(support::ReadFile(folder / "a.txt"), "two");
  EXPECT_EQ(RunCoap({"delete", "--if-match=" + etag, uri}).exit_code, 4);
  EXPECT_EQ(RunCoap({"put", "--data=y", "--if-none-match", served.Uri("/b")}).exit_code, 0);
  EXPECT_EQ(support::ReadFile(folder / "b"), "y");
}

TEST(CoapCommand, ExitCodesTellWhy) {
  const std::string nobody = "coap://[::1]:" + std::to_string(FreePort()) + "/x";
  Completed done = RunCoap({"get", nobody});
  EXPECT_EQ(done.exit_code, 6) << done.error;
  EXPECT_EQ(LinesOf(done.error), 1u) << done.error;
  // Somebody who never answers.
  const int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_in6 address = {};
  address.sin6_family = AF_INET6;
  address.sin6_addr = in6addr_loopback;
  socklen_t size = sizeof address;
  ASSERT_EQ(bind(fd, reinterpret_cast<const sockaddr*>(&address), size), 0);
  ASSERT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const std::string silent = "coap://[::1]:" + std::to_string(ntohs(address.sin6_port)) + "/x";
  for (const char* verb : {"get", "observe"}) {
    const auto start = std::chrono::steady_clock::now();
    done = RunCoap({verb, "--timeout=300ms", silent});
    EXPECT_EQ(done.exit_code, 124) << done.error;
    EXPECT_TRUE(Contains(done.error, "no answer from [::1]:")) << done.error;
    EXPECT_GE(std::chrono::steady_clock::now() - start, milliseconds(300));
  }
  close(fd);
}

TEST(CoapCommand, BadInputIsOneLine) {
  struct Case {
    std::vector<std::string> arguments;
    std::string said;
  };
  const std::vector<Case> kCases = {
      {{"get"}, "write waxvm coap get"},
      {{"get", "coap://[::1]/a", "coap://[::1]/b"}, "write waxvm coap get"},
      {{"get", "http://[::1]/a"}, "http"},
      {{"get", "coaps://[::1]/a"}, "coaps is not spoken here"},
      {{"get", "coap+tcp://[::1]/a"}, "coap+tcp is not spoken here"},
      {{"get", "[::1]/a"}, "'[::1]/a'"},
      {{"get", "coap://[::1/a"}, "'coap://[::1/a'"},
      {{"get", "coap://[::1]:99999/a"}, "'coap://[::1]:99999/a'"},
      {{"get", "coap://[::1]:0/a"}, "'0' is no port"},
      {{"get", "coap://[::1]/a#b"}, "'coap://[::1]/a#b'"},
      {{"get", "coap://[::1]/\x1b[31m"}, "\\x1b[31m"},
      {{"get", "--timeout=0s", "coap://[::1]/a"}, "--timeout must be more than 0"},
      {{"get", "--timeout=soon", "coap://[::1]/a"}, "--timeout"},
      {{"get", "--accept=text/nothing", "coap://[::1]/a"}, "--accept: 'text/nothing'"},
      {{"get", "--accept=70000", "coap://[::1]/a"}, "--accept"},
      {{"get", "--etag=xyz", "coap://[::1]/a"}, "--etag: 'xyz'"},
      {{"get", "--etag=001122334455667788", "coap://[::1]/a"}, "ETag"},
      {{"get", "--block-size=100", "coap://[::1]/a"}, "--block-size is 16"},
      {{"get", "--tiemout=1s", "coap://[::1]/a"}, "did you mean --timeout?"},
      {{"get", "--interface=none0", "coap://[ff02::1]/a"}, "no interface 'none0'"},
      {{"put", "--data=x", "--file=y", "coap://[::1]/a"}, "not both"},
      {{"put", "--file=/nonexistent", "coap://[::1]/a"}, "/nonexistent"},
      {{"observe", "--count=-1", "coap://[::1]/a"}, "--count"},
      {{"observe", "coap://[ff02::1]/a"}, "a group cannot be observed"},
      {{"publish", "--data=x", "coap://[::1]/a"}, "is no group"},
      {{"publish", "--data=" + std::string(1025, 'x'), "coap://[ff02::1]/a"}, "1024 is the most"},
      {{"publish", "--hops=0x", "--data=x", "coap://[ff02::1]/a"}, "--hops"},
      {{"subscribe", "coap://127.0.0.1/a"}, "is no group"},
      {{"serve"}, "write waxvm coap serve"},
      {{"serve", "/nonexistent"}, "/nonexistent"},
      {{"serve", "--listen=here", "/"}, "--listen"},
      {{"serve", "--echo=maybe", "/"}, "--echo is auto, yes or no"},
      {{"serve", "--max-file=big", "/"}, "--max-file"},
      {{"serve", "--listen=[2001:db8::1]:5683", "/usr/include/linux"}, "2001:db8::1"},
      {{"give", "coap://[::1]/a"}, "does not know 'give'"}};
  TempFolder home;
  for (const Case& one : kCases) {
    std::vector<std::string> arguments = one.arguments;
    const Completed done = RunCoap(arguments);
    EXPECT_EQ(done.exit_code, 125) << one.said << ": " << done.error;
    EXPECT_EQ(done.output, "") << one.said;
    EXPECT_EQ(LinesOf(done.error), 1u) << done.error;
    EXPECT_TRUE(Contains(done.error, one.said)) << one.said << ": " << done.error;
  }
  for (const char* name : {"nobody", "nobody.internal", "a.b.c.internal"}) {
    const Completed done =
        RunCoap({"get", "--folder=" + home.path(), std::string("coap://") + name + "/x"});
    EXPECT_EQ(done.exit_code, 125) << done.error;
    EXPECT_EQ(LinesOf(done.error), 1u) << done.error;
  }
  const Completed help = RunCoap({"--help"});
  EXPECT_EQ(help.exit_code, 0);
  for (const char* part : {"waxvm coap get", "waxvm coap serve", "exit codes of coap:", "124"})
    EXPECT_TRUE(Contains(help.output, part)) << part;
}

TEST(CoapCommand, ObservesAFileThatChanges) {
  TempFolder folder;
  folder.Write("state", "0");
  Served served(folder.path(), {"--poll=50ms"});
  Background observer({WAXVM_COMMAND, "coap", "observe", "--count=3", served.Uri("/state")});
  EXPECT_EQ(observer.ReadLine(), "0");
  folder.Write("state", "1");
  EXPECT_EQ(observer.ReadLine(), "1");
  folder.Write("state", "22");
  std::string rest;
  EXPECT_EQ(observer.WaitFor(rest), 0);
  EXPECT_EQ(rest, "22\n");
  // Long ones come whole; what is removed ends it.
  Background longer({WAXVM_COMMAND, "coap", "observe", served.Uri("/state")});
  EXPECT_EQ(longer.ReadLine(), "22");
  const std::string text = LongText(5000);
  folder.Write("state", text);
  EXPECT_EQ(longer.ReadLine(), text);
  fs::remove(folder / "state");
  rest.clear();
  EXPECT_EQ(longer.WaitFor(rest), 4);
  EXPECT_EQ(rest, "");
  // A signal ends it as well.
  folder.Write("other", "x");
  for (int i = 0; i < 100 && RunCoap({"get", served.Uri("/other")}).exit_code != 0; ++i) {
  }
  std::this_thread::sleep_for(milliseconds(300));
  Background stopped({WAXVM_COMMAND, "coap", "observe", served.Uri("/other")});
  EXPECT_EQ(stopped.ReadLine(), "x");
  EXPECT_EQ(stopped.Stop(SIGINT), 0);
  // The list of resources is none that can be observed.
  const Completed once = RunCoap({"observe", served.Uri("/.well-known/core")});
  EXPECT_EQ(once.exit_code, 1) << once.error;
  EXPECT_TRUE(Contains(once.error, "cannot be observed")) << once.error;
}

TEST(CoapCommand, ListsWhatItServes) {
  TempFolder folder;
  folder.Write("a.json", "{}");
  folder.Write("two words.txt", "x");
  folder.Write("sub/deep/c.cbor", "\xa0");
  folder.Write("sub/\xc3\xa4<>\"%", "x");
  folder.Write(".hidden", "x");
  folder.Write(".git/config", "x");
  Served served(folder.path(), {"--poll=50ms"});
  const Completed all = RunCoap({"get", served.Uri("/.well-known/core")});
  EXPECT_EQ(all.exit_code, 0) << all.error;
  for (const char* part : {"</a.json>;obs;ct=50", "</two%20words.txt>;obs;ct=0",
                           "</sub/deep/c.cbor>;obs;ct=60", "</sub/%C3%A4%3C%3E%22%25>;obs;ct=42"})
    EXPECT_TRUE(Contains(all.output, part)) << part << " in " << all.output;
  EXPECT_FALSE(Contains(all.output, "hidden")) << all.output;
  EXPECT_FALSE(Contains(all.output, "git")) << all.output;
  EXPECT_EQ(RunCoap({"get", served.Uri("/two%20words.txt")}).output, "x");
  EXPECT_EQ(RunCoap({"get", served.Uri("/sub/%C3%A4%3C%3E%22%25")}).output, "x");
  EXPECT_EQ(RunCoap({"get", served.Uri("/.hidden")}).exit_code, 4);
  EXPECT_EQ(RunCoap({"get", served.Uri("/.git/config")}).exit_code, 4);
  EXPECT_EQ(RunCoap({"get", served.Uri("/sub")}).exit_code, 4);
  EXPECT_EQ(RunCoap({"get", served.Uri("/")}).exit_code, 4);
  EXPECT_EQ(RunCoap({"get", served.Uri("/.well-known/core?href=/a*")}).output,
            "</a.json>;obs;ct=50");
  // What is new is served at once and listed soon, what is gone is neither.
  folder.Write("new", "n");
  EXPECT_EQ(RunCoap({"get", served.Uri("/new")}).output, "n");
  fs::remove(folder / "a.json");
  EXPECT_EQ(RunCoap({"get", served.Uri("/a.json")}).exit_code, 4);
  std::string list;
  for (int i = 0; i < 100 && (!Contains(list, "</new>") || Contains(list, "</a.json>")); ++i)
    list = RunCoap({"get", served.Uri("/.well-known/core")}).output;
  EXPECT_TRUE(Contains(list, "</new>")) << list;
  EXPECT_FALSE(Contains(list, "</a.json>")) << list;
}

TEST(CoapCommand, TheFolderIsNeverLeft) {
  TempFolder outside;
  outside.Write("secret", "secret");
  outside.Write("folder/secret", "secret");
  TempFolder folder;
  folder.Write("sub/inside", "inside");
  fs::create_symlink(outside / "secret", folder / "link");
  fs::create_symlink(outside / "folder", folder / "links");
  fs::create_symlink("sub/inside", folder / "harmless");
  fs::create_symlink("/proc/self/root", folder / "root");
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  Served served(folder.path(), {"--writable"});
  const std::string up = outside.path().substr(outside.path().rfind('/') + 1);
  const std::vector<std::vector<std::string>> kPaths = {
      {"link"},
      {"links", "secret"},
      {"harmless"},  // no link at all is followed: which ones are harmless may change
      {"root", "etc", "passwd"},
      {"pipe"},
      {".."},
      {"..", up, "secret"},
      {"sub", "..", "..", up, "secret"},
      {"../" + up + "/secret"},
      {"sub/inside"},
      {"sub", "", "inside"},
      {"", "etc", "passwd"},
      {outside / "secret"},
      {"."},
      {"sub", ".", "inside"},
      {std::string("sub\0", 4), "inside"},
      {"sub", std::string("inside\0", 7)}};
  for (const auto& path : kPaths) {
    // Dots are no segments that an option may have. Spec: RFC 7252 section 5.10.1.
    const bool dots = std::count(path.begin(), path.end(), ".") != 0 ||
                      std::count(path.begin(), path.end(), "..") != 0;
    EXPECT_EQ(RawGet(served.port(), path), dots ? 402 : 404) << path.back();
  }
  EXPECT_EQ(RawGet(served.port(), {"sub", "inside"}), 205);
  // Nothing is written through one either.
  EXPECT_EQ(RunCoap({"put", "--data=x", served.Uri("/link")}).exit_code, 4);
  EXPECT_EQ(RunCoap({"put", "--data=x", served.Uri("/links/secret")}).exit_code, 4);
  EXPECT_EQ(RunCoap({"put", "--data=x", served.Uri("/links/new")}).exit_code, 4);
  EXPECT_EQ(RunCoap({"put", "--data=x", served.Uri("/none/new")}).exit_code, 4);
  EXPECT_EQ(RunCoap({"put", "--data=x", served.Uri("/sub")}).exit_code, 4);
  EXPECT_EQ(RunCoap({"put", "--data=x", served.Uri("/.hidden")}).exit_code, 4);
  EXPECT_EQ(RunCoap({"delete", served.Uri("/link")}).exit_code, 0) << "there is nothing there";
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_EQ(support::ReadFile(outside / "secret"), "secret");
  EXPECT_EQ(support::ReadFile(outside / "folder/secret"), "secret");
  EXPECT_FALSE(fs::exists(outside / "folder/new"));
  const std::string list = RunCoap({"get", served.Uri("/.well-known/core")}).output;
  EXPECT_EQ(list, "</sub/inside>;obs;ct=42");
}

TEST(CoapCommand, AFileThatBecomesALinkMeanwhileIsNotFollowed) {
  TempFolder outside;
  outside.Write("d/f", "secret");
  TempFolder folder;
  folder.Write("d/f", "inside");
  Served served(folder.path());
  std::atomic<bool> stop = false;
  std::thread flipper([&] {
    while (!stop) {
      fs::rename(folder / "d", folder / ".kept");
      fs::create_symlink(outside / "d", folder / "d");
      fs::remove(folder / "d");
      fs::rename(folder / ".kept", folder / "d");
    }
  });
  std::ptrdiff_t found = 0, refused = 0;
  std::string answers;
  for (int i = 0; i < 20; ++i) {
    const std::vector<int> codes = RawGets(served.port(), {"d", "f"}, 200, &answers);
    found += std::count(codes.begin(), codes.end(), 205);
    refused += std::count(codes.begin(), codes.end(), 404);
  }
  stop = true;
  flipper.join();
  EXPECT_EQ(found + refused, 4000);
  EXPECT_GT(found, 0);
  EXPECT_TRUE(Contains(answers, "inside"));
  EXPECT_FALSE(Contains(answers, "secret"));
}

TEST(CoapCommand, LimitsHold) {
  TempFolder folder;
  folder.Write("large", std::string(5000, 'x'));
  Served served(folder.path(), {"--writable", "--max-file=4000"});
  EXPECT_EQ(RunCoap({"get", served.Uri("/large")}).exit_code, 5);
  EXPECT_EQ(RunCoap({"put", served.Uri("/more")}, std::string(4001, 'x')).exit_code, 4);
  EXPECT_FALSE(fs::exists(folder / "more"));
  EXPECT_EQ(RunCoap({"put", served.Uri("/more")}, std::string(4000, 'x')).exit_code, 0);
  Served limited(folder.path(), {"--rate=1"});
  // What may come at once, and what comes in the second or so that this takes.
  const std::vector<int> codes = RawGets(limited.port(), {"more"}, 100);
  EXPECT_GE(std::count(codes.begin(), codes.end(), 205), 32);
  EXPECT_GE(std::count(codes.begin(), codes.end(), 429), 50);
  // Another port does not make it another peer.
  EXPECT_EQ(RawGet(limited.port(), {"more"}), 429);
}

TEST(CoapCommand, PeersProveTheirAddressWhereAsked) {
  TempFolder folder;
  folder.Write("large", LongText(20'000));
  Served served(folder.path(), {"--echo=yes"});
  const Completed done = RunCoap({"get", "-v", served.Uri("/large")});
  EXPECT_EQ(done.exit_code, 0) << done.error;
  EXPECT_TRUE(done.output == LongText(20'000));
  EXPECT_EQ(RunCoap({"observe", "--count=1", served.Uri("/large")}).exit_code, 0);
  // One that does not is sent no more than three times what it sent.
  EXPECT_EQ(RawGet(served.port(), {"large"}), 401);
}

TEST(CoapCommand, SpeaksIpv4AndLocalhost) {
  TempFolder folder;
  folder.Write("a", "x");
  Background server(
      {WAXVM_COMMAND, "coap", "serve", "--json", "--listen=127.0.0.1:0", folder.path()});
  const std::string line = server.ReadLine();
  ASSERT_TRUE(Contains(line, "\"address\":\"[::ffff:127.0.0.1]:")) << line;
  const std::size_t at = line.find("]:") + 2;
  const std::string port = line.substr(at, line.find('"', at) - at);
  EXPECT_EQ(RunCoap({"get", "coap://127.0.0.1:" + port + "/a"}).output, "x");
  Served served(folder.path());
  EXPECT_EQ(RunCoap({"get", "coap://localhost:" + std::to_string(served.port()) + "/a"}).output,
            "x");
}

/// The value of a field in what a command printed with --json.
std::string FieldOf(const std::string& json, const std::string& name) {
  const std::size_t at = json.find("\"" + name + "\": \"");
  if (at == json.npos) return "";
  const std::size_t from = at + name.size() + 5;
  return json.substr(from, json.find('"', from) - from);
}

class CoapNames : public testing::Test {
 protected:
  CoapNames() {
    for (const char* name : {"node", "host"}) Waxvm({"key", "new", name});
    node_ = FieldOf(Waxvm({"key", "show", "node", "--json"}).output, "base32");
    Waxvm({"advert", "make", "--type=vm", "--key=node", "--host-key=host",
           "--service=coap,udp,7001", "--output=" + folder_ / "vm"});
    RunProgram({WAXVM_COMMAND, "name", "set", "thermostat", node_, "--folder=" + folder_.path(),
                "--advert=" + folder_ / "vm"});
    address_ = FieldOf(
        RunProgram({WAXVM_COMMAND, "advert", "show", "--json", folder_ / "vm"}).output, "address");
  }
  Completed Waxvm(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), WAXVM_COMMAND);
    arguments.push_back("--store=" + folder_ / "keys");
    return RunProgram(arguments);
  }
  TempFolder folder_;
  std::string node_, address_;
};

TEST_F(CoapNames, LeadToWhereTheAdvertSays) {
  ASSERT_FALSE(address_.empty());
  const std::string served = "[" + address_ + "]:7001";
  const std::vector<std::pair<std::string, std::string>> kNames = {
      {"thermostat", served},
      {"THERMOSTAT.internal", served},
      {node_, served},
      {node_ + ".internal", served},
      {"thermostat.internal:7002", "[" + address_ + "]:7002"}};
  for (const auto& [name, peer] : kNames) {
    for (const bool files : {false, true}) {
      std::vector<std::string> arguments = {"get", "-v", "--timeout=10ms"};
      if (files) {
        arguments.push_back("--directory=" + folder_ / "directory");
        arguments.push_back("--petnames=" + folder_ / "names");
      } else {
        arguments.push_back("--folder=" + folder_.path());
      }
      arguments.push_back("coap://" + name + "/t");
      const Completed done = RunCoap(arguments);
      EXPECT_TRUE(Contains(done.error, "> GET /t to " + peer)) << name << ": " << done.error;
    }
  }
}

// In a network of its own, where the address can be given to the loopback interface.
TEST_F(CoapNames, AreAskedByName) {
  if (RunProgram({"/usr/bin/unshare", "-rn", "ip", "link", "set", "lo", "up"}).exit_code != 0)
    GTEST_SKIP() << "no network namespace can be made here, or there is no ip";
  folder_.Write("www/t", "21.5");
  const std::string script =
      "ip link set lo up && ip addr add " + address_ + "/128 dev lo || exit 99\n" + WAXVM_COMMAND +
      " coap serve --listen='[" + address_ + "]:7001' " + folder_ / "www" +
      " & server=$!; sleep 1; " + WAXVM_COMMAND + " coap get --folder=" + folder_.path() +
      " coap://thermostat.internal/t; code=$?; kill $server; wait $server; exit $code";
  const Completed done = RunProgram({"/usr/bin/unshare", "-rn", "/bin/sh", "-c", script});
  EXPECT_EQ(done.exit_code, 0) << done.error;
  EXPECT_TRUE(Contains(done.output, "21.5")) << done.output << done.error;
}

/// An interface that carries multicast; "" where there is none.
std::string MulticastInterface() {
  ifaddrs* all = nullptr;
  std::string name;
  if (getifaddrs(&all) != 0) return name;
  for (const ifaddrs* at = all; at != nullptr; at = at->ifa_next) {
    const unsigned wanted = IFF_UP | IFF_MULTICAST;
    if (at->ifa_addr != nullptr && at->ifa_addr->sa_family == AF_INET6 &&
        (at->ifa_flags & wanted) == wanted)
      name = at->ifa_name;
  }
  freeifaddrs(all);
  return name;
}

TEST(CoapCommand, PublishesToThoseWhoSubscribed) {
  const std::string interface = MulticastInterface();
  if (interface.empty()) GTEST_SKIP() << "no interface with IPv6 multicast";
  const std::string flag = "--interface=" + interface;
  // Of interface-local scope: what is published never leaves this host.
  const std::string group = "coap://[ff11::77:3]:" + std::to_string(FreePort());
  Background all({WAXVM_COMMAND, "coap", "subscribe", flag, "--count=2", group + "/"});
  Background some(
      {WAXVM_COMMAND, "coap", "subscribe", flag, "--count=1", "--json", group + "/weather"});
  std::this_thread::sleep_for(milliseconds(700));
  Completed done = RunCoap({"publish", flag, "-v", group + "/news"}, "first");
  EXPECT_EQ(done.exit_code, 0) << done.error;
  EXPECT_EQ(done.output, "");
  EXPECT_TRUE(Contains(done.error, "> POST /news to [ff11::77:3")) << done.error;
  EXPECT_EQ(RunCoap({"publish", flag, "--put", "--data=rain", group + "/weather/today"}).exit_code,
            0);
  std::string output;
  EXPECT_EQ(all.WaitFor(output), 0);
  EXPECT_EQ(output, "first\nrain\n");
  output.clear();
  EXPECT_EQ(some.WaitFor(output), 0);
  EXPECT_TRUE(Contains(output, "\"code\":\"0.03\"")) << output;
  EXPECT_TRUE(Contains(output, "\"payload\":\"rain\"")) << output;
  EXPECT_TRUE(Contains(output, "\"name\":\"No-Response\",\"value\":26")) << output;
  done = RunCoap({"subscribe", flag, "--timeout=200ms", group + "/"});
  EXPECT_EQ(done.exit_code, 124) << done.error;
}

TEST(CoapExamples, ServeAndAsk) {
  Background server({WAXVM_SERVE_RESOURCE});
  const std::string uri = server.ReadLine();
  Completed done = RunProgram({WAXVM_ASK_RESOURCE, uri});
  EXPECT_EQ(done.output, "2.05 Content: nothing yet\n") << done.error;
  EXPECT_EQ(done.exit_code, 0);
  done = RunProgram({WAXVM_ASK_RESOURCE, uri, "buy milk"});
  EXPECT_EQ(done.output, "2.04 Changed\n2.05 Content: buy milk\n") << done.error;
  EXPECT_EQ(RunCoap({"get", uri}).output, "buy milk");
  done = RunProgram({WAXVM_ASK_RESOURCE, uri + "s"});
  EXPECT_EQ(done.output, "4.04 Not Found\n") << done.error;
  EXPECT_EQ(done.exit_code, 1);
}

TEST(CoapCommand, ATopicIsAGroupOfItsKey) {
  const std::string key(52, 'a');
  const Completed done = RunCoap({"publish", "-v", "--data=x", "coap://" + key + ".internal/t"});
  EXPECT_TRUE(Contains(done.error, "to [ff18:")) << done.error;
}

}  // namespace
}  // namespace waxvm::coap
