// SPDX-License-Identifier: Apache-2.0
// Nothing is ambient: time, randomness, the network and the host's system calls.
#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "conformance.h"

namespace waxvm::conformance {
namespace {

using std::chrono_literals::operator""ns;
using std::chrono_literals::operator""s;

class FixedClock final : public ClockSource {
 public:
  std::chrono::nanoseconds RealTime() override { return 1'234'567'890'123'456'789ns; }
  std::chrono::nanoseconds MonotonicTime() override { return 77'000'000'005ns; }
};

class FixedRandom final : public RandomSource {
 public:
  void Fill(std::span<std::byte> buffer) override {
    for (std::byte& b : buffer) b = std::byte{0xa5};
  }
};

/// The seconds in the first line "realtime S.N" of the guest `clock`, or -1.
std::int64_t RealTimeSeconds(const std::string& output) {
  std::int64_t seconds = -1;
  const std::vector<std::string> words = absl::StrSplit(output, absl::ByAnyChar(" .\n"));
  if (words.size() < 2 || words[0] != "realtime" || !absl::SimpleAtoi(words[1], &seconds))
    return -1;
  return seconds;
}

TEST_P(Conformance, ClockIsFixedUnlessGranted) {
  if (!native() && IsAmbient("clock"))
    GTEST_SKIP() << info_.name << " declares that it cannot withhold the clock";
  const RunResult first = Run("clock");
  usleep(20'000);
  EXPECT_EQ(first.output, Run("clock").output);
  if (native()) {
    EXPECT_EQ(first.exit_code, 1);
    // Who cannot withhold the clock need not hear of each refusal of the function's context.
    EXPECT_TRUE(IsAmbient("clock") || Denials(first.report, Resource::kClock) >= 1);
  } else {
    EXPECT_EQ(first.exit_code, 0) << "the clock stands still, but is there";
    EXPECT_GT(std::abs(time(nullptr) - RealTimeSeconds(first.output)), 86'400) << "that is today";
  }
}

TEST_P(Conformance, GrantedClockIsTheHosts) {
  RunOptions options;
  options.grants = {Clock()};
  const RunResult result = Run("clock", options);
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_LE(std::abs(time(nullptr) - RealTimeSeconds(result.output)), 5 * Slowness());
  EXPECT_EQ(Denials(result.report, Resource::kClock), 0u);
}

TEST_P(Conformance, InjectedClockIsServedOrRefused) {
  RunOptions options;
  options.grants = {Clock(std::make_shared<FixedClock>())};
  const auto result = RunOnce(provider_, *Find("clock"), options);
  if (!result.ok()) {
    EXPECT_TRUE(absl::IsInvalidArgument(result.status())) << result.status();
    EXPECT_EQ(info_.isolation, IsolationClass::kProcess) << result.status();
    return;
  }
  EXPECT_TRUE(result->output.starts_with("realtime 1234567890.123456789\n")) << result->output;
  if (native()) return;
  EXPECT_EQ(result->output,
            "realtime 1234567890.123456789\nmonotonic 77.000000005\n"
            "gettimeofday 1234567890.123456\ntime 1234567890\n");
}

TEST_P(Conformance, RandomFailsUnlessGranted) {
  if (!native() && IsAmbient("random"))
    GTEST_SKIP() << info_.name << " declares that it cannot withhold randomness";
  const RunResult result = Run("random");
  EXPECT_EQ(result.outcome, Outcome::kExited);
  EXPECT_EQ(result.exit_code, 2) << "both sources fail:\n" << result.output;
  EXPECT_GE(result.report.denials, 1u);
}

TEST_P(Conformance, GrantedRandomIsRandom) {
  RunOptions options;
  options.grants = {Random()};
  const RunResult first = Run("random", options);
  EXPECT_EQ(first.exit_code, 0) << first.output;
  EXPECT_NE(first.output, Run("random", options).output);
  EXPECT_EQ(first.output.size(), std::strlen("getrandom \nurandom \n") + 64);
  EXPECT_EQ(Denials(first.report, Resource::kRandom), 0u);
}

TEST_P(Conformance, InjectedRandomIsServedOrRefused) {
  RunOptions options;
  options.grants = {Random(std::make_shared<FixedRandom>())};
  const auto result = RunOnce(provider_, *Find("random"), options);
  if (!result.ok()) {
    EXPECT_TRUE(absl::IsInvalidArgument(result.status())) << result.status();
    EXPECT_EQ(info_.isolation, IsolationClass::kProcess) << result.status();
    return;
  }
  EXPECT_EQ(
      result->output,
      "getrandom a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5\nurandom a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5\n");
}

TEST_P(Conformance, NetworkOfTheHostIsNotThere) {
  if (native()) GTEST_SKIP() << "a native function has no system calls";
  const TemporaryFolder folder;
  sockaddr_in ip = {};
  ip.sin_family = AF_INET;
  ip.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t bytes = sizeof ip;
  const int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(bind(tcp, reinterpret_cast<sockaddr*>(&ip), sizeof ip), 0);
  ASSERT_EQ(listen(tcp, 4), 0);
  ASSERT_EQ(getsockname(tcp, reinterpret_cast<sockaddr*>(&ip), &bytes), 0);
  sockaddr_un local = {};
  local.sun_family = AF_UNIX;
  const std::string path = folder.Path("socket");
  path.copy(local.sun_path, sizeof local.sun_path - 1);
  const int unix_socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(bind(unix_socket, reinterpret_cast<sockaddr*>(&local), sizeof local), 0);
  ASSERT_EQ(listen(unix_socket, 4), 0);

  // Not even where the socket's folder is granted.
  RunOptions options =
      WithArguments({"connect", absl::StrFormat("%d", ntohs(ip.sin_port)), "/data/socket"});
  options.grants = {Files(folder.path(), "/data", Rights::kReadWrite)};
  const RunResult result = Run("probe", options);
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.output.find("ok"), std::string::npos) << result.output;
  close(tcp);
  close(unix_socket);
}

TEST_P(Conformance, UnknownSystemCallsAreEnosysAndNamed) {
  if (native()) GTEST_SKIP() << "a native function has no system calls";
  // Calls that change the host and that no provider passes on: reboot, init_module, bpf.
  for (const int number : {169, 175, 321}) {
    const RunResult result =
        Run("probe", WithArguments({"unknown", absl::StrFormat("%d", number)}));
    SCOPED_TRACE(number);
    if (result.outcome == Outcome::kFault) continue;  // a provider may also end such a program
    EXPECT_NE(result.output, "served\n");
    EXPECT_TRUE(result.output == "Function not implemented\n" ||
                result.output == "Operation not permitted\n")
        << result.output;
    EXPECT_GE(Denials(result.report, Resource::kSystemCall), 1u);
  }
  const RunResult none = Run("probe", WithArguments({"unknown", "100000"}));
  EXPECT_EQ(none.output, "Function not implemented\n");
}

TEST_P(Conformance, AuthorizerStandsInFrontOfTheGrants) {
  std::atomic<int> asked = 0;
  SupervisorOptions strict;
  strict.authorizer = [&](std::string_view label, const Access& access) {
    EXPECT_EQ(label, "tenant 7");
    ++asked;
    if (access.resource == Resource::kHostFunction && access.name == "greet")
      return absl::PermissionDeniedError("not for this tenant");
    return absl::OkStatus();
  };
  auto supervisor = Supervisor::Create(provider_, strict);
  ASSERT_TRUE(supervisor.ok()) << supervisor.status();
  RunOptions options;
  options.label = "tenant 7";
  options.grants = {Function("greet", [](const HostCallContext&, std::string_view) {
    ADD_FAILURE() << "the authorizer had refused this";
    return absl::StatusOr<std::string>("called");
  })};
  const auto result = supervisor->Run(*Find("host_call"), options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_GE(asked, 1);
  EXPECT_TRUE(result->output.starts_with("7 ")) << result->output;
  EXPECT_EQ(Denials(result->report, Resource::kHostFunction, "greet"), 1u);
}

}  // namespace
}  // namespace waxvm::conformance
