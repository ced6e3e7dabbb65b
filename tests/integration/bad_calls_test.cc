// SPDX-License-Identifier: Apache-2.0
// Pools and sessions of microVMs used badly: bad input, each with its own status, and embedders
// with signals, forks, exceptions, small stacks and threads that come and go.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "waxvm/pool.h"
#include "waxvm/providers.h"

namespace waxvm {
namespace {

using namespace std::chrono_literals;

using Reply = absl::StatusOr<std::string>;

std::string GuestPath(const std::string& name) {
  const char* folder = std::getenv("WAXVM_GUEST_DIR");
  return std::string(folder != nullptr ? folder : WAXVM_GUEST_DIR) + "/" + name;
}

bool Contains(const absl::Status& status, std::string_view part) {
  return std::string(status.message()).find(part) != std::string::npos;
}

class BadCalls : public ::testing::Test {
 protected:
  void SetUp() override {
    provider_ = NewMicroVmProvider();
    if (const absl::Status status = provider_->Available(); !status.ok())
      GTEST_SKIP() << std::string(status.message());
  }

  std::unique_ptr<Session> Start(const std::vector<Grant>& grants = {}) {
    RunOptions options;
    options.limits.memory_bytes = std::uint64_t{64} << 20;
    options.limits.wall_time = 30s;
    options.grants = grants;
    auto session =
        Session::Start(provider_, Program::FromFile(GuestPath("call_functions_musl")), options);
    EXPECT_TRUE(session.ok()) << session.status();
    return session.ok() ? *std::move(session) : nullptr;
  }
  std::unique_ptr<Pool> MakePool(const std::vector<Grant>& grants = {},
                                 const PoolOptions& options = {}) {
    const auto session = Start(grants);
    if (session == nullptr) return nullptr;
    auto snapshot = session->TakeSnapshot();
    EXPECT_TRUE(snapshot.ok()) << snapshot.status();
    if (!snapshot.ok()) return nullptr;
    auto pool = Pool::Create(*std::move(snapshot), options);
    EXPECT_TRUE(pool.ok()) << pool.status();
    return pool.ok() ? *std::move(pool) : nullptr;
  }
  /// It answers, from a fresh state.
  static void ExpectGoesOn(Pool& pool) {
    const auto counted = pool.Call("counter", "");
    ASSERT_TRUE(counted.ok()) << counted.status();
    EXPECT_EQ(*counted, "1");
  }

