// SPDX-License-Identifier: Apache-2.0
// Runs of a loaded program, over a provider that shows what it is given and fails where it is told.
#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "src/supervisor/fake_provider_for_test.h"
#include "waxvm/pool.h"
#include "waxvm/session.h"

namespace waxvm {
namespace {

using namespace std::chrono_literals;

/// What the runs of one test do.
struct Script {
  std::deque<absl::StatusOr<Event>> events;  ///< what Resume returns, in order; then Exited
  absl::Status start, reset;
  std::vector<InstanceSpec> started;  ///< what StartRun was given
  int created = 0, clones = 0, resets = 0;
  bool stop_at_end = false;
};

class ScriptedInstance final : public Instance {
 public:
  explicit ScriptedInstance(Script& script) : script_(script) {}

  absl::StatusOr<Event> Resume() override {
    if (script_.stop_at_end) stop_.request_stop();
    (void)spec_->output(Stream::kOutput, "out");
    if (script_.events.empty()) return Event(Exited{7});
    auto event = std::move(script_.events.front());
    script_.events.pop_front();
    return event;
  }
  absl::Status CompleteHostCall(const absl::StatusOr<std::string>&) override {
    return absl::OkStatus();
  }
  void Stop() override {}
  Usage usage() const override { return {.fuel = 12}; }
  absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> TakeSnapshot() override {
    struct Taken final : InstanceSnapshot {
      std::uint64_t memory_bytes() const override { return 4096; }
    };
    return std::make_shared<Taken>();
  }
  absl::Status StartRun(const InstanceSpec& spec) override {
    if (!script_.start.ok()) return script_.start;
    script_.started.push_back(spec);
    spec_.emplace(spec);
    return absl::OkStatus();
  }
  absl::Status Reset() override {
    ++script_.resets;
    return script_.reset;
  }

  static inline thread_local std::stop_source stop_;

 private:
  Script& script_;
  std::optional<InstanceSpec> spec_;
};

class ScriptedProvider final : public Provider {
 public:
  ProviderInfo info() const override {
    ProviderInfo info;
    info.name = "scripted";
    info.enforceable_limits = {LimitKind::kWallTime, LimitKind::kOutput, LimitKind::kMemory};
    return info;
  }
  absl::Status Available() const override { return absl::OkStatus(); }
  absl::StatusOr<std::unique_ptr<Instance>> Create(const InstanceSpec& spec) override {
    EXPECT_TRUE(spec.for_runs);
    ++script.created;
    return std::make_unique<ScriptedInstance>(script);
  }
  absl::StatusOr<std::unique_ptr<Instance>> Clone(std::shared_ptr<const InstanceSnapshot>,
                                                  const InstanceSpec&) override {
    ++script.clones;
    return std::make_unique<ScriptedInstance>(script);
  }
  Script script;
};

class SessionRun : public ::testing::Test {
 protected:
  std::unique_ptr<Session> Load(const RunOptions& options = {}) {
    auto start = Snapshot::OfStart(provider_, Native(nullptr), options);
    EXPECT_TRUE(start.ok()) << start.status();
    EXPECT_TRUE(start->is_of_start());
    auto session = start->Clone();
    EXPECT_TRUE(session.ok()) << session.status();
    return *std::move(session);
  }
  const std::shared_ptr<ScriptedProvider> provider_ = std::make_shared<ScriptedProvider>();
  Script& script_ = provider_->script;
};

TEST_F(SessionRun, GivesEachRunWhatItsRequestSays) {
  RunOptions options;
  options.argument_zero = "zero";
  options.limits = {.memory_bytes = 5000, .wall_time = 9s, .output_bytes = 100};
  const auto session = Load(options);
  const auto first = session->Run({.arguments = {"a", "b"}, .environment = {"X=1"}});
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->outcome, Outcome::kExited);
  EXPECT_EQ(first->exit_code, 7);
  EXPECT_EQ(first->output, "out");
  EXPECT_EQ(first->report.provider, "scripted");
  EXPECT_EQ(first->report.fuel, 12u);
  std::string written;
  const auto second = session->Run({.arguments = {"c"},
                                    .argument_zero = "other",
                                    .input = "in",
                                    .output =
                                        [&](Stream, std::string_view data) {
                                          written += data;
                                          return absl::OkStatus();
                                        },
                                    .limits = {.wall_time = 3s}});
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->output, "");
  EXPECT_EQ(written, "out");
  ASSERT_EQ(script_.started.size(), 2u);
  EXPECT_EQ(script_.started[0].arguments, (std::vector<std::string>{"zero", "a", "b"}));
  EXPECT_EQ(script_.started[0].environment, (std::vector<std::string>{"X=1"}));
  EXPECT_EQ(script_.started[0].limits.wall_time, 9s);
  EXPECT_EQ(script_.started[0].input_fd, -1);
  EXPECT_EQ(script_.started[1].arguments, (std::vector<std::string>{"other", "c"}));
  EXPECT_TRUE(script_.started[1].environment.empty()) << "nothing is left of the first";
  EXPECT_EQ(script_.started[1].limits.wall_time, 3s);
  EXPECT_EQ(script_.started[1].limits.output_bytes, 100u);
  EXPECT_EQ(script_.started[1].limits.memory_bytes, 5000u);
  EXPECT_GE(script_.started[1].input_fd, 0);
  EXPECT_EQ(script_.resets, 2);
  EXPECT_TRUE(session->health().ok());
}

