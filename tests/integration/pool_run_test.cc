// SPDX-License-Identifier: Apache-2.0
// Whole programs from a warm pool: programs that know nothing of waxvm, each run from the first
// instruction to the end, and a guest that tries to carry something from one run into the next.
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "waxvm/pool.h"
#include "waxvm/providers.h"

namespace waxvm {
namespace {

using namespace std::chrono_literals;

std::string GuestPath(const std::string& name) {
  const char* folder = std::getenv("WAXVM_GUEST_DIR");
  return std::string(folder != nullptr ? folder : WAXVM_GUEST_DIR) + "/" + name;
}

RunOptions Options(bool dynamic = false) {
  RunOptions options;
  options.limits.memory_bytes = std::uint64_t{64} << 20;
  options.grants = {Random()};
  if (dynamic) options.grants.push_back(Files("/", "/", Rights::kReadOnly));
  return options;
}

RunRequest Request(const std::string& how, const std::string& text) {
  return {.arguments = {how, "carried " + text},
          .environment = {"WHO=who " + text},
          .input = "input " + text};
}

/// What the guest writes where it has found nothing: up to its random bytes.
std::string Expected(const std::string& how, const std::string& text) {
  return absl::StrCat("| ", how, " carried ", text, " who ", text, " input ", text, " ");
}

class PooledPrograms : public ::testing::Test {
 protected:
  void SetUp() override {
    provider_ = NewMicroVmProvider();
    if (const absl::Status status = provider_->Available(); !status.ok())
      GTEST_SKIP() << std::string(status.message());
  }

  void Make(const std::string& path, const RunOptions& options, const PoolOptions& pool = {}) {
    auto start = Snapshot::OfStart(provider_, Program::FromFile(path), options);
    ASSERT_TRUE(start.ok()) << start.status();
    EXPECT_TRUE(start->is_of_start());
    EXPECT_GT(start->memory_bytes(), 0u);
    auto made = Pool::Create(*std::move(start), pool);
    ASSERT_TRUE(made.ok()) << made.status();
    pool_ = *std::move(made);
  }
  RunResult Run(const RunRequest& request) {
    const auto result = pool_->Run(request);
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *result : RunResult();
  }