  std::shared_ptr<Provider> provider_;
};

TEST_F(BadCalls, EachHasItsOwnStatusAndThePoolGoesOn) {
  const auto pool = MakePool();
  ASSERT_TRUE(pool);
  const CallLimits limited = {.wall_time = 100ms}, of_cpu = {.cpu_time = 100ms};
  const CallLimits no_time = {.wall_time = 0ns};
  const struct {
    std::string function, arguments;
    CallLimits limits;
    absl::StatusCode code;
    std::string why;
    bool lost;
  } kCases[] = {
      {"ad", "", {}, absl::StatusCode::kNotFound, "exports no function ad", false},
      {std::string("add\0", 4), "", {}, absl::StatusCode::kNotFound, "exports no function", false},
      {std::string(255, '\xff'), "", {}, absl::StatusCode::kNotFound, "exports no function", false},
      {"", "", {}, absl::StatusCode::kInvalidArgument, "0 bytes", false},
      {std::string(256, 'f'), "", {}, absl::StatusCode::kInvalidArgument, "256 bytes", false},
      {"echo",
       std::string(kMaxCallBytes + 1, 'x'),
       {},
       absl::StatusCode::kInvalidArgument,
       "15728641 bytes, at most 15728640",
       false},
      {"produce",
       std::to_string(kMaxCallBytes + 1),
       {},
       absl::StatusCode::kResourceExhausted,
       "over 15 MiB",
       false},
      {"noop", "", no_time, absl::StatusCode::kInvalidArgument, "0 ns", false},
      {"fail", "9 no", {}, absl::StatusCode::kFailedPrecondition, "no", false},
      {"fault", "", {}, absl::StatusCode::kAborted, "segmentation", true},
      {"exit", "", {}, absl::StatusCode::kAborted, "exit code 9", true},
      {"spin", "", limited, absl::StatusCode::kDeadlineExceeded, "`wall`", true},
      {"spin", "", of_cpu, absl::StatusCode::kDeadlineExceeded, "`cpu`", true},
  };
  std::uint64_t lost = 0;
  for (const auto& wrong : kCases) {
    SCOPED_TRACE(wrong.function.substr(0, 8));
    const absl::Status status =
        pool->Call(wrong.function, wrong.arguments, {.limits = wrong.limits}).status();
    EXPECT_EQ(status.code(), wrong.code) << status;
    EXPECT_TRUE(Contains(status, wrong.why)) << status;
    lost += wrong.lost ? 1 : 0;
    EXPECT_EQ(pool->stats().replaced, lost);
    ExpectGoesOn(*pool);
  }
}

TEST_F(BadCalls, AProgramThatIsNeverReady) {
  RunOptions options;
  options.limits.wall_time = 200ms;
  const absl::Status status =
      Session::Start(provider_, Program::FromFile(GuestPath("spin_musl")), options).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_TRUE(Contains(status, "`wall` before it was ready for calls")) << status;
}

TEST_F(BadCalls, FromTheWrongThread) {
  const auto session = Start();
  ASSERT_TRUE(session);
  auto snapshot = session->TakeSnapshot();
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  const auto clone = snapshot->Clone();
  ASSERT_TRUE(clone.ok()) << clone.status();
  EXPECT_TRUE((*clone)->Call("noop", "").ok());
  std::jthread([&] {
    for (Session* other : {session.get(), clone->get()}) {
      for (const absl::Status& status :
           {other->Call("noop", "").status(), other->Reset(), other->TakeSnapshot().status()}) {
        EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
        EXPECT_TRUE(Contains(status, "belongs to another thread")) << status;
      }
    }
  }).join();
  EXPECT_TRUE(session->Call("noop", "").ok() && (*clone)->Call("noop", "").ok());
}

TEST_F(BadCalls, ExceptionsOfHostFunctions) {
  const auto pool = MakePool(
      {Function("throw",
                [](const HostCallContext&, std::string_view) -> Reply {
                  throw std::runtime_error("a secret of the host");
                }),
       Function("number", [](const HostCallContext&, std::string_view) -> Reply { throw 7; }),
       Function("large", [](const HostCallContext&, std::string_view) -> Reply {
         return std::string((std::size_t{16} << 20) + 1, 'x');
       })});
  ASSERT_TRUE(pool);
  for (const char* function : {"throw", "number", "large"}) {
    const absl::Status status = pool->Call("call_host", function).status();
    EXPECT_TRUE(absl::IsInternal(status)) << status;
    EXPECT_FALSE(Contains(status, "secret")) << "it is not the guest's to know";
    ExpectGoesOn(*pool);
  }
  EXPECT_EQ(pool->stats().replaced, 0u);
}

TEST_F(BadCalls, LimitsAndStopsOfACallAroundAnother) {
  const auto inner = Start();
  ASSERT_TRUE(inner);
  const auto spin_inside = [&](const HostCallContext&, std::string_view) -> Reply {
    const auto clone = inner->TakeSnapshot()->Clone();
    return (*clone)->Call("spin", "", {.limits = {.wall_time = 200ms}}).status();
  };
  for (const bool by_limit : {true, false}) {
    const auto outer = Start({Function("inside", spin_inside)});
    ASSERT_TRUE(outer);
    // What is inside ends first, by its own limit; what is around it notices its own.
    std::stop_source stop;
    std::jthread later([&] {
      std::this_thread::sleep_for(50ms);
      if (!by_limit) stop.request_stop();
    });
    CallOptions options = {.stop = stop.get_token()};
    if (by_limit) options.limits.wall_time = 100ms;
    const auto start = std::chrono::steady_clock::now();
    const absl::Status ended = outer->Call("call_host", "inside", options).status();
    EXPECT_EQ(ended.code(),
              by_limit ? absl::StatusCode::kDeadlineExceeded : absl::StatusCode::kCancelled)
        << ended;
    EXPECT_LT(std::chrono::steady_clock::now() - start, 5s);
  }
  // One whose limit is met inside goes on outside.
  const auto outer = Start({Function("inside", spin_inside)});
  ASSERT_TRUE(outer);
  for (int i = 0; i < 3; ++i) {
    const absl::Status inside = outer->Call("call_host", "inside").status();
    EXPECT_TRUE(absl::IsDeadlineExceeded(inside)) << inside;
    EXPECT_TRUE(outer->health().ok());
  }
}

void OnAlarm(int) {}

TEST_F(BadCalls, SignalsOfTheEmbedderMeanwhile) {
  const auto pool = MakePool();
  ASSERT_TRUE(pool);
  for (const int flags : {0, SA_RESTART}) {
    struct sigaction alarm = {}, before = {};
    alarm.sa_handler = OnAlarm;
    alarm.sa_flags = flags;
    ASSERT_EQ(sigaction(SIGALRM, &alarm, &before), 0);
    const itimerval often = {{0, 500}, {0, 500}}, never = {};
    setitimer(ITIMER_REAL, &often, nullptr);
    for (int i = 0; i < 2'000; ++i) ExpectGoesOn(*pool);
    const absl::Status limited = pool->Call("spin", "", {.limits = {.wall_time = 100ms}}).status();
    EXPECT_TRUE(absl::IsDeadlineExceeded(limited)) << limited;
    setitimer(ITIMER_REAL, &never, nullptr);
    sigaction(SIGALRM, &before, nullptr);
  }
  EXPECT_EQ(pool->stats().replaced, 2u);
}

TEST_F(BadCalls, FromAThreadThatBlocksEverySignal) {
  const auto pool = MakePool();
  ASSERT_TRUE(pool);
  std::jthread([&] {
    sigset_t all, after;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, nullptr);
    const absl::Status limited = pool->Call("spin", "", {.limits = {.wall_time = 100ms}}).status();
    EXPECT_TRUE(absl::IsDeadlineExceeded(limited)) << limited;
    std::stop_source stop;
    std::jthread later([&] {
      std::this_thread::sleep_for(50ms);
      stop.request_stop();
    });
    const absl::Status stopped = pool->Call("spin", "", {.stop = stop.get_token()}).status();
    EXPECT_TRUE(absl::IsCancelled(stopped)) << stopped;
    pthread_sigmask(SIG_SETMASK, nullptr, &after);
    EXPECT_EQ(sigismember(&after, SIGUSR1), 1) << "the mask is put back";
    sigset_t pending;
    sigpending(&pending);
    for (int signal = SIGRTMIN; signal <= SIGRTMAX; ++signal)
      EXPECT_EQ(sigismember(&pending, signal), 0) << signal << " is left over";
  }).join();
}

TEST_F(BadCalls, TheEmbedderForks) {
  const auto pool = MakePool();
  ASSERT_TRUE(pool);
  ExpectGoesOn(*pool);
  std::atomic<bool> done = false;
  std::jthread caller([&] {
    while (!done) ExpectGoesOn(*pool);
  });
  for (int i = 0; i < 20; ++i) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      // The memory that it got is its own; what it does to it does not reach the parent.
      usleep(2'000);
      _exit(0);
    }
    for (int call = 0; call < 20; ++call) ExpectGoesOn(*pool);
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  done = true;
  caller.join();
  EXPECT_EQ(pool->stats().replaced, 0u);
}

TEST_F(BadCalls, AForkedChildCannotUseWhatIsItsParents) {
  auto pool = MakePool();
  auto session = Start();
  ASSERT_TRUE(pool && session);
  ExpectGoesOn(*pool);
  // Others are in the middle of calls, with locks taken, at the moment of the fork.
  std::atomic<bool> done = false;
  std::jthread caller([&] {
    while (!done) ExpectGoesOn(*pool);
  });
  for (int i = 0; i < 20; ++i) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      alarm(20);
      int wrong = 0;
      wrong += absl::IsFailedPrecondition(pool->Call("counter", "").status()) ? 0 : 1;
      wrong += absl::IsFailedPrecondition(session->Call("counter", "").status()) ? 0 : 2;
      wrong += absl::IsFailedPrecondition(session->TakeSnapshot().status()) ? 0 : 4;
      wrong += pool->stats().instances == 0 ? 0 : 8;
      pool->Trim();
      session->Stop();
      pool.reset();
      session.reset();
      // What the child makes itself works.
      const auto own =
          Session::Start(NewMicroVmProvider(), Program::FromFile(GuestPath("call_functions_musl")));
      wrong += own.ok() && (*own)->Call("add", "1 2").value_or("") == "3" ? 0 : 16;
      _exit(wrong);
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  done = true;
  caller.join();
  EXPECT_EQ(session->Call("counter", "").value_or(""), "1") << "the child stopped nothing";
  EXPECT_EQ(pool->stats().replaced, 0u);
}

TEST_F(BadCalls, ThreadsWithSmallStacks) {
  const auto pool = MakePool(
      {Function("hello", [](const HostCallContext&, std::string_view) { return Reply("hello"); })});
  ASSERT_TRUE(pool);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  const std::size_t stack_bytes = 512 << 10;
#else
  const std::size_t stack_bytes = 64 << 10;
#endif
  ASSERT_EQ(pthread_attr_setstacksize(&attributes, stack_bytes), 0);
  pthread_t thread;
  ASSERT_EQ(pthread_create(
                &thread, &attributes,
                [](void* argument) -> void* {
                  Pool& own = *static_cast<Pool*>(argument);
                  ExpectGoesOn(own);
                  EXPECT_EQ(own.Call("call_host", "hello").value_or(""), "hello");
                  EXPECT_TRUE(absl::IsAborted(own.Call("fault", "").status()));
                  ExpectGoesOn(own);
                  return nullptr;
                },
                pool.get()),
            0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
}

TEST_F(BadCalls, SessionsOutliveTheirThreads) {
  std::unique_ptr<Session> session;
  std::unique_ptr<Session> clone;
  std::jthread([&] {
    session = Start();
    ASSERT_TRUE(session);
    auto snapshot = session->TakeSnapshot();
    ASSERT_TRUE(snapshot.ok());
    clone = *snapshot->Clone();
    EXPECT_TRUE(clone->Call("noop", "").ok());
  }).join();
  ASSERT_TRUE(session && clone);
  session->Stop();
  EXPECT_TRUE(session->health().ok());
  EXPECT_EQ(clone->TakeOutput(), "");
  EXPECT_GT(clone->memory()->resident_bytes, 0u);
}

TEST_F(BadCalls, NoDescriptorsLeft) {
  const auto pool = MakePool({}, {.min_ready = 0, .max_instances = 4});
  ASSERT_TRUE(pool);
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const int lowest = dup(0);
  ASSERT_GE(lowest, 0);
  close(lowest);
  rlimit none = before;
  none.rlim_cur = static_cast<rlim_t>(lowest);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const absl::Status status = pool->Call("noop", "").status();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_TRUE(Contains(status, "cannot make an instance (1 failures in a row)")) << status;
  std::this_thread::sleep_for(20ms);  // it tries again after 10
  ExpectGoesOn(*pool);
}

TEST_F(BadCalls, AnAuthorizerOfOneSession) {
  RunOptions options;
  std::atomic<int> asked = 0;
  options.label = "tenant";
  options.authorizer = [&](std::string_view label, const Access& access) {
    ++asked;
    EXPECT_EQ(label, "tenant");
    return access.name == "no" ? absl::PermissionDeniedError("not today") : absl::OkStatus();
  };
  const auto yes = [](const HostCallContext&, std::string_view) { return Reply("yes"); };
  options.grants = {Function("yes", yes), Function("no", yes)};
  const auto session =
      Session::Start(provider_, Program::FromFile(GuestPath("call_functions_musl")), options);
  ASSERT_TRUE(session.ok()) << session.status();
  const auto snapshot = (*session)->TakeSnapshot();
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  const auto clone = snapshot->Clone();
  ASSERT_TRUE(clone.ok()) << clone.status();
  for (Session* one : {session->get(), clone->get()}) {
    EXPECT_EQ(one->Call("call_host", "yes").value_or(""), "yes");
    const absl::Status denied = one->Call("call_host", "no").status();
    EXPECT_TRUE(absl::IsPermissionDenied(denied)) << denied;
    EXPECT_EQ(one->report().denials, 1u);
  }
  EXPECT_GE(asked, 4);
}

}  // namespace
}  // namespace waxvm
