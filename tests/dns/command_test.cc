// SPDX-License-Identifier: Apache-2.0
// waxvm dns, as a user runs it.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/support/process.h"

namespace waxvm {
namespace {

using std::chrono::milliseconds;
using support::Completed;

constexpr char kDig[] = "/usr/bin/dig";

Completed RunToEnd(const std::vector<std::string>& arguments) {
  support::RunOptions options;
  options.limit = milliseconds(20'000);
  return support::Run(arguments, options);
}

Completed Dns(std::vector<std::string> flags) {
  flags.insert(flags.begin(), {WAXVM_COMMAND, "dns"});
  return RunToEnd(flags);
}

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != text.npos;
}

/// `waxvm dns` in the background, and the line that it prints once it answers.
class Command {
 public:
  explicit Command(std::vector<std::string> flags) {
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
  ~Command() { Stop(SIGKILL); }
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;

  int Stop(int signal) {
    if (child_ <= 0) return -1;
    kill(child_, signal);
    const int code = support::Wait(child_, milliseconds(10'000));
    child_ = -1;
    return code;
  }
  const std::string& line() const { return line_; }
  std::string port() const {
    const std::size_t at = line_.find("]:");
    return at == line_.npos
               ? ""
               : line_.substr(at + 2, line_.find_first_not_of("0123456789", at + 2) - at - 2);
  }

 private:
  pid_t child_ = -1;
  std::string line_;
};

std::string Dig(const std::string& port, const std::vector<std::string>& words) {
  std::vector<std::string> all = {kDig, "@::1", "-p", port, "+short", "+tries=1", "+time=5"};
  all.insert(all.end(), words.begin(), words.end());
  return RunToEnd(all).output;
}

TEST(DnsCommand, AnswersUntilASignal) {
  if (access(kDig, X_OK) != 0) GTEST_SKIP() << kDig << " is not installed";
  std::string folder = std::filesystem::temp_directory_path() / "waxvm-dns-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  std::ofstream(folder + "/zone") << "; a zone\nother AAAA fd00::2\n_x._udp SRV 0 0 7 name";
  Command command({"--listen=[::1]:0", "--listen", "127.0.0.1:0", "--json",
                   "--record=name AAAA fd00::1", "--record", "name AAAA 2001:db8::/32",
                   "--zone=" + folder + "/zone"});
  EXPECT_EQ(command.line(), "") << "a record that is none";
  EXPECT_EQ(command.Stop(SIGTERM), 125);
  for (const bool json : {true, false}) {
    std::vector<std::string> flags = {"--listen=[::1]:0",
                                      "--record=name AAAA fd00::1",
                                      "--zone=" + folder + "/zone",
                                      "--reverse=2001:db8::/32",
                                      "--record",
                                      "far AAAA 2001:db8::9"};
    if (json) flags.push_back("--json");
    Command good(flags);
    const std::string port = good.port();
    EXPECT_EQ(good.line(), json ? "{\"address\": \"[::1]:" + port +
                                      "\", \"addresses\": [\"[::1]:" + port + "\"]}"
                                : "answers for internal on [::1]:" + port);
    EXPECT_EQ(Dig(port, {"AAAA", "name.internal"}), "fd00::1\n");
    EXPECT_EQ(Dig(port, {"+tcp", "AAAA", "other.internal"}), "fd00::2\n");
    EXPECT_EQ(Dig(port, {"SRV", "_x._udp.internal"}), "0 0 7 name.internal.\n");
    EXPECT_EQ(Dig(port, {"-x", "2001:db8::9"}), "far.internal.\n");
    EXPECT_EQ(Dig(port, {"-x", "fd00::2"}), "other.internal.\n");
    EXPECT_EQ(good.Stop(json ? SIGTERM : SIGINT), 0);
  }
  std::filesystem::remove_all(folder);
}

TEST(DnsCommand, OtherSuffixes) {
  if (access(kDig, X_OK) != 0) GTEST_SKIP() << kDig << " is not installed";
  Command command({"--suffix=vm.example", "--record=@ TXT hello", "--record=a AAAA fd00::1"});
  EXPECT_EQ(Dig(command.port(), {"TXT", "vm.example"}), "\"hello\"\n");
  EXPECT_EQ(Dig(command.port(), {"AAAA", "a.vm.example"}), "fd00::1\n");
  EXPECT_EQ(Dig(command.port(), {"AAAA", "a.internal"}), "");
  const Completed taken = Dns({"--listen=[::1]:" + command.port()});
  EXPECT_EQ(taken.exit_code, 125);
  EXPECT_TRUE(Contains(taken.error, "cannot listen on [::1]:" + command.port())) << taken.error;
}

TEST(DnsCommand, WrongUsageIs125) {
  const struct {
    std::vector<std::string> flags;
    std::string text;
  } kCases[] = {{{"--listne=[::1]:0"}, "did you mean --listen?"},
                {{"sensor"}, "takes flags alone"},
                {{"--listen"}, "--listen needs a value"},
                {{"--listen=::1"}, "is no address to listen on"},
                {{"--record=a AAAA x"}, "line 1: 'x' is no IPv6 address"},
                {{"--suffix=."}, "the suffix is the root"},
                {{"--reverse=fd00::"}, "is no IPv6 prefix"},
                {{"--zone=/nonexistent/zone"}, "cannot open /nonexistent/zone"}};
  for (const auto& wrong : kCases) {
    const Completed run = Dns(wrong.flags);
    EXPECT_EQ(run.exit_code, 125) << wrong.text;
    EXPECT_TRUE(Contains(run.error, wrong.text)) << run.error;
  }
  const Completed help = Dns({"--help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_TRUE(Contains(help.output, "--listen=ADDRESS")) << help.output;
}

}  // namespace
}  // namespace waxvm
