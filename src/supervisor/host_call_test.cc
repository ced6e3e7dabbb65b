// SPDX-License-Identifier: Apache-2.0
// Grants, authorizer and host functions, as a program meets them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "src/supervisor/fake_provider_for_test.h"
#include "waxvm/native.h"
#include "waxvm/providers.h"
#include "waxvm/supervisor.h"

namespace waxvm {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(GrantsTest, ProgramGetsWhatWasGranted) {
  const auto result = RunMock(
      [](NativeContext& context) {
        std::array<std::byte, 32> bytes{};
        EXPECT_GT(*context.ReadClock(), std::chrono::hours(24 * 365 * 50));
        EXPECT_TRUE(context.ReadRandom(bytes).ok());
        EXPECT_NE(bytes, decltype(bytes){});
        return 0;
      },
      {.grants = {Clock(), Random()}});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->report.denials, 0u);
}

TEST(GrantsTest, DenialsAreCountedAndNamed) {
  const auto result = RunMock([](NativeContext& context) {
    std::byte byte{};
    for (int i = 0; i < 3; ++i)
      EXPECT_EQ(context.ReadClock().status().code(), absl::StatusCode::kPermissionDenied);
    EXPECT_EQ(context.ReadRandom({&byte, 1}).code(), absl::StatusCode::kPermissionDenied);
    const auto call = context.CallHost("launch", "");
    EXPECT_EQ(call.status().code(), absl::StatusCode::kPermissionDenied);
    EXPECT_THAT(std::string(call.status().message()),
                HasSubstr("host_function launch: not granted"));
    return 0;
  });
  ASSERT_TRUE(result.ok()) << result.status();
  const Report& report = result->report;
  EXPECT_EQ(report.denials, 5u);
  EXPECT_EQ(report.host_calls, 0u);
  ASSERT_EQ(report.denied.size(), 3u);
  EXPECT_EQ(report.denied[0].resource, Resource::kClock);
  EXPECT_EQ(report.denied[0].count, 3u);
  EXPECT_EQ(report.denied[1].resource, Resource::kRandom);
  EXPECT_EQ(report.denied[2].resource, Resource::kHostFunction);
  EXPECT_EQ(report.denied[2].name, "launch");
}

TEST(GrantsTest, BadGrantsRunNothing) {
  bool ran = false;
  const auto status = RunMock([&](NativeContext&) { return ran = true, 0; },
                              {.grants = {Files("/nonexistent", "/data")}})
                          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(ran);
}

TEST(AuthorizerTest, StandsBeforeTheGrants) {
  std::vector<std::string> asked;
  auto supervisor = Supervisor::Create(
      NewMockProvider(), {.authorizer = [&](std::string_view label, const Access& access) {
        asked.push_back(std::string(label) + ":" + std::string(ResourceName(access.resource)) +
                        ":" + std::string(access.name));
        if (access.name == "no") return absl::NotFoundError("closed on Sundays");
        if (access.name == "throw") throw std::runtime_error("x");
        return absl::OkStatus();
      }});
  ASSERT_TRUE(supervisor.ok());
  const HostFunction echo = [](const HostCallContext& context, std::string_view) {
    return absl::StatusOr<std::string>(std::string(context.label()));
  };
  const auto result = supervisor->Run(
      Native([](NativeContext& context) {
        EXPECT_EQ(*context.CallHost("yes", ""), "run-1");
        const absl::Status no = context.CallHost("no", "").status();
        EXPECT_EQ(no.code(), absl::StatusCode::kPermissionDenied);
        EXPECT_THAT(std::string(no.message()), HasSubstr("closed on Sundays"));
        EXPECT_EQ(context.CallHost("throw", "").status().code(),
                  absl::StatusCode::kPermissionDenied);
        EXPECT_FALSE(context.CallHost("absent", "").ok());
        return 0;
      }),
      {.grants = {Function("yes", echo), Function("no", echo), Function("throw", echo)},
       .label = "run-1"});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(asked, ElementsAre("run-1:host_function:yes", "run-1:host_function:no",
                                 "run-1:host_function:throw"));
  EXPECT_EQ(result->report.denials, 3u);
  EXPECT_EQ(result->report.host_calls, 1u);
}

