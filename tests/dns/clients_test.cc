// SPDX-License-Identifier: Apache-2.0
// The server as ordinary programs see it: dig, a resolver with a stub zone, the C library.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "src/base/strings.h"
#include "src/base/unique_fd.h"
#include "src/dns/sockets.h"
#include "tests/dns/resolvers.h"
#include "tests/support/process.h"
#include "waxvm/dns.h"

namespace waxvm::dns {
namespace {

using support::Completed;

constexpr char kDig[] = "/usr/bin/dig";
constexpr char kGetent[] = "/usr/bin/getent";
constexpr char kKey[] = "6vq5ikaqhwlyxtyrpd5vwwrcvgdzxwsskmnhxn6y7b2sddnmkzya";

std::string Zone() {
  std::string zone =
      "sensor 60 AAAA fd00::1\n"
      "sensor TXT \"a b\" c\n"
      "_coap._udp.sensor SRV 0 0 5683 sensor\n"
      "web HTTPS 1 . alpn=h3,h2 port=8443\n"
      "four A 192.0.2.4\n";
  zone += std::string(kKey) + " AAAA fd00::52\n";
  for (int i = 0; i < 100; ++i) zone += absl::StrFormat("big AAAA fd00::1:%x\n", i + 1);
  return zone;
}

bool Installed(const char* program) { return access(program, X_OK) == 0; }

Completed RunToEnd(const std::vector<std::string>& arguments) {
  support::RunOptions options;
  options.limit = milliseconds(20'000);
  return support::Run(arguments, options);
}

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != text.npos;
}

class DnsClients : public testing::Test {
 protected:
  void SetUp() override {
    if (!Installed(kDig)) GTEST_SKIP() << kDig << " is not installed";
    auto server = DnsServer::Create(*StaticDnsSource::FromZone(Zone(), "internal"));
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    port_ = std::to_string(ParseEndpoint(server_->addresses()[0])->port());
  }
  /// What dig prints, asking the server or another port of the same host.
  std::string Dig(const std::vector<std::string>& words, const std::string& port = "") const {
    std::vector<std::string> all = {kDig,       "@::1",   "-p", port.empty() ? port_ : port,
                                    "+tries=1", "+time=5"};
    all.insert(all.end(), words.begin(), words.end());
    const Completed run = RunToEnd(all);
    // A message that dig finds wrong is a warning.
    EXPECT_FALSE(Contains(run.output, "Warning") || Contains(run.output, "malformed"))
        << run.output;
    return run.output + run.error;
  }

