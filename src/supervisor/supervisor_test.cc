// SPDX-License-Identifier: Apache-2.0
#include "waxvm/supervisor.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "src/supervisor/fake_provider_for_test.h"
#include "waxvm/native.h"
#include "waxvm/providers.h"

namespace waxvm {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;

TEST(RunOnceTest, CollectsOutputAndReports) {
  const auto result = RunMock(
      [](NativeContext& context) {
        EXPECT_THAT(context.arguments(), ElementsAre("native", "a", "b"));
        EXPECT_THAT(context.environment(), ElementsAre("K=V"));
        char buffer[16];
        const auto got = context.ReadInput(buffer);
        EXPECT_TRUE(got.ok()) << got.status();
        EXPECT_TRUE(context.WriteOutput(std::string_view(buffer, *got)).ok());
        EXPECT_TRUE(context.WriteError("oops").ok());
        return 7;
      },
      {.arguments = {"a", "b"}, .environment = {"K=V"}, .input = "hello"});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->outcome, Outcome::kExited);
  EXPECT_EQ(result->exit_code, 7);
  EXPECT_EQ(result->output, "hello");
  EXPECT_EQ(result->error_output, "oops");
  EXPECT_FALSE(result->limit || result->fault);
  const Report& report = result->report;
  EXPECT_EQ(report.provider, "mock");
  EXPECT_EQ(report.isolation, IsolationClass::kNone);
  EXPECT_THAT(report.ambient, testing::Contains("clock"));
  EXPECT_EQ(report.output_bytes, 9u);
  EXPECT_EQ(report.denials, 0u);
  EXPECT_GT(report.wall_time, 0ns);
  EXPECT_GE(report.wall_time, report.setup_time + report.teardown_time);
}

