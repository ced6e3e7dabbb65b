// SPDX-License-Identifier: Apache-2.0
// `waxvm dns --directory`: names of adverts for ordinary programs.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <ctime>
#include <filesystem>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "src/base/strings.h"
#include "tests/dns/resolvers.h"
#include "tests/support/process.h"
#include "waxvm/advert.h"
#include "waxvm/directory.h"
#include "waxvm/petnames.h"

namespace waxvm::dns {
namespace {

using support::Completed;

constexpr char kDig[] = "/usr/bin/dig";
constexpr char kGetent[] = "/usr/bin/getent";

bool Installed(const char* program) { return access(program, X_OK) == 0; }

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != text.npos;
}

Completed RunToEnd(const std::vector<std::string>& arguments) {
  support::RunOptions options;
  options.limit = milliseconds(20'000);
  return support::Run(arguments, options);
}

/// `waxvm dns` in the background, from its line on.
class Server {
 public:
  explicit Server(std::vector<std::string> flags) {
    flags.insert(flags.begin(), {WAXVM_COMMAND, "dns"});
    int ends[2] = {-1, -1};
    if (pipe2(ends, O_CLOEXEC) != 0) return;
    child_ = support::Start(flags, {}, STDIN_FILENO, ends[1], STDERR_FILENO);
    close(ends[1]);
    char c = 0;
    pollfd readable = {ends[0], POLLIN, 0};
    while (poll(&readable, 1, 10'000) > 0 && read(ends[0], &c, 1) == 1 && c != '\n')
      line_.push_back(c);
    close(ends[0]);
  }
  ~Server() {
    if (child_ <= 0) return;
    kill(child_, SIGTERM);
    EXPECT_EQ(support::Wait(child_, milliseconds(10'000)), 0);
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  bool answers() const { return !line_.empty(); }
  std::string port() const { return line_.substr(line_.rfind(':') + 1); }

 private:
  pid_t child_ = -1;
  std::string line_;
};

class DnsAdverts : public testing::Test {
 protected:
  void SetUp() override {
    if (!Installed(kDig)) GTEST_SKIP() << kDig << " is not installed";
    folder_ = std::filesystem::temp_directory_path() / "waxvm-dns-adverts-XXXXXX";
    ASSERT_NE(mkdtemp(folder_.data()), nullptr);
    auto directory = OpenDirectory(folder_ + "/directory");
    ASSERT_TRUE(directory.ok()) << directory.status();
    directory_ = *std::move(directory);
    auto petnames = Petnames::Open(folder_ + "/names");
    ASSERT_TRUE(petnames.ok()) << petnames.status();
    petnames_.emplace(*std::move(petnames));
    ASSERT_TRUE(petnames_->Set("alice", alice_.public_key()).ok());
    ASSERT_TRUE(petnames_->Set("thermostat", vm_.public_key()).ok());
    address_ = PutVm(vm_).ToText();
    PutName("sensor", vm_);
    vm_name_ = vm_.public_key().ToBase32();
  }
  void TearDown() override {
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
  }
  Address PutVm(const SigningKey& key) {
    const auto made = *cga::Generate(key.public_key(), {.sec_code = cga::kSha256});
    Put(*Advert::Make(
        {.sequence = 1,
         .created = now_,
         .expires = now_ + 3600,
         .ttl = 60,
         .body = VmBody{.claim = {.address = made.address, .modifier = made.parameters.modifier},
                        .services = {{"coap", 17, 5683}, {"https", 6, 8443}}}},
        key, &host_));
    return made.address;
  }
  void PutName(const std::string& label, const SigningKey& target) {
    Put(*Advert::Make({.sequence = 1,
                       .created = now_,
                       .expires = now_ + 3600,
                       .ttl = 60,
                       .body = NameBody{.label = label, .target = target.public_key()}},
                      alice_));
  }
  void Put(const Advert& advert) {
    const absl::Status put = directory_->Put(std::span(&advert, 1)).front();
    ASSERT_TRUE(put.ok()) << put;
  }
  std::vector<std::string> Flags(const std::string& listen) const {
    return {"--listen=" + listen, "--directory=" + folder_ + "/directory",
            "--petnames=" + folder_ + "/names", "--record=written AAAA fd00::7"};
  }
  static std::string Dig(const std::string& port, const std::vector<std::string>& words) {
    std::vector<std::string> all = {kDig, "@::1", "-p", port, "+tries=1", "+time=5"};
    all.insert(all.end(), words.begin(), words.end());
    const Completed run = RunToEnd(all);
    EXPECT_FALSE(Contains(run.output, "Warning") || Contains(run.output, "malformed"))
        << run.output;
    return run.output + run.error;
  }

  const std::uint64_t now_ = static_cast<std::uint64_t>(std::time(nullptr));
  const SigningKey alice_ = *SigningKey::Generate();
  const SigningKey vm_ = *SigningKey::Generate();
  const SigningKey host_ = *SigningKey::Generate();
  std::string folder_, address_, vm_name_;
  std::unique_ptr<Directory> directory_;
  std::optional<Petnames> petnames_;
};

TEST_F(DnsAdverts, DigFindsThem) {
  const Server server(Flags("[::1]:0"));
  ASSERT_TRUE(server.answers());
  const auto ask = [&](std::vector<std::string> words) {
    words.insert(words.begin(), "+short");
    return Dig(server.port(), words);
  };
  for (const std::string& name : {std::string("thermostat"), std::string("sensor.alice"), vm_name_,
                                  std::string("SENSOR.alice")}) {
    EXPECT_EQ(ask({"AAAA", name + ".internal"}), address_ + "\n");
    EXPECT_EQ(ask({"+tcp", "AAAA", name + ".internal"}), address_ + "\n");
    EXPECT_TRUE(Contains(ask({"TXT", name + ".internal"}), "\"key=" + vm_name_ + "\""));
  }
  EXPECT_EQ(ask({"SRV", "_coap._udp.thermostat.internal"}), "0 0 5683 thermostat.internal.\n");
  // dig 9.18 knows HTTPS and SVCB by name.
  EXPECT_EQ(ask({"SVCB", "_coap.thermostat.internal"}),
            "1 thermostat.internal. port=5683 ipv6hint=" + address_ + "\n");
  EXPECT_EQ(ask({"HTTPS", "thermostat.internal"}), "1 . port=8443 ipv6hint=" + address_ + "\n");
  EXPECT_EQ(ask({"-x", address_}), "thermostat.internal.\n");
  EXPECT_EQ(ask({"AAAA", "written.internal"}), "fd00::7\n");
  EXPECT_EQ(ask({"-x", "fd00::7"}), "written.internal.\n");
  const std::string srv = Dig(server.port(), {"SRV", "_coap._udp.thermostat.internal"});
  EXPECT_TRUE(Contains(srv, "ADDITIONAL: 2") && Contains(srv, address_)) << srv;
  const std::string no_name = Dig(server.port(), {"AAAA", "bob.internal"});
  EXPECT_TRUE(Contains(no_name, "status: NXDOMAIN") && Contains(no_name, "SOA")) << no_name;
  const std::string no_data = Dig(server.port(), {"AAAA", "alice.internal"});
  EXPECT_TRUE(Contains(no_data, "status: NOERROR") && Contains(no_data, "ANSWER: 0"))
      << "only a name below it has an address\n"
      << no_data;
  EXPECT_TRUE(Contains(Dig(server.port(), {"-x", "fd12::1"}), "status: NXDOMAIN"));
}

TEST_F(DnsAdverts, WhatOthersWriteIsSeen) {
  const Server server(Flags("[::1]:0"));
  ASSERT_TRUE(server.answers());
  const SigningKey late = *SigningKey::Generate();
  const std::string name = "late.alice.internal";
  EXPECT_EQ(Dig(server.port(), {"+short", "AAAA", name}), "");
  const std::string address = PutVm(late).ToText() + "\n";
  PutName("late", late);
  std::string found;
  for (int i = 0; i < 60 && found != address; ++i) {
    std::this_thread::sleep_for(milliseconds(50));
    found = Dig(server.port(), {"+short", "AAAA", name});
  }
  EXPECT_EQ(found, address);
  EXPECT_EQ(Dig(server.port(), {"+short", "-x", address.substr(0, address.size() - 1)}),
            late.public_key().ToBase32() + ".internal.\n");
}

TEST_F(DnsAdverts, ThroughAResolver) {
  if (!Installed(kUnbound)) GTEST_SKIP() << kUnbound << " is not installed";
  const Server server(Flags("[::1]:0"));
  ASSERT_TRUE(server.answers());
  const Unbound unbound(server.port(), folder_);
  const auto ask = [&](std::vector<std::string> words) {
    words.insert(words.begin(), "+short");
    return Dig(unbound.port(), words);
  };
  // A resolver asks for alice first, and must not be told that nothing is there.
  EXPECT_EQ(ask({"AAAA", "alice.internal"}), "");
  EXPECT_EQ(ask({"AAAA", "sensor.alice.internal"}), address_ + "\n");
  EXPECT_EQ(ask({"AAAA", vm_name_ + ".internal"}), address_ + "\n");
  EXPECT_EQ(ask({"SRV", "_coap._udp.sensor.alice.internal"}), "0 0 5683 sensor.alice.internal.\n");
  EXPECT_EQ(ask({"-x", address_}), "thermostat.internal.\n") << "nibble by nibble";
  EXPECT_TRUE(Contains(Dig(unbound.port(), {"AAAA", "bob.internal"}), "status: NXDOMAIN"));
}

TEST_F(DnsAdverts, ThroughTheCLibrary) {
  if (!Installed(kGetent)) GTEST_SKIP() << kGetent << " is not installed";
  std::ofstream(folder_ + "/resolv.conf") << "nameserver ::1\nsearch internal\n";
  const UniqueFd output(memfd_create("getent", MFD_CLOEXEC));
  const pid_t child = fork();
  if (child == 0) {
    std::string text;
    if (const std::string reason = EnterOwnMachine(folder_); !reason.empty()) {
      text = "skip: " + reason;
    } else {
      const Server server(Flags("[::1]:53"));
      if (!server.answers()) text = "no server";
      for (const std::vector<std::string>& words :
           {std::vector<std::string>{kGetent, "ahosts", "thermostat"},
            {kGetent, "ahosts", "sensor.alice.internal"},
            {kGetent, "hosts", address_},
            {kGetent, "ahosts", "bob"}}) {
        const Completed run = RunToEnd(words);
        text += absl::StrFormat("%s %d\n", words[2], run.exit_code) + run.output;
      }
    }
    if (write(output.get(), text.data(), text.size()) < 0) _exit(1);
    _exit(0);
  }
  support::Wait(child, milliseconds(60'000));
  std::string text(65536, '\0');
  const ssize_t size = pread(output.get(), text.data(), text.size(), 0);
  text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  if (text.starts_with("skip: ")) GTEST_SKIP() << text.substr(6);
  EXPECT_TRUE(Contains(text, "thermostat 0\n" + address_)) << text;
  EXPECT_TRUE(Contains(text, "sensor.alice.internal 0\n" + address_)) << text;
  EXPECT_TRUE(Contains(text, address_ + " 0\n" + address_)) << text;
  EXPECT_TRUE(Contains(text, " thermostat.internal\n")) << text;
  EXPECT_TRUE(Contains(text, "bob 2\n")) << text;
}

TEST(DnsAdvertsCommand, WrongUsageIs125) {
  const struct {
    std::vector<std::string> flags;
    std::string text;
  } kCases[] = {{{"--petnames=/tmp/x"}, "whose adverts are in a --directory"},
                {{"--directory="}, "a file name is missing"},
                {{"--directory=/nonexistent/d"}, "/nonexistent/d"},
                {{"--directory=/dev/null"}, "is no regular file"}};
  for (const auto& wrong : kCases) {
    std::vector<std::string> all = {WAXVM_COMMAND, "dns"};
    all.insert(all.end(), wrong.flags.begin(), wrong.flags.end());
    const Completed run = RunToEnd(all);
    EXPECT_EQ(run.exit_code, 125) << wrong.text;
    EXPECT_TRUE(Contains(run.error, wrong.text)) << run.error;
  }
}

}  // namespace
}  // namespace waxvm::dns