TEST(AuthorizerTest, ThatOfOneRunIsAskedAfterTheSupervisors) {
  const auto refuse = [](std::string_view name) -> Authorizer {
    return [name](std::string_view, const Access& access) {
      return access.name == name ? absl::PermissionDeniedError("no") : absl::OkStatus();
    };
  };
  const auto echo = [](const HostCallContext&, std::string_view request) {
    return absl::StatusOr<std::string>(std::string(request));
  };
  const Program program = Native([](NativeContext& context) {
    int allowed = 0;
    for (const char* name : {"one", "two", "three"})
      allowed = allowed * 2 + (context.CallHost(name, "").ok() ? 1 : 0);
    return allowed;
  });
  RunOptions options;
  options.grants = {Function("one", echo), Function("two", echo), Function("three", echo)};
  for (const bool of_both : {false, true}) {
    auto supervisor =
        Supervisor::Create(NewMockProvider(), {.authorizer = of_both ? refuse("one") : nullptr});
    ASSERT_TRUE(supervisor.ok());
    options.authorizer = refuse("two");
    EXPECT_EQ(supervisor->Run(program, options)->exit_code, of_both ? 0b001 : 0b101);
    options.authorizer = nullptr;
    EXPECT_EQ(supervisor->Run(program, options)->exit_code, of_both ? 0b011 : 0b111);
  }
}

TEST(HostFunctionTest, MayFailRefuseThrowAndReplyTooMuch) {
  const auto result = RunMock(
      [](NativeContext& context) {
        EXPECT_EQ(*context.CallHost("echo", std::string("a\0b", 3)), std::string("a\0b", 3));
        EXPECT_EQ(context.CallHost("fail", "").status(), absl::NotFoundError("no such key"));
        EXPECT_EQ(context.CallHost("refuse", "").status().code(),
                  absl::StatusCode::kPermissionDenied);
        const absl::Status thrown = context.CallHost("throw", "").status();
        EXPECT_EQ(thrown.code(), absl::StatusCode::kInternal);
        EXPECT_THAT(std::string(thrown.message()), Not(HasSubstr("secret")));
        EXPECT_EQ(context.CallHost("flood", "").status().code(), absl::StatusCode::kInternal);
        return 0;
      },
      {.grants = {
           Function("echo", [](const HostCallContext&,
                               std::string_view request) { return std::string(request); }),
           Function("fail",
                    [](const HostCallContext&, std::string_view) -> absl::StatusOr<std::string> {
                      return absl::NotFoundError("no such key");
                    }),
           Function("refuse",
                    [](const HostCallContext&, std::string_view) -> absl::StatusOr<std::string> {
                      return absl::PermissionDeniedError("not you");
                    }),
           Function("throw",
                    [](const HostCallContext&, std::string_view) -> absl::StatusOr<std::string> {
                      throw std::runtime_error("secret path");
                    }),
           Function("flood", [](const HostCallContext&, std::string_view) {
             return std::string((16 << 20) + 1, 'x');
           })}});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->outcome, Outcome::kExited);
  EXPECT_EQ(result->report.host_calls, 5u);
  EXPECT_EQ(result->report.denials, 0u) << "a function's own refusal is its answer";
}

TEST(HostFunctionTest, CallLimit) {
  int served = 0;
  const RunOptions options = {
      .limits = {.host_calls = 3},
      .grants = {Function("f", [&](const HostCallContext&, std::string_view) {
        return std::to_string(++served);
      })}};
  const auto call_n_times = [](int n) {
    return [n](NativeContext& context) {
      for (int i = 0; i < n; ++i) {
        EXPECT_FALSE(context.CallHost("other", "").ok());  // refused ones do not count
        if (!context.CallHost("f", "").ok()) return 1;
      }
      return 0;
    };
  };
  EXPECT_EQ(RunMock(call_n_times(3), options)->outcome, Outcome::kExited);
  served = 0;
  const auto result = RunMock(call_n_times(4), options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->limit, LimitKind::kHostCalls);
  EXPECT_EQ(result->report.host_calls, 3u);
  EXPECT_EQ(served, 3);
}

TEST(HostFunctionTest, NoCallsAtAll) {
  const auto result = RunMock(
      [](NativeContext& context) { return context.CallHost("f", "").ok(); },
      {.limits = {.host_calls = 0},
       .grants = {Function("f", [](const HostCallContext&, std::string_view) { return ""; })}});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->limit, LimitKind::kHostCalls);
}

TEST(HostFunctionTest, SlowOneMeetsTheWallLimit) {
  const auto fake = std::make_shared<FakeProvider>();
  fake->resume = [](const OutputWriter&) { return Event(HostCallRequest{"slow", ""}); };
  bool asked_to_stop = false;
  const auto result =
      RunOnce(fake, Native(nullptr),
              {.limits = {.wall_time = 30ms},
               .grants = {Function("slow", [&](const HostCallContext& context, std::string_view) {
                 EXPECT_FALSE(context.StopRequested());
                 while (!context.StopRequested()) std::this_thread::sleep_for(1ms);
                 asked_to_stop = true;
                 return std::string();
               })}});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(asked_to_stop);
  EXPECT_EQ(result->limit, LimitKind::kWallTime);
  EXPECT_EQ(fake->completed, 0);
}

}  // namespace
}  // namespace waxvm
