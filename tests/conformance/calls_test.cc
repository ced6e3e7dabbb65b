// SPDX-License-Identifier: Apache-2.0
// Sessions with real programs: calls into a guest that was built with the library for guests, and
// into one that speaks the format wrongly.
#include "waxvm/session.h"

#include <atomic>
#include <thread>

#include "conformance.h"

namespace waxvm::conformance {
namespace {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;
using std::chrono_literals::operator""ns;

using Reply = absl::StatusOr<std::string>;

bool Contains(const absl::Status& status, std::string_view part) {
  return std::string(status.message()).find(part) != std::string::npos;
}

/// A session, or a failure of the test.
std::unique_ptr<Session> Open(const std::shared_ptr<Provider>& provider,
                              const std::optional<Program>& program,
                              const RunOptions& options = {}) {
  auto session = Session::Start(provider, *program, options);
  EXPECT_TRUE(session.ok()) << session.status();
  return session.ok() ? *std::move(session) : nullptr;
}

void ExpectPoisoned(Session& session, const absl::Status& ended, absl::StatusCode code,
                    std::string_view why) {
  EXPECT_EQ(ended.code(), code) << ended;
  EXPECT_TRUE(Contains(ended, why)) << ended;
  const absl::Status later = session.Call("noop", "").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(later)) << later;
  EXPECT_TRUE(Contains(later, why)) << later;
  EXPECT_EQ(session.health(), later);
}

#define WAXVM_OPEN_OR_SKIP(session, guest, ...)                                 \
  WAXVM_NEEDS_PROGRAM(guest);                                                   \
  const auto session = Open(provider_, Find(guest) __VA_OPT__(, ) __VA_ARGS__); \
  ASSERT_TRUE(session)

TEST_P(Conformance, CallsAnswer) {
  WAXVM_OPEN_OR_SKIP(session, "call_functions");
  EXPECT_EQ(*session->Call("add", "20 22"), "42");
  EXPECT_EQ(*session->Call("noop", "ignored"), "");
  EXPECT_EQ(*session->Call("nested", ""), "-16") << "there is no serving inside of a call";
  for (int i = 1; i <= 100; ++i)
    EXPECT_EQ(*session->Call("counter", ""), std::to_string(i)) << "it is one program";
  EXPECT_TRUE(session->health().ok());
  EXPECT_EQ(session->report().host_calls, 0u);
}

TEST_P(Conformance, CallsOfEverySize) {
  WAXVM_OPEN_OR_SKIP(session, "call_functions");
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{4096},
                                  std::size_t{65'537}, std::size_t{3} << 20, kMaxCallBytes}) {
    std::string all(bytes, '\0');
    for (std::size_t i = 0; i < bytes; ++i) all[i] = static_cast<char>(i * 7 + i / 251);
    const auto echoed = session->Call("echo", all);
    ASSERT_TRUE(echoed.ok()) << bytes << ": " << echoed.status();
    EXPECT_TRUE(*echoed == all) << bytes;
  }
  EXPECT_EQ(session->Call("produce", std::to_string(kMaxCallBytes))->size(), kMaxCallBytes);
  const absl::Status more = session->Call("produce", std::to_string(kMaxCallBytes + 1)).status();
  EXPECT_TRUE(absl::IsResourceExhausted(more)) << more;
  EXPECT_TRUE(
      absl::IsInvalidArgument(session->Call("echo", std::string(kMaxCallBytes + 1, 'x')).status()));
  EXPECT_TRUE(session->health().ok());
}

TEST_P(Conformance, CallErrorsAreTheFunctionsOwn) {
  WAXVM_OPEN_OR_SKIP(session, "call_functions");
  const absl::Status unknown = session->Call("ad", "").status();
  EXPECT_EQ(unknown, absl::NotFoundError("the program exports no function ad"));
  EXPECT_EQ(session->Call("fail", "3 not so").status(), absl::InvalidArgumentError("not so"));
  EXPECT_EQ(session->Call("fail", "16 ").status(), absl::UnauthenticatedError(""));
  EXPECT_TRUE(absl::IsInternal(session->Call("fail", "17 odd").status()));
  EXPECT_TRUE(absl::IsInternal(session->Call("fail", "-1 odd").status()));
  EXPECT_EQ(session->Call("garbled", "").status(), absl::AbortedError("a?"
                                                                      "?(\xe2\x82\xac"));
  EXPECT_EQ(session->Call("add", "x").status(),
            absl::InvalidArgumentError("two numbers are needed"));
  EXPECT_EQ(*session->Call("add", "1 2"), "3");
}

TEST_P(Conformance, CallsOfFunctionsInCpp) {
  RunOptions options;
  options.grants = {Function("greet", [](const HostCallContext&, std::string_view name) {
    return name.empty() ? Reply(absl::NotFoundError("nobody")) : Reply("hi " + std::string(name));
  })};
  WAXVM_OPEN_OR_SKIP(session, "call_functions_cpp", options);
  EXPECT_EQ(*session->Call("upper", "text"), "TEXT");
  EXPECT_EQ(*session->Call("same", std::string("\0x", 2)), std::string("\0x", 2));
  EXPECT_EQ(*session->Call("nothing", "x"), "");
  EXPECT_EQ(session->Call("refuse", "you").status(), absl::PermissionDeniedError("not you"));
  EXPECT_EQ(session->Call("throw", "it").status(), absl::InternalError("thrown: it"));
  EXPECT_EQ(*session->Call("greet", "you"), "hi you");
  EXPECT_EQ(session->Call("greet", "").status(), absl::NotFoundError("nobody"));
  EXPECT_EQ(session->TakeErrorOutput(), "greeting 1\ngreeting 2\n");
}

TEST_P(Conformance, HostCallsInsideOfCalls) {
  Session* self = nullptr;
  RunOptions options = WithArguments({"greet"});
  options.label = "me";
  options.grants = {
      Function("greet",
               [](const HostCallContext& context, std::string_view name) {
                 return Reply(std::string(context.label()) + " greets " + std::string(name));
               }),
      Function("large",
               [](const HostCallContext&, std::string_view) {
                 return Reply(std::string(std::size_t{8} << 20, 'L'));
               }),
      Function("back", [&](const HostCallContext&, std::string_view) {
        return Reply(self->Call("noop", "").status());
      })};
  WAXVM_OPEN_OR_SKIP(session, "call_functions", options);
  self = session.get();
  EXPECT_EQ(session->report().host_calls, 1u) << "one was made before it was ready";
  EXPECT_EQ(*session->Call("call_host", "greet you"), "me greets you");
  EXPECT_EQ(session->Call("call_host", "large")->size(), std::size_t{8} << 20);
  EXPECT_EQ(*session->Call("call_host", "greet again"), "me greets again");
  const absl::Status denied = session->Call("call_host", "launch").status();
  EXPECT_TRUE(absl::IsPermissionDenied(denied)) << denied;
  const absl::Status back = session->Call("call_host", "back").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(back)) << back;
  EXPECT_TRUE(Contains(back, "the session is in a call")) << back;
  EXPECT_EQ(*session->Call("add", "1 1"), "2");
  EXPECT_EQ(session->report().host_calls, 5u);
  EXPECT_EQ(Denials(session->report(), Resource::kHostFunction, "launch"), 1u);
}