TEST(RunOnceTest, ErrorsArePassedOn) {
  EXPECT_EQ(RunOnce(NewMockProvider(), Program::FromFile("/nonexistent")).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(RunOnce(nullptr, Native([](NativeContext&) { return 0; })).status().code(),
            absl::StatusCode::kInvalidArgument);
  const auto fake = std::make_shared<FakeProvider>();
  fake->available = absl::UnavailableError("no such thing here");
  EXPECT_EQ(RunOnce(fake, Native(nullptr)).status(), fake->available);
  fake->available = absl::OkStatus();
  fake->create = absl::ResourceExhaustedError("no descriptors");
  EXPECT_EQ(RunOnce(fake, Native(nullptr)).status(), fake->create);
  fake->create = absl::OkStatus();
  fake->resume = [](const OutputWriter&) { return absl::InternalError("broken"); };
  EXPECT_EQ(RunOnce(fake, Native(nullptr)).status(), absl::InternalError("broken"));
}

TEST(RunOnceTest, ArgumentZeroAndInputDescriptor) {
  const int fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  const auto result = RunMock(
      [](NativeContext& context) {
        char byte;
        EXPECT_EQ(*context.ReadInput({&byte, 1}), 0u);
        return context.arguments() == std::vector<std::string>{"other"} ? 0 : 1;
      },
      {.argument_zero = "other", .input = "ignored", .input_fd = fd});
  EXPECT_EQ(result->exit_code, 0);
  EXPECT_EQ(::close(fd), 0) << "the descriptor stays the caller's";
}

TEST(RunOnceTest, StringsWithZeroBytesAndBadEnvironment) {
  const auto run = [](const RunOptions& options) {
    return RunMock([](NativeContext&) { return 0; }, options).status();
  };
  EXPECT_EQ(run({.arguments = {std::string("a\0b", 3)}}).message(),
            "argument 1 contains a zero byte");
  EXPECT_EQ(run({.environment = {std::string("A=\0", 3)}}).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(run({.environment = {"NOVALUE"}}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(run({.environment = {"=x"}}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(run({.environment = {"A="}}).ok());
}

TEST(OutputTest, WriterTakesItInstead) {
  std::string taken;
  const auto result =
      RunMock([](NativeContext& context) { return context.WriteOutput("data").ok() ? 0 : 1; },
              {.output = [&](Stream, std::string_view data) {
                taken += data;
                return absl::OkStatus();
              }});
  EXPECT_EQ(taken, "data");
  EXPECT_EQ(result->output, "");
}

TEST(OutputTest, WriterFailsOrThrows) {
  const auto run = [](OutputWriter writer) {
    return RunMock([](NativeContext& context) { return context.WriteOutput("x").ok() ? 0 : 1; },
                   {.output = std::move(writer)})
        .status();
  };
  EXPECT_EQ(run([](Stream, std::string_view) { return absl::DataLossError("full"); }),
            absl::DataLossError("full"));
  EXPECT_EQ(run([](Stream, std::string_view) -> absl::Status { throw 1; }).code(),
            absl::StatusCode::kInternal);
}

TEST(OutputTest, CollectedOutputIsBoundedByDefault) {
  const auto flood = [](NativeContext& context) {
    const std::string block(1 << 20, 'x');
    while (context.WriteOutput(block).ok()) {
    }
    return 0;
  };
  const auto result = RunMock(flood);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->outcome, Outcome::kLimit);
  EXPECT_EQ(result->limit, LimitKind::kOutput);
  EXPECT_EQ(result->exit_code, 124);
  EXPECT_EQ(result->output.size(), std::size_t{16} << 20);

  const auto small = RunMock(flood, {.limits = {.output_bytes = 10}});
  EXPECT_EQ(small->output, "xxxxxxxxxx");
  EXPECT_EQ(small->report.output_bytes, 10u);
}

TEST(OutputTest, DefaultBoundIsOnlyAskedOfProvidersThatHaveIt) {
  const auto fake = std::make_shared<FakeProvider>();
  ASSERT_TRUE(RunOnce(fake, Native(nullptr)).ok());
  EXPECT_FALSE(fake->limits.output_bytes);
  fake->resume = [](const OutputWriter& output) -> absl::StatusOr<Event> {
    const std::string block(1 << 20, 'x');
    for (;;) {
      if (absl::Status status = output(Stream::kError, block); !status.ok()) return status;
    }
  };
  EXPECT_EQ(RunOnce(fake, Native(nullptr)).status().code(), absl::StatusCode::kResourceExhausted);
  fake->enforceable.push_back(LimitKind::kOutput);
  fake->resume = [](const OutputWriter&) { return Event(Exited{0}); };
  ASSERT_TRUE(RunOnce(fake, Native(nullptr)).ok());
  EXPECT_EQ(fake->limits.output_bytes, std::uint64_t{16} << 20);
  const OutputWriter discard = [](Stream, std::string_view) { return absl::OkStatus(); };
  ASSERT_TRUE(RunOnce(fake, Native(nullptr), {.output = discard}).ok());
  EXPECT_FALSE(fake->limits.output_bytes);
}

TEST(OutcomeTest, ExitCodes) {
  const auto fake = std::make_shared<FakeProvider>();
  const auto result_of = [&](Event event) {
    fake->resume = [event](const OutputWriter&) { return event; };
    return *RunOnce(fake, Native(nullptr));
  };
  EXPECT_EQ(result_of(Exited{0x1ff}).exit_code, 0xff);
  const RunResult fault = result_of(Fault{.kind = FaultKind::kArithmetic, .signal = 8});
  EXPECT_EQ(fault.outcome, Outcome::kFault);
  EXPECT_EQ(fault.exit_code, 136);
  EXPECT_EQ(fault.fault->kind, FaultKind::kArithmetic);
  const RunResult limit = result_of(LimitReached{LimitKind::kMemory});
  EXPECT_EQ(limit.exit_code, 124);
  EXPECT_EQ(limit.limit, LimitKind::kMemory);
  const RunResult stopped = result_of(Stopped{});
  EXPECT_EQ(stopped.outcome, Outcome::kStopped);
  EXPECT_EQ(stopped.exit_code, 143);
}

TEST(ReportTest, WhatWasMeasuredAndTheTimes) {
  const auto fake = std::make_shared<FakeProvider>();
  fake->usage = {.cpu_time = 5ms, .vm_exits = 9, .output_bytes = 3};
  fake->teardown = 20ms;
  fake->resume = [](const OutputWriter&) {
    std::this_thread::sleep_for(20ms);
    return Event(Exited{0});
  };
  const Report report = RunOnce(fake, Native(nullptr))->report;
  EXPECT_EQ(report.cpu_time, 5ms);
  EXPECT_EQ(report.vm_exits, 9u);
  EXPECT_FALSE(report.peak_memory_bytes);
  EXPECT_EQ(report.output_bytes, 3u);
  EXPECT_GE(report.teardown_time, 20ms);
  EXPECT_GE(report.wall_time, 40ms);
  EXPECT_LT(report.setup_time, 20ms);
}

NativeFunction WaitForInputEnd() {
  return [](NativeContext& context) {
    char byte;
    return context.ReadInput({&byte, 1}).ok() ? 0 : 1;
  };
}

/// A pipe that nobody writes to.
class SilentPipe {
 public:
  SilentPipe() { EXPECT_EQ(::pipe2(ends_, O_CLOEXEC), 0); }
  ~SilentPipe() {
    ::close(ends_[0]);
    ::close(ends_[1]);
  }
  int read_end() const { return ends_[0]; }

 private:
  int ends_[2];
};

TEST(StopTest, ByToken) {
  const SilentPipe pipe;
  std::stop_source source;
  std::jthread stopper([&] {
    std::this_thread::sleep_for(20ms);
    source.request_stop();
  });
  const auto result =
      RunMock(WaitForInputEnd(), {.input_fd = pipe.read_end(), .stop = source.get_token()});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->outcome, Outcome::kStopped);
  const auto again = RunMock(WaitForInputEnd(), {.stop = source.get_token()});
  EXPECT_EQ(again->outcome, Outcome::kStopped) << "a token that has fired stops at once";
}

TEST(StopTest, AllRunsOfOneSupervisorAndNoOthers) {
  const SilentPipe pipe;
  auto one = Supervisor::Create(NewMockProvider());
  auto other = Supervisor::Create(NewMockProvider());
  std::atomic<int> running = 0, stopped = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&] {
        const auto result = one->Run(Native([&](NativeContext& context) {
                                       ++running;
                                       return WaitForInputEnd()(context);
                                     }),
                                     {.input_fd = pipe.read_end()});
        if (result.ok() && result->outcome == Outcome::kStopped) ++stopped;
      });
    }
    while (running < 8) std::this_thread::yield();
    one->Stop();
  }
  EXPECT_EQ(stopped, 8);
  const auto program = Native([](NativeContext&) { return 0; });
  EXPECT_EQ(one->Run(program).status().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(other->Run(program).ok());
}

TEST(StopTest, DuringASlowHostFunction) {
  auto supervisor = Supervisor::Create(NewMockProvider());
  std::atomic<bool> inside = false;
  std::jthread stopper([&] {
    while (!inside) std::this_thread::yield();
    supervisor->Stop();
  });
  const auto result = supervisor->Run(
      Native([](NativeContext& context) { return context.CallHost("slow", "").ok() ? 0 : 1; }),
      {.grants = {Function("slow", [&](const HostCallContext& context, std::string_view) {
         inside = true;
         while (!context.StopRequested()) std::this_thread::sleep_for(1ms);
         return std::string();
       })}});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->outcome, Outcome::kStopped);
}

