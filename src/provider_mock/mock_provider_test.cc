// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "src/base/unique_fd.h"
#include "waxvm/native.h"
#include "waxvm/providers.h"

namespace waxvm {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// Allows everything, or nothing.
class FakeGate final : public AccessGate {
 public:
  absl::Status Check(const Access&) override {
    return allow ? absl::OkStatus() : absl::PermissionDeniedError("the gate is closed");
  }
  void RecordDenial(const Access&) override {}
  bool allow = true;
};

class FakeClock final : public ClockSource {
 public:
  std::chrono::nanoseconds RealTime() override { return 42ns; }
  std::chrono::nanoseconds MonotonicTime() override { return 7ns; }
};

class FakeRandom final : public RandomSource {
 public:
  void Fill(std::span<std::byte> buffer) override { std::ranges::fill(buffer, std::byte{0x5a}); }
};

class MockProviderTest : public ::testing::Test {
 protected:
  InstanceSpec Spec(NativeFunction function) {
    InstanceSpec spec(Program::FromFunction("native", std::move(function)));
    spec.arguments = {"native", "argument"};
    spec.environment = {"A=b"};
    spec.gate = &gate_;
    spec.output = [this](Stream stream, std::string_view data) {
      writer_thread_ = std::this_thread::get_id();
      (stream == Stream::kOutput ? output_ : error_) += data;
      return writer_status_;
    };
    return spec;
  }
  std::unique_ptr<Instance> Make(const InstanceSpec& spec, MockOptions options = {}) {
    auto instance = NewMockProvider(std::move(options))->Create(spec);
    EXPECT_TRUE(instance.ok()) << instance.status();
    return instance.ok() ? *std::move(instance) : nullptr;
  }
  std::unique_ptr<Instance> MakeScript(std::vector<MockStep> script) {
    return Make(Spec(nullptr), {.script = std::move(script)});
  }