TEST_P(Conformance, CallsWriteOutput) {
  WAXVM_OPEN_OR_SKIP(session, "call_functions");
  EXPECT_TRUE(session->Call("write_output", "one\n").ok());
  // A process's pipes are read while it runs: what was written is here once it is in a later call.
  EXPECT_TRUE(session->Call("noop", "").ok());
  std::string output = session->TakeOutput();
  std::string error = session->TakeErrorOutput();
  EXPECT_TRUE(session->Call("write_output", "two").ok());
  EXPECT_TRUE(session->Call("noop", "").ok());
  output += session->TakeOutput();
  error += session->TakeErrorOutput();
  EXPECT_EQ(output, "one\ntwo");
  EXPECT_EQ(error, "one\ntwo\n");
}

TEST_P(Conformance, FaultInACallPoisons) {
  WAXVM_OPEN_OR_SKIP(session, "call_functions");
  EXPECT_TRUE(session->Call("noop", "").ok());
  ExpectPoisoned(*session, session->Call("fault", "").status(), absl::StatusCode::kAborted,
                 "the program faulted: segmentation");
}

TEST_P(Conformance, EndInACallPoisons) {
  WAXVM_OPEN_OR_SKIP(session, "call_functions");
  ExpectPoisoned(*session, session->Call("exit", "").status(), absl::StatusCode::kAborted,
                 "the program ended with exit code 9");
}