  std::shared_ptr<Provider> provider_;
  std::unique_ptr<Pool> pool_;
};

TEST_F(PooledPrograms, EachRunIsOneOfTheSupervisor) {
  const std::string path = GuestPath("carry_run_musl");
  ASSERT_NO_FATAL_FAILURE(Make(path, Options()));
  for (const std::string text : {"first", "a longer second one", ""}) {
    const RunResult run = Run(Request("exit", text));
    RunOptions alone = Options();
    const RunRequest request = Request("exit", text);
    alone.arguments = request.arguments;
    alone.environment = request.environment;
    alone.input = request.input;
    const auto same = RunOnce(provider_, Program::FromFile(path), alone);
    ASSERT_TRUE(same.ok()) << same.status();
    EXPECT_EQ(run.outcome, same->outcome);
    EXPECT_EQ(run.exit_code, 5);
    EXPECT_EQ(run.exit_code, same->exit_code);
    const std::size_t known = Expected("exit", text).size();
    EXPECT_EQ(run.output.substr(0, known), same->output.substr(0, known));
    EXPECT_EQ(run.output.substr(0, known), Expected("exit", text));
    EXPECT_EQ(run.report.output_bytes, same->report.output_bytes);
    EXPECT_EQ(run.report.denials, same->report.denials);
    EXPECT_EQ(run.report.vm_exits > 0u, same->report.vm_exits > 0u);
    EXPECT_GT(run.report.cpu_time.value_or(0ns), 0ns);
    EXPECT_GT(run.report.peak_memory_bytes.value_or(0), 100'000u);
    ASSERT_TRUE(run.report.memory);
    EXPECT_GT(run.report.memory->private_bytes, 20u * 4096) << "the pages it writes to";
    EXPECT_GT(run.report.memory->resident_bytes, run.report.memory->private_bytes);
    EXPECT_EQ(run.report.provider, "microvm");
  }
  EXPECT_EQ(pool_->stats().replaced, 0u);
  EXPECT_EQ(pool_->stats().calls, 3u);
}

// Or the tests below would show nothing.
TEST_F(PooledPrograms, TheGuestFindsWhatItLeavesItself) {
  ASSERT_NO_FATAL_FAILURE(Make(GuestPath("carry_run_musl"), Options()));
  const std::string found = Run(Request("twice", "mine")).output;
  for (const char* place :
       {"bss:carried mine", "data:carried", "tls:carried", "page:written", "mapping:taken",
        "environment:carried", "file:carried", "descriptor:open", "folder:/tmp", "umask:0123",
        "handler:set", "signal mask:set", "signal:pending", "timer:set", "sigaltstack:set",
        "socket:there", "stack:something"})
    EXPECT_NE(found.find(place), std::string::npos) << place << " in " << found;
}

TEST_F(PooledPrograms, NothingCrossesFromRunToRun) {
  const struct {
    const char* how;
    int exit_code;
  } kEndings[] = {{"return", 0}, {"exit", 5}, {"threads", 6}, {"sleepers", 8}, {"group", 7}};
  for (const char* guest : {"carry_run_musl", "carry_run_glibc", "carry_run_dynamic"}) {
    SCOPED_TRACE(guest);
    const bool dynamic = std::string(guest) == "carry_run_dynamic";
    ASSERT_NO_FATAL_FAILURE(Make(GuestPath(guest), Options(dynamic)));
    std::set<std::string> random;
    constexpr int kRuns = 30;
    for (int i = 0; i < kRuns; ++i) {
      const auto& [how, exit_code] = kEndings[i % std::size(kEndings)];
      // Of different lengths: what a longer one has left would show.
      const std::string text =
          absl::StrCat(i, std::string(static_cast<std::size_t>(i * 7 % 50), 'x'));
      const RunResult result = Run(Request(how, text));
      EXPECT_EQ(result.exit_code, exit_code) << how << ": " << result.error_output;
      const std::string expected = Expected(how, text);
      EXPECT_EQ(result.output.substr(0, expected.size()), expected);
      random.insert(result.output.substr(std::min(expected.size(), result.output.size())));
    }
    EXPECT_EQ(random.size(), static_cast<std::size_t>(kRuns)) << "AT_RANDOM of each run is its own";
    EXPECT_EQ(pool_->stats().replaced, 0u);
    EXPECT_EQ(pool_->stats().resets, static_cast<std::uint64_t>(kRuns));
  }
}

TEST_F(PooledPrograms, WhatDoesNotExitIsReplaced) {
  ASSERT_NO_FATAL_FAILURE(Make(GuestPath("carry_run_musl"), Options()));
  const auto clean = [&](const char* after) {
    const RunResult result = Run(Request("return", "clean"));
    EXPECT_EQ(result.exit_code, 0) << after;
    EXPECT_EQ(result.output.find(Expected("return", "clean")), 0u) << after << result.output;
  };
  const RunResult fault = Run(Request("fault", "x"));
  EXPECT_EQ(fault.outcome, Outcome::kFault);
  EXPECT_EQ(fault.exit_code, 128 + 11);
  ASSERT_TRUE(fault.fault && fault.fault->address);
  EXPECT_EQ(*fault.fault->address, 0x10u);
  clean("fault");
  EXPECT_EQ(Run(Request("abort", "x")).exit_code, 128 + 6);
  clean("abort");

  RunRequest slow = Request("spin", "x");
  slow.limits.wall_time = 50ms;
  const RunResult limited = Run(slow);
  EXPECT_EQ(limited.outcome, Outcome::kLimit);
  EXPECT_EQ(limited.limit, LimitKind::kWallTime);
  clean("wall limit");
  slow.limits = {.cpu_time = 50ms};
  EXPECT_EQ(Run(slow).limit, LimitKind::kCpuTime);
  clean("CPU limit");

  std::stop_source stop;
  slow.limits = {};
  slow.stop = stop.get_token();
  std::jthread later([&] {
    std::this_thread::sleep_for(20ms);
    stop.request_stop();
  });
  EXPECT_EQ(Run(slow).outcome, Outcome::kStopped);
  clean("stop");
  EXPECT_TRUE(absl::IsCancelled(pool_->Run(slow).status())) << "before it began";

  RunRequest chatty = Request("return", "x");
  chatty.limits.output_bytes = 5;
  const RunResult cut = Run(chatty);
  EXPECT_EQ(cut.limit, LimitKind::kOutput);
  EXPECT_EQ(cut.output, Expected("return", "x").substr(0, 5));
  clean("output limit");
  EXPECT_EQ(pool_->stats().replaced, 6u);
}

TEST_F(PooledPrograms, RefusalsChangeNothing) {
  ASSERT_NO_FATAL_FAILURE(Make(GuestPath("carry_run_musl"), Options()));
  RunRequest request = Request("return", "x");
  request.limits.memory_bytes = 1 << 20;
  EXPECT_TRUE(absl::IsInvalidArgument(pool_->Run(request).status()));
  request.limits = {.cpu_time = 0ns};
  EXPECT_TRUE(absl::IsInvalidArgument(pool_->Run(request).status()));
  request.limits = {};
  request.arguments[1].assign(200'000, 'x');
  EXPECT_TRUE(absl::IsInvalidArgument(pool_->Run(request).status()));
  request = Request("return", "x");
  request.environment = {"no equals sign"};
  EXPECT_TRUE(absl::IsInvalidArgument(pool_->Run(request).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(pool_->Call("f", "").status()));
  EXPECT_EQ(pool_->stats().replaced, 0u);
  EXPECT_EQ(Run(Request("return", "x")).output.find(Expected("return", "x")), 0u);

  RunOptions with_arguments = Options();
  with_arguments.arguments = {"x"};
  const auto program = Program::FromFile(GuestPath("carry_run_musl"));
  EXPECT_TRUE(
      absl::IsInvalidArgument(Snapshot::OfStart(provider_, program, with_arguments).status()));
  EXPECT_TRUE(absl::IsUnimplemented(Snapshot::OfStart(NewProcessProvider(), program).status()) ||
              !NewProcessProvider()->Available().ok());
  auto start = Snapshot::OfStart(provider_, program, Options());
  ASSERT_TRUE(start.ok());
  EXPECT_TRUE(absl::IsInvalidArgument(Pool::Create(*start, {.fresh_state = false}).status()));
}

TEST_F(PooledPrograms, WithoutGrantsRandomBytesAreConstant) {
  RunOptions options = Options();
  options.grants.clear();
  ASSERT_NO_FATAL_FAILURE(Make(GuestPath("carry_run_musl"), options));
  const std::string first = Run(Request("return", "x")).output;
  EXPECT_NE(first, "");
  EXPECT_EQ(Run(Request("return", "x")).output, first);
}

TEST_F(PooledPrograms, OutputAndInputAreOfEachRun) {
  ASSERT_NO_FATAL_FAILURE(Make(GuestPath("cat_stdin_musl"), Options()));
  for (int i = 0; i < 5; ++i) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const std::string text = absl::StrCat("line ", i, "\n");
    EXPECT_EQ(::write(ends[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
    ::close(ends[1]);
    std::string got;
    const auto result = pool_->Run({.input_fd = ends[0], .output = [&](Stream, std::string_view s) {
                                      got += s;
                                      return absl::OkStatus();
                                    }});
    ::close(ends[0]);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(got, text);
    EXPECT_EQ(result->output, "") << "it went to the writer";
  }
}

TEST_F(PooledPrograms, FromManyThreads) {
  ASSERT_NO_FATAL_FAILURE(
      Make(GuestPath("carry_run_musl"), Options(), {.max_instances = 3, .idle_time = 20ms}));
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) {
        const std::string text = absl::StrCat("of ", t, " ", i);
        const bool fault = i % 10 == 7;
        const RunResult result = Run(Request(fault ? "fault" : "threads", text));
        EXPECT_EQ(result.exit_code, fault ? 139 : 6);
        EXPECT_EQ(result.output.find(Expected(fault ? "fault" : "threads", text)), 0u)
            << result.output;
      }
    });
  threads.clear();
  EXPECT_EQ(pool_->stats().replaced, 8u);
  EXPECT_EQ(pool_->stats().calls, 80u);
}

TEST_F(PooledPrograms, PythonFromThePool) {
  const std::string python = "/usr/bin/python3";
  if (::access(python.c_str(), X_OK) != 0) GTEST_SKIP() << python << " is not installed";
  RunOptions options = Options(/*dynamic=*/true);
  options.limits.memory_bytes = std::uint64_t{256} << 20;
  options.grants.push_back(Clock());
  ASSERT_NO_FATAL_FAILURE(Make(python, options));
  for (int i = 0; i < 3; ++i) {
    const RunResult result = Run(
        {.arguments = {"-c", "import sys; print(sys.argv[1:], sys.stdin.read())", absl::StrCat(i)},
         .input = absl::StrCat("in ", i)});
    EXPECT_EQ(result.exit_code, 0) << result.error_output;
    EXPECT_EQ(result.output, absl::StrCat("['", i, "'] in ", i, "\n"));
  }
  EXPECT_EQ(pool_->stats().replaced, 0u);
}

}  // namespace
}  // namespace waxvm