  FakeGate gate_;
  std::string output_;
  std::string error_;
  std::thread::id writer_thread_;
  absl::Status writer_status_;
};

template <typename T>
T Final(Instance& instance) {
  const auto event = instance.Resume();
  EXPECT_TRUE(event.ok()) << event.status();
  EXPECT_TRUE(event.ok() && std::holds_alternative<T>(*event));
  EXPECT_EQ(instance.Resume().status().code(), absl::StatusCode::kFailedPrecondition);
  return event.ok() && std::holds_alternative<T>(*event) ? std::get<T>(*event) : T{};
}

TEST_F(MockProviderTest, NativeFunctionRuns) {
  const auto instance = Make(Spec([](NativeContext& context) {
    EXPECT_THAT(context.arguments(), ElementsAre("native", "argument"));
    EXPECT_THAT(context.environment(), ElementsAre("A=b"));
    EXPECT_TRUE(context.WriteOutput("out").ok());
    EXPECT_TRUE(context.WriteError("err").ok());
    char buffer[4];
    EXPECT_EQ(*context.ReadInput(buffer), 0u);
    return 0x103;
  }));
  EXPECT_EQ(Final<Exited>(*instance).code, 3);
  EXPECT_EQ(output_, "out");
  EXPECT_EQ(error_, "err");
  EXPECT_EQ(writer_thread_, std::this_thread::get_id());
  const Usage usage = instance->usage();
  EXPECT_EQ(usage.output_bytes, 6u);
  EXPECT_FALSE(usage.cpu_time || usage.peak_memory_bytes || usage.vm_exits);
}

TEST_F(MockProviderTest, HostCallReturnsFromResume) {
  const auto instance = Make(Spec([](NativeContext& context) {
    const auto reply = context.CallHost("add", "1 2");
    EXPECT_EQ(*reply, "3");
    EXPECT_EQ(context.CallHost("fail", "").status(), absl::NotFoundError("nothing here"));
    return reply->size() == 1 ? 0 : 1;
  }));
  EXPECT_EQ(instance->CompleteHostCall("").code(), absl::StatusCode::kFailedPrecondition);
  auto event = instance->Resume();
  ASSERT_TRUE(event.ok());
  EXPECT_EQ(std::get<HostCallRequest>(*event).name, "add");
  EXPECT_EQ(std::get<HostCallRequest>(*event).request, "1 2");
  EXPECT_EQ(instance->Resume().status().code(), absl::StatusCode::kFailedPrecondition)
      << "the call has to be answered first";
  EXPECT_TRUE(instance->CompleteHostCall("3").ok());
  event = instance->Resume();
  EXPECT_EQ(std::get<HostCallRequest>(*event).name, "fail");
  EXPECT_TRUE(instance->CompleteHostCall(absl::NotFoundError("nothing here")).ok());
  EXPECT_EQ(Final<Exited>(*instance).code, 0);
}

TEST_F(MockProviderTest, HostCallsAreChecked) {
  const auto instance = Make(Spec([](NativeContext& context) {
    const auto code = [&](std::string_view name, std::string_view request) {
      return context.CallHost(name, request).status().code();
    };
    EXPECT_EQ(code("", ""), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(code(std::string(256, 'n'), ""), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(code("n", std::string((16 << 20) + 1, 'r')), absl::StatusCode::kInvalidArgument);
    return 0;
  }));
  Final<Exited>(*instance);
}

TEST_F(MockProviderTest, TurnsNeverOverlap) {
  int shared = 0;  // unprotected on purpose: a thread sanitizer sees two turns at once
  const auto instance = Make(Spec([&](NativeContext& context) {
    for (int i = 0; i < 100; ++i) {
      ++shared;
      if (!context.CallHost("tick", "").ok()) return 1;
    }
    return 0;
  }));
  for (int i = 1; i <= 100; ++i) {
    ASSERT_TRUE(std::holds_alternative<HostCallRequest>(*instance->Resume()));
    EXPECT_EQ(shared, i);
    ASSERT_TRUE(instance->CompleteHostCall("").ok());
  }
  Final<Exited>(*instance);
}

TEST_F(MockProviderTest, OutputLimit) {
  absl::Status seen, later;
  {
    auto spec = Spec([&](NativeContext& context) {
      EXPECT_TRUE(context.WriteOutput("1234").ok());
      seen = context.WriteError("5678");
      later = context.WriteOutput("9");
      return 0;
    });
    spec.limits.output_bytes = 6;
    const auto instance = Make(spec);
    EXPECT_EQ(Final<LimitReached>(*instance).limit, LimitKind::kOutput);
    EXPECT_EQ(output_ + error_, "123456");
    EXPECT_EQ(instance->usage().output_bytes, 6u);
  }
  EXPECT_EQ(seen.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(later.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(output_, "1234");
}

TEST_F(MockProviderTest, WriterErrorEndsTheRun) {
  writer_status_ = absl::DataLossError("disk full");
  const auto instance = Make(Spec([](NativeContext& context) {
    EXPECT_EQ(context.WriteOutput("x"), absl::DataLossError("disk full"));
    return 0;
  }));
  EXPECT_EQ(instance->Resume().status(), absl::DataLossError("disk full"));
  EXPECT_EQ(instance->Resume().status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(MockProviderTest, ClockAndRandomComeFromTheGrants) {
  auto spec = Spec([](NativeContext& context) {
    std::byte byte{};
    EXPECT_EQ(*context.ReadClock(), 42ns);
    EXPECT_TRUE(context.ReadRandom({&byte, 1}).ok());
    return static_cast<int>(byte);
  });
  spec.clock = std::make_shared<FakeClock>();
  spec.random = std::make_shared<FakeRandom>();
  EXPECT_EQ(Final<Exited>(*Make(spec)).code, 0x5a);
}

TEST_F(MockProviderTest, ClockAndRandomNeedTheGateAndTheSource) {
  for (bool allow : {false, true}) {
    gate_.allow = allow;
    auto spec = Spec([](NativeContext& context) {
      std::byte byte{};
      EXPECT_EQ(context.ReadClock().status().code(), absl::StatusCode::kPermissionDenied);
      EXPECT_EQ(context.ReadRandom({&byte, 1}).code(), absl::StatusCode::kPermissionDenied);
      return 0;
    });
    if (!allow) spec.clock = std::make_shared<FakeClock>();
    Final<Exited>(*Make(spec));
  }
}

TEST_F(MockProviderTest, ReadsInput) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  auto spec = Spec([](NativeContext& context) {
    char buffer[3];
    std::string all;
    for (;;) {
      const auto got = context.ReadInput(buffer);
      if (!got.ok() || *got == 0) break;
      all.append(buffer, *got);
    }
    EXPECT_EQ(all, "hello");
    return 0;
  });
  spec.input_fd = read_end.get();
  ASSERT_EQ(::write(write_end.get(), "hello", 5), 5);
  write_end.reset();
  Final<Exited>(*Make(spec));
}

TEST_F(MockProviderTest, StopEndsAWaitForInput) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd read_end(ends[0]), write_end(ends[1]);
  auto spec = Spec([](NativeContext& context) {
    char byte;
    EXPECT_EQ(context.ReadInput({&byte, 1}).status().code(), absl::StatusCode::kCancelled);
    EXPECT_EQ(context.WriteOutput("late").code(), absl::StatusCode::kCancelled);
    EXPECT_EQ(context.CallHost("late", "").status().code(), absl::StatusCode::kCancelled);
    return 0;
  });
  spec.input_fd = read_end.get();
  const auto instance = Make(spec);
  std::jthread stopper([&] {
    std::this_thread::sleep_for(20ms);
    instance->Stop();
  });
  Final<Stopped>(*instance);
}

TEST_F(MockProviderTest, StopReachesAComputingFunction) {
  std::atomic<bool> release = false;
  {
    const auto instance = Make(Spec([&](NativeContext& context) {
      while (!release) std::this_thread::yield();
      EXPECT_EQ(context.WriteOutput("late").code(), absl::StatusCode::kCancelled);
      return 0;
    }));
    std::jthread stopper([&] {
      std::this_thread::sleep_for(20ms);
      instance->Stop();
    });
    Final<Stopped>(*instance);
    release = true;
  }
  EXPECT_EQ(output_, "");
}

TEST_F(MockProviderTest, StopBeforeResumeAndDuringAHostCall) {
  bool ran = false;
  const auto early = Make(Spec([&](NativeContext&) { return ran = true, 0; }));
  early->Stop();
  early->Stop();
  Final<Stopped>(*early);
  EXPECT_FALSE(ran);

  const auto calling = Make(Spec([](NativeContext& context) {
    EXPECT_EQ(context.CallHost("f", "").status().code(), absl::StatusCode::kCancelled);
    return 0;
  }));
  ASSERT_TRUE(std::holds_alternative<HostCallRequest>(*calling->Resume()));
  calling->Stop();
  ASSERT_TRUE(calling->CompleteHostCall("reply").ok());
  Final<Stopped>(*calling);
}

TEST_F(MockProviderTest, DestructionCancelsAPendingHostCall) {
  absl::Status seen;
  {
    const auto instance = Make(Spec([&](NativeContext& context) {
      seen = context.CallHost("f", "").status();
      return 0;
    }));
    ASSERT_TRUE(std::holds_alternative<HostCallRequest>(*instance->Resume()));
  }
  EXPECT_EQ(seen.code(), absl::StatusCode::kCancelled);
}

TEST_F(MockProviderTest, ExceptionsAreFaults) {
  const auto instance =
      Make(Spec([](NativeContext&) -> int { throw std::runtime_error("out of cheese"); }));
  const Fault fault = Final<Fault>(*instance);
  EXPECT_EQ(fault.kind, FaultKind::kSignal);
  EXPECT_EQ(fault.signal, SIGABRT);
  EXPECT_EQ(fault.detail, "the program threw an exception: out of cheese");
  EXPECT_EQ(Final<Fault>(*Make(Spec([](NativeContext&) -> int { throw 1; }))).signal, SIGABRT);
}

TEST_F(MockProviderTest, TheProgramsThreadTakesNoSignals) {
  const auto instance = Make(Spec([](NativeContext&) {
    sigset_t blocked;
    ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
    return ::sigismember(&blocked, SIGTERM) == 1 ? 0 : 1;
  }));
  EXPECT_EQ(Final<Exited>(*instance).code, 0);
  sigset_t blocked;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
  EXPECT_EQ(::sigismember(&blocked, SIGTERM), 0);
}

TEST_F(MockProviderTest, RefusesWhatItCannotDo) {
  const auto refusal = [](const InstanceSpec& spec) {
    const absl::Status status = NewMockProvider()->Create(spec).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  auto limited = Spec([](NativeContext&) { return 0; });
  limited.limits.wall_time = 1s;
  EXPECT_EQ(refusal(limited), "the mock provider cannot enforce the limit `wall`");
  EXPECT_THAT(refusal(Spec(nullptr)), HasSubstr("has no function"));
  auto gateless = Spec([](NativeContext&) { return 0; });
  gateless.gate = nullptr;
  EXPECT_THAT(refusal(gateless), HasSubstr("access gate"));
  const auto elf = Program::FromFile("/proc/self/exe");
  ASSERT_TRUE(elf.ok()) << elf.status();
  InstanceSpec spec(*elf);
  spec.gate = &gate_;
  EXPECT_THAT(refusal(spec), HasSubstr("native functions only"));
}

TEST_F(MockProviderTest, Script) {
  using enum MockStep::Kind;
  const auto instance = MakeScript({{.kind = kOutput, .text = "a"},
                                    {.kind = kError, .text = "b"},
                                    {.kind = kHostCall, .text = "request", .name = "f"},
                                    {.kind = kExit, .exit_code = 5}});
  const auto event = instance->Resume();
  ASSERT_TRUE(event.ok());
  EXPECT_EQ(std::get<HostCallRequest>(*event).name, "f");
  EXPECT_EQ(std::get<HostCallRequest>(*event).request, "request");
  EXPECT_EQ(instance->Resume().status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(instance->CompleteHostCall("").ok());
  EXPECT_EQ(Final<Exited>(*instance).code, 5);
  EXPECT_EQ(output_, "a");
  EXPECT_EQ(error_, "b");
  EXPECT_EQ(instance->usage().output_bytes, 2u);
}

TEST_F(MockProviderTest, ScriptedEnds) {
  using enum MockStep::Kind;
  EXPECT_EQ(
      Final<LimitReached>(*MakeScript({{.kind = kLimit, .limit = LimitKind::kCpuTime}})).limit,
      LimitKind::kCpuTime);
  EXPECT_EQ(Final<Fault>(*MakeScript({{.kind = kFault, .fault = {.signal = 8}}})).signal, 8);
  EXPECT_EQ(Final<Exited>(*MakeScript({{.kind = kOutput, .text = "x"}})).code, 0);
  const auto stopped = MakeScript({{.kind = kOutput, .text = "never"}});
  stopped->Stop();
  Final<Stopped>(*stopped);
  EXPECT_EQ(output_, "x");
}

TEST_F(MockProviderTest, ScriptHasTheOutputLimit) {
  auto spec = Spec(nullptr);
  spec.limits.output_bytes = 2;
  const auto instance = Make(spec, {.script = {{.kind = MockStep::Kind::kOutput, .text = "abc"}}});
  EXPECT_EQ(Final<LimitReached>(*instance).limit, LimitKind::kOutput);
  EXPECT_EQ(output_, "ab");
}

}  // namespace
}  // namespace waxvm