  std::unique_ptr<DnsServer> server_;
  std::string port_;
};

TEST_F(DnsClients, DigFindsTheRecords) {
  EXPECT_EQ(Dig({"+short", "AAAA", "sensor.internal"}), "fd00::1\n");
  EXPECT_EQ(Dig({"+short", "TXT", "sensor.internal"}), "\"a b\" \"c\"\n");
  EXPECT_EQ(Dig({"+short", "SRV", "_coap._udp.sensor.internal"}), "0 0 5683 sensor.internal.\n");
  EXPECT_EQ(Dig({"+short", "HTTPS", "web.internal"}), "1 . alpn=\"h3,h2\" port=8443\n");
  EXPECT_EQ(Dig({"+short", "A", "four.internal"}), "192.0.2.4\n");
  EXPECT_EQ(Dig({"+short", "AAAA", std::string(kKey) + ".internal"}), "fd00::52\n");
  EXPECT_EQ(Dig({"+short", "-x", "fd00::1"}), "sensor.internal.\n");
  EXPECT_EQ(Dig({"+short", "+tcp", "AAAA", "sensor.internal"}), "fd00::1\n");
  EXPECT_EQ(Dig({"+short", "NS", "internal"}), "localhost.\n");
}

TEST_F(DnsClients, DigSeesTheFlags) {
  const std::string answer = Dig({"AAAA", "SeNsOr.InTeRnAl"});
  EXPECT_TRUE(Contains(answer, "status: NOERROR")) << answer;
  EXPECT_TRUE(Contains(answer, "flags: qr aa rd;")) << answer;
  EXPECT_TRUE(Contains(answer, ";SeNsOr.InTeRnAl.")) << answer;
  EXPECT_TRUE(Contains(answer, "\nSeNsOr.InTeRnAl.\t60\tIN\tAAAA\tfd00::1")) << answer;
  EXPECT_TRUE(Contains(answer, "EDNS: version: 0, flags:; udp: 1232")) << answer;
  const std::string no_name = Dig({"AAAA", "nothing.internal"});
  EXPECT_TRUE(Contains(no_name, "status: NXDOMAIN")) << no_name;
  EXPECT_TRUE(Contains(no_name, "internal.\t\t5\tIN\tSOA\tlocalhost.")) << no_name;
  const std::string no_data = Dig({"A", "sensor.internal"});
  EXPECT_TRUE(Contains(no_data, "status: NOERROR")) << no_data;
  EXPECT_TRUE(Contains(no_data, "ANSWER: 0, AUTHORITY: 1")) << no_data;
  EXPECT_TRUE(Contains(Dig({"A", "example.com"}), "status: REFUSED"));
  EXPECT_TRUE(Contains(Dig({"TXT", "CH", "version.bind"}), "status: REFUSED"));
  EXPECT_TRUE(Contains(Dig({"+edns=1", "+noednsnegotiation", "AAAA", "sensor.internal"}),
                       "status: BADVERS"));
  for (const char* opcode : {"+opcode=1", "+opcode=2", "+opcode=4", "+opcode=5", "+opcode=6"})
    EXPECT_TRUE(Contains(Dig({opcode, "AAAA", "sensor.internal"}), "status: NOTIMP")) << opcode;
  EXPECT_TRUE(Contains(Dig({"+header-only", "AAAA", "sensor.internal"}), "status: FORMERR"));
  EXPECT_TRUE(Contains(Dig({"AXFR", "internal"}), "Transfer failed"));
  EXPECT_TRUE(Contains(Dig({"IXFR=1", "internal"}), "REFUSED") ||
              Contains(Dig({"IXFR=1", "internal"}), "Transfer failed"));
  const std::string any = Dig({"ANY", "sensor.internal"});
  EXPECT_TRUE(Contains(any, "ANSWER: 1")) << any;
  EXPECT_TRUE(Contains(any, "HINFO\t\"RFC8482\" \"\"")) << any;
}

TEST_F(DnsClients, DigComesBackOverTcp) {
  const std::string cut = Dig({"+ignore", "+bufsize=512", "AAAA", "big.internal"});
  EXPECT_TRUE(Contains(cut, "flags: qr aa tc rd;")) << cut;
  const std::string whole = Dig({"+bufsize=512", "AAAA", "big.internal"});
  EXPECT_TRUE(Contains(whole, "Truncated, retrying in TCP mode.")) << whole;
  EXPECT_TRUE(Contains(whole, "ANSWER: 100,")) << whole;
  const std::string large = Dig({"+bufsize=4096", "AAAA", "big.internal"});
  EXPECT_TRUE(Contains(large, "ANSWER: 100,") && Contains(large, "(UDP)")) << large;
  const std::string plain = Dig({"+noedns", "+ignore", "AAAA", "big.internal"});
  EXPECT_TRUE(Contains(plain, "flags: qr aa tc rd;")) << plain;
}

TEST_F(DnsClients, AResolverWithAStubZone) {
  if (!Installed(kUnbound)) GTEST_SKIP() << kUnbound << " is not installed";
  std::string folder = std::filesystem::temp_directory_path() / "waxvm-unbound-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  {
    const Unbound unbound(port_, folder);
    const auto ask = [&](const std::vector<std::string>& words) {
      return Dig(words, unbound.port());
    };
    EXPECT_EQ(ask({"+short", "AAAA", "sensor.internal"}), "fd00::1\n");
    EXPECT_EQ(ask({"+short", "SRV", "_coap._udp.sensor.internal"}), "0 0 5683 sensor.internal.\n");
    EXPECT_EQ(ask({"+short", "TXT", "sensor.internal"}), "\"a b\" \"c\"\n");
    EXPECT_EQ(ask({"+short", "HTTPS", "web.internal"}), "1 . alpn=\"h3,h2\" port=8443\n");
    EXPECT_EQ(ask({"+short", "-x", "fd00::1"}), "sensor.internal.\n") << "nibble by nibble";
    EXPECT_EQ(ask({"+short", "AAAA", std::string(kKey) + ".internal"}), "fd00::52\n");
    const std::string no_name = ask({"AAAA", "nothing.internal"});
    EXPECT_TRUE(Contains(no_name, "status: NXDOMAIN")) << no_name;
    const std::string no_data = ask({"A", "sensor.internal"});
    EXPECT_TRUE(Contains(no_data, "status: NOERROR") && Contains(no_data, "SOA")) << no_data;
    const std::string big = ask({"+tcp", "AAAA", "big.internal"});
    EXPECT_TRUE(Contains(big, "ANSWER: 100,")) << "unbound takes 1232 bytes, then TCP\n" << big;
    EXPECT_GT(server_->stats().tcp_answers, 0u);
  }
  std::filesystem::remove_all(folder);
}

/// What getent prints, with this resolv.conf. Runs in a child that is a machine of its own.
std::string GetentIn(const std::string& resolv_conf) {
  std::string folder = std::filesystem::temp_directory_path() / "waxvm-getent-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) return "skip: no temporary folder";
  std::ofstream(folder + "/resolv.conf") << resolv_conf;
  const UniqueFd output(memfd_create("getent", MFD_CLOEXEC));
  const pid_t child = fork();
  if (child == 0) {
    std::string text;
    if (const std::string reason = EnterOwnMachine(folder); !reason.empty()) {
      text = "skip: " + reason;
    } else {
      const auto server = DnsServer::Create(*StaticDnsSource::FromZone(Zone(), "internal"),
                                            {.listen = {"127.0.0.1:53", "[::1]:53"}});
      if (!server.ok()) text = "skip: " + std::string(ToStd(server.status().message()));
      const std::vector<std::vector<std::string>> all = {
          {"ahosts", "sensor.internal"}, {"hosts", "fd00::1"},  {"ahosts", "four.internal"},
          {"ahosts", "sensor"},          {"ahosts", "nothing"}, {"ahosts", "big"}};
      for (auto words : all) {
        if (!server.ok()) break;
        words.insert(words.begin(), kGetent);
        const Completed run = RunToEnd(words);
        text += absl::StrFormat("%s %d\n", words[2], run.exit_code) +
                (words[2] == "big" ? std::to_string(run.output.size() / 10) + "\n" : run.output);
      }
    }
    if (write(output.get(), text.data(), text.size()) < 0) _exit(1);
    _exit(0);
  }
  support::Wait(child, milliseconds(60'000));
  std::string text(65536, '\0');
  const ssize_t size = pread(output.get(), text.data(), text.size(), 0);
  text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  std::filesystem::remove_all(folder);
  return text;
}

TEST(DnsCLibrary, GetentThroughResolvConf) {
  if (!Installed(kGetent)) GTEST_SKIP() << kGetent << " is not installed";
  for (const char* how :
       {"nameserver 127.0.0.1\nsearch internal\n", "nameserver ::1\nsearch internal\n",
        "nameserver 127.0.0.1\nsearch internal\noptions use-vc\n",
        "nameserver ::1\nsearch internal\noptions edns0 trust-ad single-request\n"}) {
    const std::string text = GetentIn(how);
    if (text.starts_with("skip: ")) GTEST_SKIP() << text.substr(6);
    EXPECT_TRUE(Contains(text, "sensor.internal 0\nfd00::1         STREAM sensor.internal\n"))
        << how << text;
    EXPECT_TRUE(Contains(text, "fd00::1 0\nfd00::1         sensor.internal\n")) << how << text;
    EXPECT_TRUE(Contains(text, "four.internal 0\n192.0.2.4       STREAM four.internal\n"))
        << how << text;
    EXPECT_TRUE(Contains(text, "sensor 0\nfd00::1         STREAM sensor.internal\n"))
        << how << text;
    EXPECT_TRUE(Contains(text, "nothing 2\n")) << how << text;
    EXPECT_TRUE(Contains(text, "big 0\n")) << how << text;
  }
}

}  // namespace
}  // namespace waxvm::dns
