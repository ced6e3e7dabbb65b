// SPDX-License-Identifier: Apache-2.0
// A function of the host, called by name from inside.
#include <thread>

#include "absl/strings/str_format.h"
#include "conformance.h"

namespace waxvm::conformance {
namespace {

using std::chrono_literals::operator""ms;

using Reply = absl::StatusOr<std::string>;

TEST_P(Conformance, GrantedFunctionIsCalled) {
  std::string seen, label;
  const std::thread::id caller = std::this_thread::get_id();
  RunOptions options = WithArguments({"guest"});
  options.label = "run 1";
  options.grants = {Function("greet", [&](const HostCallContext& context, std::string_view name) {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    EXPECT_FALSE(context.StopRequested());
    seen = name;
    label = context.label();
    return Reply("hello " + std::string(name));
  })};
  const RunResult result = Run("host_call", options);
  EXPECT_EQ(result.output, "0 hello guest\n");
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(seen, "guest");
  EXPECT_EQ(label, "run 1");
  EXPECT_EQ(result.report.host_calls, 1u);
  EXPECT_EQ(result.report.denials, 0u);
}

TEST_P(Conformance, FunctionThatIsNotGrantedIsDenied) {
  RunOptions options = WithArguments({"guest", "delete_everything"});
  options.grants = {Function("greet", [](const HostCallContext&, std::string_view) {
    ADD_FAILURE() << "another function was called";
    return Reply("");
  })};
  const RunResult result = Run("host_call", options);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_TRUE(result.output.starts_with("7 ")) << result.output;
  EXPECT_EQ(Denials(result.report, Resource::kHostFunction, "delete_everything"), 1u);
  EXPECT_EQ(result.report.denials, 1u);
}

TEST_P(Conformance, NoFunctionAtAll) {
  const RunResult result = Run("host_call");
  EXPECT_EQ(result.outcome, Outcome::kExited);
  EXPECT_NE(result.exit_code, 0) << "no host is there, or it refuses";
  EXPECT_EQ(result.report.host_calls, 0u);
}

TEST_P(Conformance, FailureReachesTheGuest) {
  RunOptions options;
  for (const auto& [status, code] : {std::pair{absl::NotFoundError("no such name"), 5},
                                     std::pair{absl::PermissionDeniedError("not you"), 7},
                                     std::pair{absl::UnavailableError("try later"), 14}}) {
    options.grants = {Function(
        "greet",
        [&status = status](const HostCallContext&, std::string_view) -> Reply { return status; })};
    const RunResult result = Run("host_call", options);
    EXPECT_EQ(result.output, absl::StrFormat("%d %s\n", code, std::string(status.message())));
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_EQ(result.report.host_calls, 1u);
  }
}

TEST_P(Conformance, SizesOfRequestAndReply) {
  for (const std::size_t bytes : {0u, 1u, 4096u, 65'537u, 1u << 20}) {
    std::size_t seen = 0;
    bool whole = true;
    RunOptions options = WithArguments({"call", "size", absl::StrFormat("%d", bytes), "1", "0"});
    options.grants = {Function("size", [&](const HostCallContext&, std::string_view request) {
      seen = request.size();
      whole = request.find_first_not_of('r') == request.npos;
      return Reply(std::string(bytes * 2, 'R'));
    })};
    const RunResult result = Run("probe", options);
    SCOPED_TRACE(bytes);
    EXPECT_EQ(seen, bytes);
    EXPECT_TRUE(whole) << "the request's bytes differ";
    // The guest gave no buffer: it learns the size, and nothing is written.
    if (native()) continue;
    EXPECT_EQ(result.output, absl::StrFormat("0 %d \n", bytes * 2));
  }
}

TEST_P(Conformance, ReplyIsCutAtTheGuestsBuffer) {
  if (native()) GTEST_SKIP() << "a native function gets its replies whole";
  RunOptions options = WithArguments({"call", "long", "1", "1", "4"});
  options.grants = {Function(
      "long", [](const HostCallContext&, std::string_view) { return Reply("0123456789"); })};
  EXPECT_EQ(Run("probe", options).output, "0 10 0123\n");
}

TEST_P(Conformance, ManyCallsInARow) {
  int calls = 0;
  RunOptions options = WithArguments({"call", "count", "16", "200"});
  options.grants = {Function("count", [&](const HostCallContext&, std::string_view) {
    return Reply(absl::StrFormat("%d", ++calls));
  })};
  const RunResult result = Run("probe", options);
  EXPECT_EQ(result.output, "0 3 200\n");
  EXPECT_EQ(result.report.host_calls, 200u);
}

TEST_P(Conformance, SlowFunctionIsWaitedFor) {
  RunOptions options;
  options.grants = {Function("greet", [](const HostCallContext&, std::string_view) {
    std::this_thread::sleep_for(200ms);
    return Reply("at last");
  })};
  const RunResult result = Run("host_call", options);
  EXPECT_EQ(result.output, "0 at last\n");
  EXPECT_GE(result.report.wall_time, 200ms);
}

TEST_P(Conformance, SlowFunctionLearnsThatTheTimeIsUp) {
  if (!Enforces(LimitKind::kWallTime))
    GTEST_SKIP() << info_.name << " does not enforce the wall time";
  bool told = false;
  RunOptions options;
  options.limits.wall_time = 300ms;
  options.grants = {Function("greet", [&](const HostCallContext& context, std::string_view) {
    const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(5) * Slowness();
    while (!(told = context.StopRequested()) && std::chrono::steady_clock::now() < patience)
      std::this_thread::sleep_for(5ms);
    return Reply("too late");
  })};
  const RunResult result = Run("host_call", options);
  EXPECT_TRUE(told);
  EXPECT_EQ(result.outcome, Outcome::kLimit);
  EXPECT_EQ(result.limit, LimitKind::kWallTime);
  EXPECT_EQ(result.output, "");
}

TEST_P(Conformance, SlowFunctionLearnsThatTheRunIsStopped) {
  std::stop_source stop;
  RunOptions options;
  options.stop = stop.get_token();
  options.grants = {Function("greet", [&](const HostCallContext& context, std::string_view) {
    stop.request_stop();
    return Reply(context.StopRequested() ? "told" : "not told");
  })};
  EXPECT_EQ(Run("host_call", options).outcome, Outcome::kStopped);
}

}  // namespace
}  // namespace waxvm::conformance