TEST_P(Conformance, MemoryLimitInACallPoisons) {
  if (!Enforces(LimitKind::kMemory)) GTEST_SKIP() << info_.name << " has no memory limit";
  RunOptions options;
  options.limits.memory_bytes = std::uint64_t{32} << 20;
  WAXVM_OPEN_OR_SKIP(session, "call_functions", options);
  EXPECT_TRUE(session->Call("allocate", "1000000").ok());
  const absl::Status status = session->Call("allocate", "200000000").status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  // Memory may be refused to malloc, or the limit met by touching it.
  EXPECT_TRUE(session->health().ok() || Contains(status, "`memory`")) << status;
}

TEST_P(Conformance, ProgramsThatAreNeverReady) {
  WAXVM_NEEDS_PROGRAM("call_functions");
  RunOptions options;
  options.limits.wall_time = 300ms;
  const absl::Status never = Session::Start(provider_, *Find("spin"), options).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(never)) << never;
  EXPECT_TRUE(Contains(never, "`wall` before it was ready for calls")) << never;

  options = WithArguments({"exit"});
  const absl::Status ended = Session::Start(provider_, *Find("call_functions"), options).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(ended)) << ended;
  EXPECT_TRUE(Contains(ended, "exit code 3 before")) << ended;

  options = WithArguments({"fault"});
  const absl::Status fault = Session::Start(provider_, *Find("call_functions"), options).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(fault)) << fault;
  EXPECT_TRUE(Contains(fault, "segmentation")) << fault;
}

TEST_P(Conformance, ARunOfAProgramForCallsIsToldSo) {
  WAXVM_NEEDS_PROGRAM("call_functions");
  const RunResult result = Run("call_functions", WithArguments({"after"}));
  EXPECT_EQ(result.output, "serving ended with -107\n");
  EXPECT_EQ(Denials(result.report, Resource::kHostFunction), 0u);
}

/// Skips where the provider cannot limit the time of one call, and says so.
#define WAXVM_NEEDS_CALL_LIMITS(session)                                                       \
  if (const absl::Status probed =                                                              \
          session->Call("noop", "", {.limits = {.wall_time = 60s, .cpu_time = 60s}}).status(); \
      absl::IsUnimplemented(probed))                                                           \
  GTEST_SKIP() << info_.name << ": " << probed

TEST_P(Conformance, TimeLimitsOfOneCall) {
  for (const bool wall : {true, false}) {
    RunOptions options;
    options.limits.wall_time = 10s * Slowness();
    WAXVM_OPEN_OR_SKIP(session, "call_functions", options);
    WAXVM_NEEDS_CALL_LIMITS(session);
    CallOptions limited;
    (wall ? limited.limits.wall_time : limited.limits.cpu_time) = 150ms;
    for (int i = 0; i < 3; ++i) {
      EXPECT_TRUE(session->Call("noop", "", limited).ok());
      std::this_thread::sleep_for(100ms);  // between calls nothing is counted
    }
    const auto start = std::chrono::steady_clock::now();
    const absl::Status status = session->Call("spin", "", limited).status();
    const auto took = std::chrono::steady_clock::now() - start;
    EXPECT_GE(took, 140ms);
    EXPECT_LE(took, 5s * Slowness());
    ExpectPoisoned(*session, status, absl::StatusCode::kDeadlineExceeded,
                   wall ? "`wall`" : "`cpu`");
  }
}

TEST_P(Conformance, TheStartsLimitDoesNotBoundCalls) {
  if (!Enforces(LimitKind::kWallTime)) GTEST_SKIP() << info_.name << " has no wall time limit";
  RunOptions options;
  options.limits.wall_time = 2s * Slowness();
  options.limits.cpu_time = 2s * Slowness();
  WAXVM_OPEN_OR_SKIP(session, "call_functions", options);
  WAXVM_NEEDS_CALL_LIMITS(session);
  std::this_thread::sleep_for(2100ms * Slowness());
  EXPECT_EQ(*session->Call("add", "1 1"), "2");
}

