// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_SUPERVISOR_FAKE_PROVIDER_FOR_TEST_H_
#define WAXVM_SRC_SUPERVISOR_FAKE_PROVIDER_FOR_TEST_H_

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "waxvm/native.h"
#include "waxvm/providers.h"
#include "waxvm/supervisor.h"

namespace waxvm {

inline Program Native(NativeFunction function) {
  return Program::FromFunction("native", std::move(function));
}

inline absl::StatusOr<RunResult> RunMock(NativeFunction function, const RunOptions& options = {}) {
  return RunOnce(NewMockProvider(), Native(std::move(function)), options);
}

/// Says that it enforces everything and does what the test tells it to.
class FakeProvider final : public Provider {
 public:
  ProviderInfo info() const override {
    return {.name = "fake",
            .isolation = IsolationClass::kProcess,
            .mechanism = "",
            .protects_against = {},
            .does_not_protect_against = {},
            .ambient = {"clock"},
            .enforceable_limits = enforceable};
  }
  absl::Status Available() const override { return available; }
  absl::StatusOr<std::unique_ptr<Instance>> Create(const InstanceSpec& spec) override {
    if (!create.ok()) return create;
    class FakeInstance final : public Instance {
     public:
      FakeInstance(FakeProvider& provider, OutputWriter output)
          : provider_(provider), output_(std::move(output)) {}
      ~FakeInstance() override { std::this_thread::sleep_for(provider_.teardown); }
      absl::StatusOr<Event> Resume() override { return provider_.resume(output_); }
      absl::Status CompleteHostCall(const absl::StatusOr<std::string>&) override {
        ++provider_.completed;
        return absl::OkStatus();
      }
      void Stop() override { provider_.stopped = true; }
      Usage usage() const override { return provider_.usage; }

     private:
      FakeProvider& provider_;
      OutputWriter output_;
    };
    limits = spec.limits;
    return std::make_unique<FakeInstance>(*this, spec.output);
  }

  std::vector<LimitKind> enforceable = {LimitKind::kWallTime};
  absl::Status available;
  absl::Status create;
  std::function<absl::StatusOr<Event>(const OutputWriter&)> resume = [](const OutputWriter&) {
    return Event(Exited{0});
  };
  Usage usage;
  std::chrono::milliseconds teardown{0};
  Limits limits;
  int completed = 0;
  std::atomic<bool> stopped = false;
};

}  // namespace waxvm

#endif  // WAXVM_SRC_SUPERVISOR_FAKE_PROVIDER_FOR_TEST_H_