TEST(StopTest, DestructorStopsAndWaits) {
  const SilentPipe pipe;
  std::atomic<bool> running = false, ended = false;
  std::jthread runner;
  {
    auto supervisor = Supervisor::Create(NewMockProvider());
    // Called through a copy of nothing: the run must not outlive the supervisor.
    runner = std::jthread([&, &host = *supervisor] {
      const auto result = host.Run(Native([&](NativeContext& context) {
                                     running = true;
                                     const int code = WaitForInputEnd()(context);
                                     ended = true;
                                     return code;
                                   }),
                                   {.input_fd = pipe.read_end()});
      EXPECT_TRUE(result.ok() && result->outcome == Outcome::kStopped);
    });
    while (!running) std::this_thread::yield();
  }
  EXPECT_TRUE(ended);
}

TEST(SupervisorTest, MovedFrom) {
  auto first = Supervisor::Create(NewMockProvider());
  Supervisor second = *std::move(first);
  const auto program = Native([](NativeContext&) { return 4; });
  EXPECT_EQ(first->Run(program).status().code(), absl::StatusCode::kFailedPrecondition);
  first->Stop();
  EXPECT_EQ(second.Run(program)->exit_code, 4);
  auto third = Supervisor::Create(NewMockProvider());
  *third = std::move(second);
  EXPECT_EQ(third->Run(program)->exit_code, 4);
}

TEST(SupervisorTest, ManyRunsFromManyThreads) {
  auto supervisor = Supervisor::Create(NewMockProvider());
  std::atomic<int> total = 0;
  const HostFunction add = [&](const HostCallContext&, std::string_view) {
    ++total;
    return std::string("ok");
  };
  const auto program = Native([](NativeContext& context) {
    for (int i = 0; i < 10; ++i) {
      if (!context.CallHost("add", "").ok()) return 1;
    }
    return 0;
  });
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&] {
        for (int j = 0; j < 10; ++j) {
          const auto result = supervisor->Run(program, {.grants = {Function("add", add)}});
          EXPECT_TRUE(result.ok() && result->exit_code == 0);
        }
      });
    }
  }
  EXPECT_EQ(total, 800);
}

}  // namespace
}  // namespace waxvm