TEST_P(Conformance, CallsAreCancelled) {
  for (const bool by_token : {true, false}) {
    WAXVM_OPEN_OR_SKIP(session, "call_functions");
    std::stop_source stop;
    std::jthread canceller([&] {
      std::this_thread::sleep_for(50ms);
      if (by_token) stop.request_stop();
      if (!by_token) session->Stop();
    });
    const absl::Status status = session->Call("spin", "", {.stop = stop.get_token()}).status();
    ExpectPoisoned(*session, status, absl::StatusCode::kCancelled, "stopped");
  }
}

TEST_P(Conformance, SessionsAreClonedAndPutBack) {
  RunOptions options;
  options.limits.wall_time = 10s * Slowness();
  options.grants = {Function("greet", [](const HostCallContext&, std::string_view name) {
    return Reply("hello " + std::string(name));
  })};
  WAXVM_OPEN_OR_SKIP(session, "call_functions", options);
  EXPECT_EQ(*session->Call("counter", ""), "1");
  const auto snapshot = session->TakeSnapshot();
  if (absl::IsUnimplemented(snapshot.status()))
    GTEST_SKIP() << info_.name << ": " << snapshot.status();
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  EXPECT_GT(snapshot->memory_bytes(), 0u);
  EXPECT_EQ(*session->Call("counter", ""), "2");

  auto one = snapshot->Clone();
  ASSERT_TRUE(one.ok()) << one.status();
  // Made here, called there.
  std::jthread([&] {
    EXPECT_EQ(*(*one)->Call("counter", ""), "2");
    EXPECT_EQ(*(*one)->Call("counter", ""), "3");
    EXPECT_EQ(*(*one)->Call("call_host", "greet clone"), "hello clone");
    EXPECT_TRUE((*one)->Call("write_output", "words").ok());
    EXPECT_EQ((*one)->report().host_calls, 1u);
    const absl::Status reset = (*one)->Reset();
    EXPECT_TRUE(reset.ok()) << reset;
    EXPECT_EQ((*one)->TakeOutput(), "") << "it is forgotten with the rest";
    EXPECT_EQ((*one)->report().host_calls, 0u);
    EXPECT_EQ(*(*one)->Call("counter", ""), "2");
    ExpectPoisoned(**one, (*one)->Call("fault", "").status(), absl::StatusCode::kAborted,
                   "segmentation");
  }).join();
  EXPECT_TRUE(absl::IsFailedPrecondition(session->Reset())) << "it is no clone";
  EXPECT_EQ(*session->Call("counter", ""), "3") << "what a clone does is its own";
  const auto two = snapshot->Clone();
  ASSERT_TRUE(two.ok()) << two.status();
  EXPECT_EQ(*(*two)->Call("counter", ""), "2");
}

TEST_P(Conformance, CallsFromAnotherThreadAreRefused) {
  WAXVM_OPEN_OR_SKIP(session, "call_functions");
  std::jthread([&] {
    const absl::Status status = session->Call("noop", "").status();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_TRUE(Contains(status, "belongs to another thread")) << status;
  }).join();
  EXPECT_TRUE(session->Call("noop", "").ok());
}

TEST_P(Conformance, EveryBreachOfTheFormatOfCallsPoisons) {
  WAXVM_NEEDS_PROGRAM("call_adversary");
  for (const char* what : {"short", "empty", "version", "state", "reserved", "failed_with_0",
                           "failed_with_17", "returned_with_5", "large", "long_message", "no_text",
                           "ready_again", "again_with_bytes", "again"}) {
    SCOPED_TRACE(what);
    const auto session = Open(provider_, Find("call_adversary"), WithArguments({"answer", what}));
    ASSERT_TRUE(session);
    ExpectPoisoned(*session, session->Call("f", "arguments").status(), absl::StatusCode::kAborted,
                   "breaks the format of calls");
  }
  for (const char* what : {"short", "version", "returned", "no_text", "again"}) {
    SCOPED_TRACE(what);
    const absl::Status status =
        Session::Start(provider_, *Find("call_adversary"), WithArguments({"ready", what})).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_TRUE(Contains(status, "breaks the format of calls")) << status;
  }
}

}  // namespace
}  // namespace waxvm::conformance
