// SPDX-License-Identifier: Apache-2.0
// Sessions over programs that speak the format of calls by hand, rightly and wrongly.
#include "waxvm/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "src/supervisor/call_format.h"
#include "src/supervisor/fake_provider_for_test.h"
#include "waxvm/native.h"
#include "waxvm/providers.h"

namespace waxvm {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

std::string Word(std::uint32_t value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}

std::string Header(std::uint32_t version, std::uint32_t state, std::uint32_t code,
                   std::uint32_t zero) {
  return Word(version) + Word(state) + Word(code) + Word(zero);
}

std::string Ready() { return Header(1, 0, 0, 0); }
std::string Returned(const std::string& result) { return Header(1, 1, 0, 0) + result; }
std::string Failed(int code, const std::string& message) {
  return Header(1, 2, static_cast<std::uint32_t>(code), 0) + message;
}
std::string Again() { return Header(1, 3, 0, 0); }

/// A call as the program reads it.
struct Got {
  std::string function, arguments;
};
Got Decode(const std::string& reply) {
  EXPECT_GE(reply.size(), kCallHeaderBytes);
  EXPECT_EQ(reply.substr(0, 4), Word(1));
  EXPECT_EQ(reply.substr(12, 4), Word(0));
  std::uint32_t name = 0, arguments = 0;
  std::memcpy(&name, reply.data() + 4, 4);
  std::memcpy(&arguments, reply.data() + 8, 4);
  EXPECT_EQ(reply.size(), kCallHeaderBytes + name + arguments);
  return {reply.substr(kCallHeaderBytes, name), reply.substr(kCallHeaderBytes + name)};
}

/// A program that gives `answer` to each call, until the host has no more.
NativeFunction Serving(std::function<std::string(NativeContext&, const Got&)> answer) {
  return [answer = std::move(answer)](NativeContext& context) {
    std::string next = Ready();
    for (;;) {
      const auto call = context.CallHost("waxvm.serve", next);
      if (!call.ok()) return absl::IsCancelled(call.status()) ? 0 : 1;
      next = answer(context, Decode(*call));
    }
  };
}

NativeFunction Echo() {
  return Serving([](NativeContext&, const Got& got) { return Returned(got.arguments); });
}

absl::StatusOr<std::unique_ptr<Session>> Start(NativeFunction function,
                                               const RunOptions& options = {}) {
  return Session::Start(NewMockProvider(), Native(std::move(function)), options);
}

std::unique_ptr<Session> MustStart(NativeFunction function, const RunOptions& options = {}) {
  auto session = Start(std::move(function), options);
  EXPECT_TRUE(session.ok()) << session.status();
  return session.ok() ? *std::move(session) : nullptr;
}

void ExpectPoisoned(Session& session, const std::string& why) {
  EXPECT_TRUE(absl::IsFailedPrecondition(session.health())) << session.health();
  EXPECT_THAT(Message(session.health()), HasSubstr(why));
  const absl::Status later = session.Call("f", "").status();
  EXPECT_EQ(later, session.health());
  EXPECT_TRUE(absl::IsFailedPrecondition(session.TakeSnapshot().status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(session.Reset()));
}

TEST(SessionTest, CallsReachTheProgramAndItsResultsComeBack) {
  std::vector<std::string> seen;
  const auto session = MustStart(Serving([&](NativeContext&, const Got& got) {
    seen.push_back(got.function + ":" + got.arguments);
    return Returned("<" + got.arguments + ">");
  }));
  ASSERT_TRUE(session);
  EXPECT_EQ(*session->Call("first", "one"), "<one>");
  EXPECT_EQ(*session->Call("second", std::string_view("\0\xff", 2)),
            std::string_view("<\0\xff>", 4));
  EXPECT_EQ(*session->Call(std::string(255, 'n'), ""), "<>");
  EXPECT_THAT(
      seen, ElementsAre("first:one", std::string("second:\0\xff", 9), std::string(255, 'n') + ":"));
  EXPECT_TRUE(session->health().ok());
}

TEST(SessionTest, LargestArgumentsAndResult) {
  const auto session = MustStart(Echo());
  const std::string most(kMaxCallBytes, 'x');
  const auto result = session->Call("echo", most);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(*result == most);
  EXPECT_EQ(*session->Call("echo", "small again"), "small again");
}

TEST(SessionTest, WhatCannotBeSentIsRefusedAndChangesNothing) {
  const auto session = MustStart(Echo());
  const auto more = session->Call("echo", std::string(kMaxCallBytes + 1, 'x')).status();
  EXPECT_TRUE(absl::IsInvalidArgument(more));
  EXPECT_THAT(Message(more), HasSubstr("15728641 bytes, at most 15728640"));
  EXPECT_TRUE(absl::IsInvalidArgument(session->Call("", "").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(session->Call(std::string(256, 'n'), "").status()));
  EXPECT_TRUE(
      absl::IsInvalidArgument(session->Call("f", "", {.limits = {.wall_time = 0ns}}).status()));
  EXPECT_TRUE(
      absl::IsInvalidArgument(session->Call("f", "", {.limits = {.cpu_time = -1ns}}).status()));
  // The mock has no time limits: refused, not ignored.
  EXPECT_TRUE(
      absl::IsUnimplemented(session->Call("f", "", {.limits = {.wall_time = 1s}}).status()));
  EXPECT_EQ(*session->Call("echo", "fine"), "fine");
}

TEST(SessionTest, ErrorsOfTheFunctionComeBackWithCodeAndMessage) {
  int code = 0;
  const auto session = MustStart(Serving(
      [&](NativeContext&, const Got&) { return Failed(code, "no. " + std::to_string(code)); }));
  for (code = 1; code <= 16; ++code) {
    EXPECT_EQ(session->Call("f", "").status(),
              absl::Status(static_cast<absl::StatusCode>(code), "no. " + std::to_string(code)));
  }
  EXPECT_TRUE(session->health().ok());
}

TEST(SessionTest, TheCallIsSentAgainToAProgramWithASmallBuffer) {
  int asked = 0;
  const auto session = MustStart(Serving([&](NativeContext&, const Got& got) {
    return ++asked % 5 == 0 ? Returned(got.arguments + got.function) : Again();
  }));
  EXPECT_EQ(*session->Call("f", "a"), "af");
  EXPECT_EQ(*session->Call("f", "b"), "bf") << "counted for each call";
  EXPECT_EQ(asked, 10);
}

TEST(SessionTest, EveryBreachOfTheFormatPoisons) {
  const struct {
    std::string sent, why;
  } kCases[] = {
      {"", "a request of 0 bytes, at least 16"},
      {Ready().substr(1), "a request of 15 bytes"},
      {Header(0, 1, 0, 0), "version 0, must be 1"},
      {Header(2, 1, 0, 0), "version 2, must be 1"},
      {Header(1, 4, 0, 0), "state 4, at most 3"},
      {Header(1, 0xffffffff, 0, 0), "state 4294967295"},
      {Header(1, 1, 0, 1), "the reserved field is 1"},
      {Header(1, 1, 5, 0), "state 1 comes with the code 5"},
      {Header(1, 0, 5, 0), "state 0 comes with the code 5"},
      {Header(1, 3, 5, 0), "state 3 comes with the code 5"},
      {Failed(0, "fine"), "an error with the code 0"},
      {Failed(17, ""), "an error with the code 17"},
      {Failed(-1, ""), "an error with the code 4294967295"},
      {Returned(std::string(kMaxCallBytes + 1, 'r')), "the result has 15728641 bytes"},
      {Failed(3, std::string(kMaxCallMessageBytes + 1, 'm')), "an error has 65537 bytes"},
      {Failed(3, "\xff"), "not UTF-8"},
      {Failed(3, "cut \xe2\x82"), "not UTF-8"},
      {Failed(3, "\xed\xa0\x80"), "not UTF-8"},
      {Ready() + "x", "state 0 comes with 1 bytes"},
      {Again() + "x", "state 3 comes with 1 bytes"},
      {Ready(), "nothing was called yet"},
      {Again(), "more than 4 times"},
  };
  for (const auto& breach : kCases) {
    SCOPED_TRACE(breach.why);
    const auto session =
        MustStart(Serving([&](NativeContext&, const Got&) { return breach.sent; }));
    const absl::Status status = session->Call("f", "").status();
    EXPECT_TRUE(absl::IsAborted(status)) << status;
    EXPECT_THAT(Message(status), HasSubstr("breaks the format of calls"));
    EXPECT_THAT(Message(status), HasSubstr(breach.why));
    ExpectPoisoned(*session, breach.why);
  }
}

TEST(SessionTest, BreachesBeforeTheFirstCallAreNoStart) {
  for (const auto& [sent, why] :
       {std::pair{Returned("x"), "a call that was not made"},
        std::pair{Failed(3, "x"), "a call that was not made"},
        std::pair{Again(), "a call that was not made"}, std::pair{Header(9, 0, 0, 0), "version 9"},
        std::pair{std::string("?"), "a request of 1 bytes"}}) {
    const auto started = Start([sent = sent](NativeContext& context) {
      return context.CallHost("waxvm.serve", sent).ok() ? 0 : 1;
    });
    EXPECT_TRUE(absl::IsFailedPrecondition(started.status())) << started.status();
    EXPECT_THAT(Message(started.status()), HasSubstr(why));
    EXPECT_THAT(Message(started.status()), HasSubstr("before it was ready for calls"));
  }
}

TEST(SessionTest, ProgramsThatEndBeforeTheyAreReady) {
  const absl::Status ended = Start([](NativeContext&) { return 7; }).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(ended)) << ended;
  EXPECT_THAT(Message(ended), HasSubstr("the program ended with exit code 7 before it was ready"));

  const absl::Status thrown =
      Start([](NativeContext&) -> int { throw std::runtime_error("cheese"); }).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(thrown)) << thrown;
  EXPECT_THAT(Message(thrown), HasSubstr("the program faulted: signal"));

  const absl::Status flooded =
      Start([](NativeContext& context) { return context.WriteOutput("too much").ok() ? 0 : 1; },
            {.limits = {.output_bytes = 3}})
          .status();
  EXPECT_TRUE(absl::IsFailedPrecondition(flooded)) << flooded;
  EXPECT_THAT(Message(flooded), HasSubstr("the program met the limit `output`"));
}

TEST(SessionTest, BadStarts) {
  EXPECT_TRUE(absl::IsInvalidArgument(Session::Start(nullptr, Native(Echo())).status()));
  EXPECT_EQ(Session::Start(NewMockProvider(), absl::NotFoundError("nothing there")).status(),
            absl::NotFoundError("nothing there"));
  auto fake = std::make_shared<FakeProvider>();
  fake->available = absl::UnavailableError("not today");
  EXPECT_EQ(Session::Start(fake, Native(Echo())).status(), absl::UnavailableError("not today"));
  const auto reserved = [](const HostCallContext&,
                           std::string_view) -> absl::StatusOr<std::string> { return ""; };
  const absl::Status refused =
      Start(Echo(), {.grants = {Function("waxvm.anything", reserved)}}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
  EXPECT_THAT(Message(refused), HasSubstr("waxvm's own"));
  EXPECT_TRUE(absl::IsInvalidArgument(Start(Echo(), {.environment = {"="}}).status()));
}

TEST(SessionTest, EndsInACallPoison) {
  for (const bool fault : {false, true}) {
    const auto session = MustStart([fault](NativeContext& context) {
      (void)context.CallHost("waxvm.serve", Ready());
      if (fault) throw std::runtime_error("in the call");
      return 3;
    });
    const std::string why =
        fault ? "the program faulted: signal" : "the program ended with exit code 3";
    const absl::Status status = session->Call("f", "").status();
    EXPECT_TRUE(absl::IsAborted(status)) << status;
    EXPECT_THAT(Message(status), HasSubstr(why));
    ExpectPoisoned(*session, why);
  }
}

TEST(SessionTest, OutputLimitInACallPoisons) {
  const auto session =
      MustStart(Serving([](NativeContext& context, const Got& got) {
                  return context.WriteOutput(got.arguments).ok() ? Returned("") : Returned("no");
                }),
                {.limits = {.output_bytes = 5}});
  EXPECT_EQ(*session->Call("write", "123"), "");
  EXPECT_TRUE(absl::IsResourceExhausted(session->Call("write", "4567").status()));
  ExpectPoisoned(*session, "the program met the limit `output`");
  EXPECT_EQ(session->TakeOutput(), "12345");
}

TEST(SessionTest, HostFunctionsAreServedInACallAndTheReportCounts) {
  RunOptions options;
  options.label = "session";
  options.limits.host_calls = 3;
  options.grants = {Function("greet", [](const HostCallContext& context, std::string_view name) {
    EXPECT_FALSE(context.StopRequested());
    return absl::StatusOr<std::string>(std::string(context.label()) + " greets " +
                                       std::string(name));
  })};
  const auto session =
      MustStart(Serving([](NativeContext& context, const Got& got) {
                  const auto reply = context.CallHost(got.function, got.arguments);
                  if (reply.ok()) return Returned(*reply);
                  return Failed(static_cast<int>(reply.status().code()), Message(reply.status()));
                }),
                options);
  EXPECT_EQ(*session->Call("greet", "you"), "session greets you");
  EXPECT_TRUE(absl::IsPermissionDenied(session->Call("launch", "").status()));
  EXPECT_TRUE(absl::IsPermissionDenied(session->Call("waxvm.other", "").status()));
  EXPECT_TRUE(session->Call("greet", "").ok());
  EXPECT_TRUE(session->Call("greet", "").ok());
  const Report report = session->report();
  EXPECT_EQ(report.provider, "mock");
  EXPECT_EQ(report.host_calls, 3u) << "calls into the program are none of its host calls";
  EXPECT_EQ(report.denials, 2u);
  EXPECT_GT(report.wall_time, 0ns);
  EXPECT_TRUE(absl::IsResourceExhausted(session->Call("greet", "").status()));
  ExpectPoisoned(*session, "`host_calls`");
  EXPECT_EQ(session->report().host_calls, 3u);
}

TEST(SessionTest, AHostFunctionCannotUseTheSessionThatCallsIt) {
  Session* self = nullptr;
  absl::Status inside, snapshot, reset;
  RunOptions options;
  options.grants = {Function("back", [&](const HostCallContext&, std::string_view) {
    inside = self->Call("f", "").status();
    snapshot = self->TakeSnapshot().status();
    reset = self->Reset();
    return absl::StatusOr<std::string>("done");
  })};
  const auto session = MustStart(Serving([](NativeContext& context, const Got&) {
                                   return Returned(*context.CallHost("back", ""));
                                 }),
                                 options);
  self = session.get();
  EXPECT_EQ(*session->Call("f", ""), "done");
  for (const absl::Status& status : {inside, snapshot, reset}) {
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_THAT(Message(status), HasSubstr("the session is in a call"));
  }
  EXPECT_EQ(*session->Call("f", ""), "done") << "nothing is broken by it";
}

TEST(SessionTest, AnotherThreadIsRefused) {
  auto session = MustStart(Echo());
  std::jthread([&] {
    for (const absl::Status& status : {session->Call("echo", "x").status(), session->Reset(),
                                       session->TakeSnapshot().status()}) {
      EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
      EXPECT_THAT(Message(status), HasSubstr("belongs to another thread"));
    }
  }).join();
  EXPECT_EQ(*session->Call("echo", "still mine"), "still mine");
  std::jthread([&] { session.reset(); }).join();
}

TEST(SessionTest, StopEndsTheCallOrTheNextOne) {
  const auto idle = MustStart(Echo());
  idle->Stop();
  EXPECT_TRUE(idle->health().ok());
  EXPECT_TRUE(absl::IsCancelled(idle->Call("echo", "").status()));
  ExpectPoisoned(*idle, "stopped");
  idle->Stop();

  std::atomic<bool> release = false;
  {
    const auto busy = MustStart(Serving([&](NativeContext&, const Got&) {
      while (!release) std::this_thread::yield();
      return Returned("");
    }));
    std::jthread stopper([&] {
      std::this_thread::sleep_for(20ms);
      busy->Stop();
    });
    // The mock cannot end the function by force: it is let go after the call has returned.
    std::jthread releaser([&] {
      std::this_thread::sleep_for(60ms);
      release = true;
    });
    EXPECT_TRUE(absl::IsCancelled(busy->Call("f", "").status()));
    ExpectPoisoned(*busy, "stopped");
  }
}

TEST(SessionTest, StopTokens) {
  std::stop_source of_session, of_call, late;
  RunOptions options;
  options.stop = of_session.get_token();
  options.grants = {Function("cancel", [&](const HostCallContext& context, std::string_view) {
    of_call.request_stop();
    return absl::StatusOr<std::string>(context.StopRequested() ? "told" : "not told");
  })};
  const NativeFunction program = Serving([](NativeContext& context, const Got& got) {
    if (got.function != "echo" && !context.CallHost("cancel", "").ok()) return Returned("no");
    return Returned(got.arguments);
  });
  {
    const auto session = MustStart(program, options);
    late.request_stop();
    const absl::Status before = session->Call("echo", "", {.stop = late.get_token()}).status();
    EXPECT_TRUE(absl::IsCancelled(before));
    EXPECT_THAT(Message(before), HasSubstr("before it began"));
    EXPECT_TRUE(session->health().ok()) << "nothing was lost";
    EXPECT_EQ(*session->Call("echo", "a", {.stop = of_call.get_token()}), "a");
    EXPECT_TRUE(
        absl::IsCancelled(session->Call("cancel", "", {.stop = of_call.get_token()}).status()));
    EXPECT_TRUE(absl::IsFailedPrecondition(session->health()));
  }
  const auto session = MustStart(program, options);
  of_session.request_stop();
  EXPECT_TRUE(absl::IsCancelled(session->Call("echo", "").status()));
  EXPECT_TRUE(absl::IsCancelled(Start(program, options).status()));
}

TEST(SessionTest, OutputIsCollectedAndTakenAway) {
  const auto session = MustStart(Serving([](NativeContext& context, const Got& got) {
    EXPECT_TRUE(context.WriteOutput("out " + got.arguments).ok());
    EXPECT_TRUE(context.WriteError("err " + got.arguments).ok());
    return Returned("");
  }));
  EXPECT_TRUE(session->Call("f", "1").ok());
  EXPECT_EQ(session->TakeOutput(), "out 1");
  EXPECT_TRUE(session->Call("f", "2").ok());
  EXPECT_EQ(session->TakeOutput(), "out 2");
  EXPECT_EQ(session->TakeErrorOutput(), "err 1err 2");
  EXPECT_EQ(session->TakeOutput(), "");
}

TEST(SessionTest, TheOutputWriterIsUsed) {
  std::string written;
  RunOptions options;
  options.output = [&](Stream, std::string_view data) {
    if (data == "fail") return absl::DataLossError("disk full");
    written += data;
    return absl::OkStatus();
  };
  const auto session = MustStart(Serving([](NativeContext& context, const Got& got) {
                                   (void)context.WriteOutput(got.arguments);
                                   return Returned("");
                                 }),
                                 options);
  EXPECT_TRUE(session->Call("f", "abc").ok());
  EXPECT_EQ(written, "abc");
  EXPECT_EQ(session->TakeOutput(), "");
  EXPECT_EQ(session->Call("f", "fail").status(), absl::DataLossError("disk full"));
  ExpectPoisoned(*session, "disk full");
}

TEST(SessionTest, WithoutSnapshots) {
  const auto session = MustStart(Echo());
  EXPECT_TRUE(absl::IsUnimplemented(session->TakeSnapshot().status()));
  EXPECT_TRUE(absl::IsUnimplemented(session->Reset()));
  EXPECT_EQ(*session->Call("echo", "goes on"), "goes on");
}

TEST(RunTest, AProgramMadeForCallsIsToldThatItWasNotStartedForThem) {
  const auto result = RunMock([](NativeContext& context) {
    const absl::Status status = context.CallHost("waxvm.serve", Ready()).status();
    EXPECT_EQ(status, absl::UnavailableError("the program was not started for calls"));
    return 0;
  });
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->report.denials, 0u);
  EXPECT_EQ(result->report.host_calls, 0u);
}

/// An instance whose program echoes; it can be limited, copied and put back.
class EchoInstance final : public Instance {
 public:
  struct Log {
    std::vector<std::string> events;
    absl::Status reset;
    std::optional<std::chrono::nanoseconds> wall_of_spec;
  };
  EchoInstance(std::shared_ptr<Log> log, int count, bool fresh)
      : log_(std::move(log)), count_(count), origin_(count), fresh_(fresh) {}

