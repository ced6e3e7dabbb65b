// SPDX-License-Identifier: Apache-2.0
// Guests that ask the host for their next command (keeper, keep_open), Instance by Instance.
#ifndef WAXVM_TESTS_CONFORMANCE_SNAPSHOTS_H_
#define WAXVM_TESTS_CONFORMANCE_SNAPSHOTS_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "conformance.h"

namespace waxvm::conformance {

/// What an instance of a guest that asks for commands is made from.
struct Bench {
  explicit Bench(Program program) : spec(std::move(program)) {
    spec.arguments = {"keeper"};
    spec.gate = &gate;
    spec.host_functions_granted = true;
    spec.random = std::make_shared<CountingRandom>();
    spec.limits.memory_bytes = std::uint64_t{64} << 20;
  }

  class CountingRandom final : public RandomSource {
   public:
    void Fill(std::span<std::byte> bytes) override {
      for (std::byte& byte : bytes) byte = static_cast<std::byte>(next_++);
    }

   private:
    unsigned next_ = 1;
  };

  OpenGate gate;
  InstanceSpec spec;
};

/// Gives the instance, which waits for one, a command, and returns its answer or how it ended.
inline std::string Tell(Instance& instance, const std::string& command) {
  if (absl::Status status = instance.CompleteHostCall(command); !status.ok())
    return std::string(status.message());
  const absl::StatusOr<Event> event = instance.Resume();
  if (!event.ok()) return std::string(event.status().message());
  if (const auto* call = std::get_if<HostCallRequest>(&*event)) return call->request;
  if (std::holds_alternative<Fault>(*event)) return "fault";
  if (const auto* limit = std::get_if<LimitReached>(&*event))
    return absl::StrCat("limit ", std::string(LimitName(limit->limit)));
  return std::holds_alternative<Stopped>(*event) ? "stopped" : "exited";
}

/// Takes snapshots of a guest that asks for commands, and makes clones of them.
class SnapshotBench : public Conformance {
 protected:
  void SetUpGuest(const std::string& guest) {
    Conformance::SetUp();
    if (IsSkipped()) return;
    const std::optional<Program> program = Find(guest);
    if (!program) GTEST_SKIP() << GetParam().name << " has no program like the guest " << guest;
    bench_.emplace(*program);
    if (absl::IsUnimplemented(provider_->Clone(nullptr, bench_->spec).status()))
      GTEST_SKIP() << "the " << GetParam().name << " provider has no snapshots";
    source_ = MakeReady();
    ASSERT_TRUE(source_);
  }

  std::unique_ptr<Instance> MakeReady() {
    auto instance = provider_->Create(bench_->spec);
    if (!instance.ok()) return ADD_FAILURE() << instance.status(), nullptr;
    const auto event = (*instance)->Resume();
    if (!event.ok() || !std::holds_alternative<HostCallRequest>(*event))
      return ADD_FAILURE() << "the guest does not wait", nullptr;
    return *std::move(instance);
  }
  void Take() {
    auto snapshot = source_->TakeSnapshot();
    ASSERT_TRUE(snapshot.ok()) << snapshot.status();
    snapshot_ = *std::move(snapshot);
    EXPECT_GT(snapshot_->memory_bytes(), 0u);
  }
  std::unique_ptr<Instance> Clone() {
    auto clone = provider_->Clone(snapshot_, bench_->spec);
    EXPECT_TRUE(clone.ok()) << clone.status();
    return clone.ok() ? *std::move(clone) : nullptr;
  }

  std::optional<Bench> bench_;
  std::unique_ptr<Instance> source_;
  std::shared_ptr<const InstanceSnapshot> snapshot_;
};

}  // namespace waxvm::conformance

#endif  // WAXVM_TESTS_CONFORMANCE_SNAPSHOTS_H_
