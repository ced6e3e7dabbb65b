// SPDX-License-Identifier: Apache-2.0
// A budget ends a guest. Where no counter of instructions is at hand, and that is where these run
// as well, the thread's own time in nanoseconds stands for them: the same calls of the kernel, the
// same signal, the same way out of the guest.
#include "src/vmm/fuel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>

#include "src/provider_microvm/instance.h"

namespace waxvm::microvm {
namespace {

using namespace std::chrono_literals;

class AnyGate final : public AccessGate {
 public:
  absl::Status Check(const Access&) override { return absl::OkStatus(); }
  void RecordDenial(const Access&) override {}
};

std::string GuestPath(const std::string& name) {
  const char* folder = std::getenv("WAXVM_GUEST_DIR");
  return std::string(folder != nullptr ? folder : WAXVM_GUEST_DIR) + "/" + name;
}

class Fuel : public ::testing::Test {
 protected:
  void SetUp() override {
    auto system = kvm::System::Open();
    if (!system.ok()) GTEST_SKIP() << system.status();
    auto traits = vmm::ProbeHost(*system);
    if (!traits.ok()) GTEST_SKIP() << traits.status();
    if (auto counter = vmm::NewPerfCounter(vmm::kTaskClock, {}); !counter.ok())
      GTEST_SKIP() << counter.status();
    real_ = traits->fuel;
    traits->fuel = absl::OkStatus();
    host_ = std::make_shared<HostSystem>(
        HostSystem{*std::move(system), *std::move(traits), [](std::optional<vmm::FuelAlarm> alarm) {
                     return vmm::NewPerfCounter(vmm::kTaskClock, alarm);
                   }});
  }

  std::unique_ptr<Instance> Make(const std::string& guest, std::optional<std::uint64_t> fuel) {
    auto program = Program::FromFile(GuestPath(guest));
    if (!program.ok()) return ADD_FAILURE() << program.status(), nullptr;
    InstanceSpec spec(*program);
    spec.arguments = {guest};
    spec.gate = &gate_;
    spec.host_functions_granted = true;
    spec.limits.memory_bytes = std::uint64_t{64} << 20;
    spec.limits.wall_time = 20s;
    spec.limits.fuel = fuel;
    auto made = MicroVmInstance::Create(host_, spec, 0);
    if (!made.ok()) return ADD_FAILURE() << made.status(), nullptr;
    return *std::move(made);
  }
  /// "" where it ended otherwise.
  static std::string LimitOf(const absl::StatusOr<Event>& event) {
    if (!event.ok()) return std::string(event.status().message());
    const auto* limit = std::get_if<LimitReached>(&*event);
    return limit != nullptr ? std::string(LimitName(limit->limit)) : "";
  }

  AnyGate gate_;
  absl::Status real_;
  std::shared_ptr<HostSystem> host_;
};

TEST_F(Fuel, EndsAProgramThatSpins) {
  const auto instance = Make("spin_musl", 30'000'000);
  ASSERT_TRUE(instance);
  EXPECT_EQ(LimitOf(instance->Resume()), "fuel");
  EXPECT_GT(instance->usage().fuel.value_or(0), 30'000'000u);
  EXPECT_LT(instance->usage().fuel.value_or(0), 1'000'000'000u) << "soon after the bound";
}

TEST_F(Fuel, IsCountedAndNotMissedWhereThereIsEnough) {
  const auto instance = Make("true_musl", 10'000'000'000);
  ASSERT_TRUE(instance);
  const auto event = instance->Resume();
  ASSERT_TRUE(event.ok() && std::holds_alternative<Exited>(*event)) << LimitOf(event);
  EXPECT_GT(instance->usage().fuel.value_or(0), 0u);
  const auto other = Make("true_musl", {});
  ASSERT_TRUE(other);
  EXPECT_TRUE(other->Resume().ok());
  EXPECT_FALSE(other->usage().fuel);
}

TEST_F(Fuel, IsEachCallsOwn) {
  const auto instance = Make("keeper_musl", {});
  ASSERT_TRUE(instance);
  ASSERT_TRUE(std::holds_alternative<HostCallRequest>(*instance->Resume()));
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(instance->RestartLimits({.fuel = 1'000'000'000}).ok());
    ASSERT_TRUE(instance->CompleteHostCall(std::string("a1")).ok());
    const auto event = instance->Resume();
    ASSERT_TRUE(event.ok() && std::holds_alternative<HostCallRequest>(*event)) << LimitOf(event);
  }
  // Less than any way through the guest takes: no interruption is as fast, and it is met all the
  // same.
  ASSERT_TRUE(instance->RestartLimits({.fuel = 1}).ok());
  ASSERT_TRUE(instance->CompleteHostCall(std::string("a1")).ok());
  EXPECT_EQ(LimitOf(instance->Resume()), "fuel");
}

// An alarm that nobody waits for any more would end this process.
TEST_F(Fuel, NoAlarmComesBetweenCalls) {
  const auto instance = Make("keeper_musl", {});
  ASSERT_TRUE(instance);
  ASSERT_TRUE(std::holds_alternative<HostCallRequest>(*instance->Resume()));
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(instance->RestartLimits({.fuel = 2'000'000}).ok());
    ASSERT_TRUE(instance->CompleteHostCall(std::string("a1")).ok());
    const auto event = instance->Resume();
    if (LimitOf(event) == "fuel") return;  // on a slow machine; it was its own
    ASSERT_TRUE(event.ok());
    const auto until = std::chrono::steady_clock::now() + 4ms;
    while (std::chrono::steady_clock::now() < until) {
    }
  }
}

TEST_F(Fuel, IsRefusedWithTheReason) {
  host_->traits.fuel = absl::UnavailableError("nobody counts");
  const absl::Status refused = CheckLimits(*host_, {.fuel = 5});
  EXPECT_TRUE(absl::IsInvalidArgument(refused));
  EXPECT_NE(refused.message().find("nobody counts"), absl::string_view::npos) << refused;
  EXPECT_TRUE(CheckLimits(*host_, {}).ok());
  const auto instance = Make("keeper_musl", {});
  ASSERT_TRUE(instance);
  ASSERT_TRUE(instance->Resume().ok());
  const absl::Status call = instance->RestartLimits({.fuel = 5});
  EXPECT_TRUE(absl::IsUnimplemented(call)) << call;
  EXPECT_NE(call.message().find("nobody counts"), absl::string_view::npos) << call;
}

// Runs where there is a counter, which a probe has tried.
TEST_F(Fuel, InstructionsAreTheSameEveryTime) {
  if (!real_.ok()) GTEST_SKIP() << real_;
  host_->fuel = [](std::optional<vmm::FuelAlarm> alarm) {
    return vmm::NewPerfCounter(vmm::kGuestInstructions, alarm);
  };
  std::uint64_t least = ~std::uint64_t{0}, most = 0;
  for (int i = 0; i < 10; ++i) {
    const auto instance = Make("compute_musl", 100'000'000'000);
    ASSERT_TRUE(instance && instance->Resume().ok());
    const std::uint64_t used = instance->usage().fuel.value_or(0);
    least = std::min(least, used);
    most = std::max(most, used);
  }
  EXPECT_GT(least, 1'000'000u);
  EXPECT_LT(most - least, least / 1000);
}

}  // namespace
}  // namespace waxvm::microvm