  absl::StatusOr<Event> Resume() override {
    if (std::exchange(fresh_, false)) return HostCallRequest{"waxvm.serve", Ready()};
    ++count_;
    return HostCallRequest{"waxvm.serve", Returned(std::to_string(count_))};
  }
  absl::Status CompleteHostCall(const absl::StatusOr<std::string>&) override {
    return absl::OkStatus();
  }
  void Stop() override {}
  Usage usage() const override { return {}; }
  absl::Status RestartLimits(const CallLimits& limits) override {
    log_->events.push_back("limits " + std::to_string(limits.wall_time.value_or(0ns).count()) +
                           " " + std::to_string(limits.cpu_time.value_or(0ns).count()));
    return absl::OkStatus();
  }
  absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> TakeSnapshot() override {
    return std::make_shared<Taken>(count_);
  }
  absl::Status Reset() override {
    if (log_->reset.ok()) count_ = origin_;
    return log_->reset;
  }

  struct Taken final : InstanceSnapshot {
    explicit Taken(int c) : count(c) {}
    std::uint64_t memory_bytes() const override { return 4096; }
    const int count;
  };

 private:
  const std::shared_ptr<Log> log_;
  int count_;
  const int origin_;
  bool fresh_;
};

class EchoProvider final : public Provider {
 public:
  ProviderInfo info() const override {
    ProviderInfo info;
    info.name = "echo";
    return info;
  }
  absl::Status Available() const override { return absl::OkStatus(); }
  absl::StatusOr<std::unique_ptr<Instance>> Create(const InstanceSpec& spec) override {
    log->wall_of_spec = spec.limits.wall_time;
    EXPECT_TRUE(spec.host_functions_granted && spec.for_calls);
    return std::make_unique<EchoInstance>(log, 0, true);
  }
  absl::StatusOr<std::unique_ptr<Instance>> Clone(std::shared_ptr<const InstanceSnapshot> snapshot,
                                                  const InstanceSpec& spec) override {
    EXPECT_FALSE(spec.limits.wall_time || spec.limits.cpu_time);
    EXPECT_NE(spec.gate, nullptr);
    EXPECT_TRUE(spec.output);
    const auto& taken = dynamic_cast<const EchoInstance::Taken&>(*snapshot);
    return std::make_unique<EchoInstance>(log, taken.count, false);
  }
  const std::shared_ptr<EchoInstance::Log> log = std::make_shared<EchoInstance::Log>();
};

TEST(SessionTest, LimitsAreRestartedOnlyWhereThereAreSome) {
  const auto provider = std::make_shared<EchoProvider>();
  const auto session = Session::Start(provider, Native(nullptr), {.limits = {.wall_time = 7s}});
  ASSERT_TRUE(session.ok()) << session.status();
  EXPECT_EQ(provider->log->wall_of_spec, 7s);
  EXPECT_THAT(provider->log->events, ElementsAre("limits 0 0")) << "the start is over";
  for (int i = 0; i < 3; ++i) EXPECT_TRUE((*session)->Call("f", "").ok());
  EXPECT_EQ(provider->log->events.size(), 1u);
  EXPECT_TRUE((*session)->Call("f", "", {.limits = {.wall_time = 5ms}}).ok());
  EXPECT_TRUE((*session)->Call("f", "", {.limits = {.cpu_time = 6ns}}).ok());
  EXPECT_TRUE((*session)->Call("f", "").ok());
  EXPECT_TRUE((*session)->Call("f", "").ok());
  EXPECT_THAT(provider->log->events,
              ElementsAre("limits 0 0", "limits 5000000 0", "limits 0 6", "limits 0 0"));
}

TEST(SessionTest, ClonesStartWhereTheSnapshotWasTaken) {
  const auto provider = std::make_shared<EchoProvider>();
  auto session = Session::Start(provider, Native(nullptr), {.limits = {.wall_time = 7s}});
  ASSERT_TRUE(session.ok()) << session.status();
  EXPECT_EQ(*(*session)->Call("f", ""), "1");
  auto snapshot = (*session)->TakeSnapshot();
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  EXPECT_EQ(snapshot->memory_bytes(), 4096u);
  EXPECT_EQ(*(*session)->Call("f", ""), "2");
  session->reset();
  const auto one = *snapshot->Clone();
  const auto two = *snapshot->Clone();
  snapshot = absl::UnknownError("gone");
  EXPECT_EQ(*one->Call("f", ""), "2");
  EXPECT_EQ(*one->Call("f", ""), "3");
  EXPECT_EQ(*two->Call("f", ""), "2");
  EXPECT_TRUE(one->Reset().ok());
  EXPECT_EQ(*one->Call("f", ""), "2");
  const auto grandchild = one->TakeSnapshot()->Clone();
  EXPECT_EQ(*(*grandchild)->Call("f", ""), "3");
}

TEST(SessionTest, ACloneBelongsToTheThreadOfItsFirstCall) {
  const auto provider = std::make_shared<EchoProvider>();
  const auto session = Session::Start(provider, Native(nullptr));
  const auto clone = *(*session)->TakeSnapshot()->Clone();
  EXPECT_TRUE(clone->health().ok());
  std::jthread([&] { EXPECT_EQ(*clone->Call("f", ""), "1"); }).join();
  const absl::Status status = clone->Call("f", "").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(Message(status), HasSubstr("belongs to another thread"));
}

TEST(SessionTest, AResetThatFailsPoisonsUnlessNothingWasDone) {
  const auto provider = std::make_shared<EchoProvider>();
  const auto session = Session::Start(provider, Native(nullptr));
  const auto clone = *(*session)->TakeSnapshot()->Clone();
  provider->log->reset = absl::FailedPreconditionError("no clone");
  EXPECT_TRUE(absl::IsFailedPrecondition(clone->Reset()));
  EXPECT_TRUE(clone->Call("f", "").ok());
  provider->log->reset = absl::InternalError("out of luck");
  EXPECT_EQ(clone->Reset(), absl::InternalError("out of luck"));
  ExpectPoisoned(*clone, "out of luck");
}

}  // namespace
}  // namespace waxvm
