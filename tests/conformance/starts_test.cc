// SPDX-License-Identifier: Apache-2.0
// Programs that are loaded once and run many times, Instance by Instance.
#include "absl/strings/str_cat.h"
#include "conformance.h"

namespace waxvm::conformance {
namespace {

using std::chrono_literals::operator""ms;

class Starts : public Conformance {
 protected:
  void SetUp() override {
    Conformance::SetUp();
    if (IsSkipped()) return;
    const std::optional<Program> hello = Find("hello");
    if (!hello) GTEST_SKIP() << GetParam().name << " has no program like the guest hello";
    Load(*hello);
  }

  void Load(const Program& program) {
    InstanceSpec spec = SpecOf(program);
    spec.for_runs = true;
    auto loaded = provider_->Create(spec);
    if (!loaded.ok()) GTEST_SKIP() << loaded.status();
    auto start = (*loaded)->TakeSnapshot();
    if (absl::IsUnimplemented(start.status()) || absl::IsFailedPrecondition(start.status()))
      GTEST_SKIP() << "the " << GetParam().name << " provider does not load programs for runs";
    ASSERT_TRUE(start.ok()) << start.status();
    start_ = *std::move(start);
    EXPECT_TRUE(absl::IsFailedPrecondition((*loaded)->Resume().status()))
        << "there is nothing on its stack";
    auto clone = provider_->Clone(start_, SpecOf(program));
    ASSERT_TRUE(clone.ok()) << clone.status();
    clone_ = *std::move(clone);
  }
  InstanceSpec SpecOf(const Program& program) {
    InstanceSpec spec(program);
    spec.gate = &gate_;
    spec.limits.memory_bytes = std::uint64_t{64} << 20;
    spec.arguments = {"x"};
    return spec;
  }
  /// Runs with the arguments; what was written, and how it ended.
  std::string Run(std::vector<std::string> arguments, const std::string& program = "hello",
                  const Limits& limits = {}) {
    InstanceSpec spec = SpecOf(*Find(program));
    spec.arguments = std::move(arguments);
    if (limits.wall_time) spec.limits.wall_time = limits.wall_time;
    std::string output;
    spec.output = [&](Stream, std::string_view data) {
      output += data;
      return absl::OkStatus();
    };
    if (absl::Status status = clone_->StartRun(spec); !status.ok()) return status.ToString();
    const absl::StatusOr<Event> event = clone_->Resume();
    if (!event.ok()) return event.status().ToString();
    if (const auto* exited = std::get_if<Exited>(&*event))
      return absl::StrCat(output, "exited ", exited->code);
    if (std::holds_alternative<Fault>(*event)) return "fault";
    return std::holds_alternative<LimitReached>(*event) ? "limit" : "?";
  }

  OpenGate gate_;
  std::shared_ptr<const InstanceSnapshot> start_;
  std::unique_ptr<Instance> clone_;
};

TEST_P(Starts, EachRunHasItsOwnArguments) {
  if (start_ == nullptr) return;
  EXPECT_TRUE(absl::IsFailedPrecondition(clone_->Resume().status())) << "no run was started";
  for (const std::string text : {"first", "a much longer second argument", "3rd"}) {
    EXPECT_EQ(Run({"hello", text}), absl::StrCat("argv[0]=hello\nargv[1]=", text, "\nexited 2"));
    EXPECT_TRUE(absl::IsFailedPrecondition(clone_->Resume().status()));
    EXPECT_TRUE(absl::IsFailedPrecondition(clone_->StartRun(SpecOf(*Find("hello")))))
        << "it was not put back";
    const absl::Status reset = clone_->Reset();
    ASSERT_TRUE(reset.ok()) << reset;
    EXPECT_TRUE(clone_->Reset().ok()) << "where it is already";
  }
  EXPECT_EQ(Run({}), "exited 0");
}

TEST_P(Starts, ARefusedRunChangesNothing) {
  if (start_ == nullptr) return;
  InstanceSpec spec = SpecOf(*Find("hello"));
  spec.arguments = {std::string(300'000, 'x')};
  EXPECT_TRUE(absl::IsInvalidArgument(clone_->StartRun(spec)));
  spec = SpecOf(*Find("hello"));
  spec.limits.memory_bytes = std::uint64_t{32} << 20;
  EXPECT_TRUE(absl::IsInvalidArgument(clone_->StartRun(spec)));
  EXPECT_EQ(Run({"y"}), "argv[0]=y\nexited 1");
}

TEST_P(Starts, OnlyAnExitCanBePutBack) {
  if (start_ == nullptr) return;
  ASSERT_NO_FATAL_FAILURE(Load(*Find("segv")));
  EXPECT_EQ(Run({"segv"}, "segv"), "fault");
  EXPECT_TRUE(absl::IsFailedPrecondition(clone_->Reset()));
  ASSERT_NO_FATAL_FAILURE(Load(*Find("spin")));
  EXPECT_EQ(Run({"spin"}, "spin", {.wall_time = 50ms}), "limit");
  EXPECT_TRUE(absl::IsFailedPrecondition(clone_->Reset()));
}

TEST_P(Starts, AThreadThatRunsDoesNotStay) {
  if (start_ == nullptr) return;
  const std::optional<Program> program = Find("start_threads");
  if (!program) GTEST_SKIP() << "no program with threads";
  ASSERT_NO_FATAL_FAILURE(Load(*program));
  const std::string first = Run({"start_threads", "3"}, "start_threads");
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(clone_->Reset().ok());
    EXPECT_EQ(Run({"start_threads", "3"}, "start_threads"), first);
  }
}

INSTANTIATE_TEST_SUITE_P(EveryProvider, Starts, testing::ValuesIn(Subjects()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace waxvm::conformance
