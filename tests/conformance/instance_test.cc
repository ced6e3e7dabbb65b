// SPDX-License-Identifier: Apache-2.0
// Instance by Instance, without a supervisor: states, stopping, destruction at any time.
#include <unistd.h>

#include <thread>

#include "conformance.h"

namespace waxvm::conformance {
namespace {

using std::chrono_literals::operator""ms;

/// What an instance is made from, with the output it wrote.
struct Bench {
  explicit Bench(Program program, std::vector<std::string> arguments = {})
      : spec(std::move(program)) {
    spec.arguments = std::move(arguments);
    spec.arguments.insert(spec.arguments.begin(), "program");
    spec.gate = &gate;
    spec.host_functions_granted = true;
    spec.output = [this](Stream, std::string_view data) {
      output += data;
      return absl::OkStatus();
    };
  }

  OpenGate gate;
  std::string output;
  InstanceSpec spec;
};

std::unique_ptr<Instance> Make(Provider& provider, const Bench& bench) {
  auto instance = provider.Create(bench.spec);
  EXPECT_TRUE(instance.ok()) << instance.status();
  return instance.ok() ? *std::move(instance) : nullptr;
}

template <typename T>
bool Is(const absl::StatusOr<Event>& event) {
  return event.ok() && std::holds_alternative<T>(*event);
}

TEST_P(Conformance, ResumeRunsToTheEndAndNoFurther) {
  Bench bench(*Find("probe"), {"exit", "7"});
  const auto instance = Make(*provider_, bench);
  ASSERT_TRUE(instance);
  EXPECT_TRUE(absl::IsFailedPrecondition(instance->CompleteHostCall("nothing is pending")));
  const auto event = instance->Resume();
  ASSERT_TRUE(Is<Exited>(event)) << event.status();
  EXPECT_EQ(std::get<Exited>(*event).code, 7);
  EXPECT_TRUE(absl::IsFailedPrecondition(instance->Resume().status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(instance->CompleteHostCall("it is over")));
  instance->Stop();
}

TEST_P(Conformance, HostCallIsAnEvent) {
  Bench bench(*Find("host_call"), {"world"});
  const auto instance = Make(*provider_, bench);
  ASSERT_TRUE(instance);
  const auto event = instance->Resume();
  ASSERT_TRUE(Is<HostCallRequest>(event)) << event.status();
  EXPECT_EQ(std::get<HostCallRequest>(*event).name, "greet");
  EXPECT_EQ(std::get<HostCallRequest>(*event).request, "world");
  EXPECT_TRUE(absl::IsFailedPrecondition(instance->Resume().status())) << "unanswered";
  EXPECT_TRUE(instance->CompleteHostCall("answer").ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(instance->CompleteHostCall("answered before")));
  EXPECT_TRUE(Is<Exited>(instance->Resume()));
  EXPECT_EQ(bench.output, "0 answer\n");
}

TEST_P(Conformance, InstancesInTurnsOnOneThread) {
  Bench one(*Find("host_call"), {"one"}), two(*Find("host_call"), {"two"});
  const auto first = Make(*provider_, one), second = Make(*provider_, two);
  ASSERT_TRUE(first && second);
  ASSERT_TRUE(Is<HostCallRequest>(first->Resume()));
  ASSERT_TRUE(Is<HostCallRequest>(second->Resume()));
  EXPECT_TRUE(first->CompleteHostCall("1").ok());
  EXPECT_TRUE(Is<Exited>(first->Resume()));
  EXPECT_TRUE(second->CompleteHostCall("2").ok());
  EXPECT_TRUE(Is<Exited>(second->Resume()));
  EXPECT_EQ(one.output, "0 1\n");
  EXPECT_EQ(two.output, "0 2\n");
}

TEST_P(Conformance, InstanceMovesBetweenThreads) {
  Bench bench(*Find("host_call"));
  std::unique_ptr<Instance> instance;
  std::thread([&] {
    instance = Make(*provider_, bench);
    ASSERT_TRUE(instance);
    EXPECT_TRUE(Is<HostCallRequest>(instance->Resume()));
  }).join();
  ASSERT_TRUE(instance);
  EXPECT_TRUE(instance->CompleteHostCall("here").ok());
  std::thread([&] {
    const auto event = instance->Resume();
    EXPECT_TRUE(Is<Exited>(event)) << "the thread that started it is gone: " << event.status();
  }).join();
  EXPECT_EQ(bench.output, "0 here\n");
}

TEST_P(Conformance, DestroyedWithoutResume) {
  Bench bench(*Find("spin"));
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(Make(*provider_, bench));
  EXPECT_EQ(bench.output, "");
}

TEST_P(Conformance, DestroyedInMidRun) {
  for (int i = 0; i < 10; ++i) {
    Bench bench(*Find("host_call"));
    const auto instance = Make(*provider_, bench);
    ASSERT_TRUE(instance);
    ASSERT_TRUE(Is<HostCallRequest>(instance->Resume()));
    if (i % 2 == 1) continue;
    EXPECT_TRUE(instance->CompleteHostCall("never delivered").ok());
  }
}

TEST_P(Conformance, StopBeforeResume) {
  Bench bench(*Find("spin"));
  const auto instance = Make(*provider_, bench);
  ASSERT_TRUE(instance);
  instance->Stop();
  instance->Stop();
  EXPECT_TRUE(Is<Stopped>(instance->Resume()));
  EXPECT_TRUE(absl::IsFailedPrecondition(instance->Resume().status()));
}

TEST_P(Conformance, StopFromAnotherThread) {
  for (int i = 0; i < 20; ++i) {
    Bench bench(*Find("spin"));
    const auto instance = Make(*provider_, bench);
    ASSERT_TRUE(instance);
    // From "at once" to "when it surely runs": a stop is never lost in between.
    std::jthread stopper([&] {
      std::this_thread::sleep_for(std::chrono::microseconds(i * i * 100));
      instance->Stop();
    });
    const auto start = std::chrono::steady_clock::now();
    const auto event = instance->Resume();
    EXPECT_TRUE(Is<Stopped>(event)) << i << ": " << event.status();
    EXPECT_LT(std::chrono::steady_clock::now() - start, 1000ms * Slowness());
  }
}

TEST_P(Conformance, StopWhileWaitingForInput) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  Bench bench(*Find("cat_stdin"));
  bench.spec.input_fd = ends[0];
  const auto instance = Make(*provider_, bench);
  ASSERT_TRUE(instance);
  std::jthread stopper([&] {
    std::this_thread::sleep_for(100ms);
    instance->Stop();
  });
  EXPECT_TRUE(Is<Stopped>(instance->Resume()));
  stopper.join();
  close(ends[0]);
  close(ends[1]);
}

TEST_P(Conformance, StopDuringAHostCall) {
  Bench bench(*Find("host_call"));
  const auto instance = Make(*provider_, bench);
  ASSERT_TRUE(instance);
  ASSERT_TRUE(Is<HostCallRequest>(instance->Resume()));
  instance->Stop();
  EXPECT_TRUE(instance->CompleteHostCall("too late").ok());
  EXPECT_TRUE(Is<Stopped>(instance->Resume()));
}

TEST_P(Conformance, StopTokenEndsARun) {
  std::stop_source stop;
  RunOptions options;
  options.stop = stop.get_token();
  std::jthread stopper([&] {
    std::this_thread::sleep_for(100ms);
    stop.request_stop();
  });
  const RunResult result = Run("spin", options);
  EXPECT_EQ(result.outcome, Outcome::kStopped);
  EXPECT_EQ(result.exit_code, 143);
}

TEST_P(Conformance, SupervisorStopsAllItsRuns) {
  auto supervisor = Supervisor::Create(provider_);
  ASSERT_TRUE(supervisor.ok()) << supervisor.status();
  const Program spin = *Find("spin");
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      const auto result = supervisor->Run(spin);
      if (result.ok()) {
        EXPECT_EQ(result->outcome, Outcome::kStopped);
      } else {
        EXPECT_TRUE(absl::IsCancelled(result.status())) << result.status();
      }
    });
  }
  std::this_thread::sleep_for(200ms);
  supervisor->Stop();
  threads.clear();
  EXPECT_TRUE(absl::IsCancelled(supervisor->Run(spin).status()));
}

}  // namespace
}  // namespace waxvm::conformance