TEST_F(SessionRun, WhatIsRefusedLeavesTheSessionUsable) {
  const auto session = Load();
  EXPECT_TRUE(
      absl::IsInvalidArgument(session->Run({.arguments = {std::string("a\0b", 3)}}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(session->Run({.limits = {.memory_bytes = 1}}).status()));
  script_.start = absl::InvalidArgumentError("too long");
  EXPECT_TRUE(absl::IsInvalidArgument(session->Run().status()));
  script_.start = absl::OkStatus();
  EXPECT_TRUE(absl::IsFailedPrecondition(session->Call("f", "").status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(session->TakeSnapshot().status()));
  EXPECT_TRUE(session->Reset().ok());
  EXPECT_EQ(script_.resets, 0);
  EXPECT_TRUE(session->Run().ok());
}

TEST_F(SessionRun, AnythingButAnExitPoisons) {
  const struct {
    absl::StatusOr<Event> event;
    Outcome outcome;
  } kCases[] = {{Event(Fault{.kind = FaultKind::kSignal, .signal = 11}), Outcome::kFault},
                {Event(LimitReached{LimitKind::kFuel}), Outcome::kLimit},
                {Event(Stopped{}), Outcome::kStopped}};
  for (const auto& one : kCases) {
    const auto session = Load();
    script_.events.push_back(one.event);
    const auto result = session->Run();
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->outcome, one.outcome);
    EXPECT_FALSE(session->health().ok());
    EXPECT_TRUE(absl::IsFailedPrecondition(session->Run().status()));
  }
  EXPECT_EQ(script_.resets, 0);
}

TEST_F(SessionRun, WhatTheProviderCannotDoPoisons) {
  auto session = Load();
  script_.events.push_back(absl::InternalError("broken"));
  EXPECT_TRUE(absl::IsInternal(session->Run().status()));
  EXPECT_FALSE(session->health().ok());

  session = Load();
  script_.start = absl::InternalError("half loaded");
  EXPECT_TRUE(absl::IsInternal(session->Run().status()));
  EXPECT_FALSE(session->health().ok());
  script_.start = absl::OkStatus();

  session = Load();
  script_.reset = absl::InternalError("cannot be put back");
  const auto result = session->Run();
  ASSERT_TRUE(result.ok()) << "the run itself was as it should be";
  EXPECT_EQ(result->exit_code, 7);
  EXPECT_FALSE(session->health().ok());
}

// A stop that comes as the program exits must not end the next run instead.
TEST_F(SessionRun, AStopAtTheLastMomentPoisons) {
  const auto session = Load();
  ScriptedInstance::stop_ = std::stop_source();
  script_.stop_at_end = true;
  const auto result = session->Run({.stop = ScriptedInstance::stop_.get_token()});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->outcome, Outcome::kExited);
  EXPECT_FALSE(session->health().ok());
  EXPECT_TRUE(
      absl::IsCancelled(Load()->Run({.stop = ScriptedInstance::stop_.get_token()}).status()));
}

TEST_F(SessionRun, APoolRunsAndReplaces) {
  auto start = Snapshot::OfStart(provider_, Native(nullptr));
  ASSERT_TRUE(start.ok());
  EXPECT_TRUE(absl::IsInvalidArgument(Pool::Create(*start, {.fresh_state = false}).status()));
  const auto pool = Pool::Create(*start, {.min_ready = 0});
  ASSERT_TRUE(pool.ok());
  EXPECT_TRUE((*pool)->Run().ok());
  EXPECT_TRUE((*pool)->Run().ok());
  EXPECT_EQ(script_.clones, 1);
  script_.events.push_back(Event(Fault{.kind = FaultKind::kSignal, .signal = 11}));
  EXPECT_EQ((*pool)->Run()->exit_code, 139);
  EXPECT_TRUE((*pool)->Run().ok());
  EXPECT_EQ(script_.clones, 2);
  const PoolStats stats = (*pool)->stats();
  EXPECT_EQ(stats.calls, 4u);
  EXPECT_EQ(stats.replaced, 1u);
  EXPECT_TRUE(absl::IsInvalidArgument((*pool)->Run({.limits = {.memory_bytes = 1}}).status()));
  EXPECT_EQ((*pool)->stats().replaced, 1u);
}

}  // namespace
}  // namespace waxvm
