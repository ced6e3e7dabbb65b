// SPDX-License-Identifier: Apache-2.0
#include "embedder_provider.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <stop_token>
#include <thread>
#include <utility>

#include "waxvm/providers.h"

namespace waxvm::conformance {
namespace {

/// Thread safety: as Instance.
class WatchedInstance final : public Instance {
 public:
  explicit WatchedInstance(std::optional<std::chrono::nanoseconds> wall_time)
      : wall_time_(wall_time) {}

  absl::Status Make(Provider& provider, const InstanceSpec& spec) {
    auto made = provider.Create(spec);
    if (made.ok()) inner_ = *std::move(made);
    return made.status();
  }

  absl::StatusOr<Event> Resume() override {
    if (wall_time_ && !watchdog_.joinable())
      watchdog_ = std::jthread([this](std::stop_token over) { Watch(over); });
    auto event = inner_->Resume();
    if (event.ok() && std::holds_alternative<Stopped>(*event) && expired_ && !stopped_)
      return LimitReached{LimitKind::kWallTime};
    return event;
  }

  absl::Status CompleteHostCall(const absl::StatusOr<std::string>& reply) override {
    return inner_->CompleteHostCall(reply);
  }

  void Stop() override {
    stopped_ = true;
    inner_->Stop();
  }

  Usage usage() const override { return inner_->usage(); }

 private:
  void Watch(std::stop_token over) {
    std::mutex mutex;
    std::unique_lock<std::mutex> lock(mutex);
    std::condition_variable_any changed;
    changed.wait_for(lock, over, *wall_time_, [] { return false; });
    if (over.stop_requested()) return;
    expired_ = true;
    inner_->Stop();
  }

  const std::optional<std::chrono::nanoseconds> wall_time_;
  std::atomic<bool> expired_ = false;
  std::atomic<bool> stopped_ = false;
  std::unique_ptr<Instance> inner_;
  std::jthread watchdog_;  // last: joined before the instance that it stops goes away
};

/// Thread safety: immutable.
class EmbedderProvider final : public Provider {
 public:
  ProviderInfo info() const override {
    ProviderInfo info = mock_->info();
    info.name = "embedder";
    info.mechanism = "none, with a watchdog";
    info.enforceable_limits.push_back(LimitKind::kWallTime);
    return info;
  }

  absl::Status Available() const override { return mock_->Available(); }

  absl::StatusOr<std::unique_ptr<Instance>> Create(const InstanceSpec& spec) override {
    InstanceSpec inner = spec;
    inner.limits.wall_time.reset();
    if (spec.limits.wall_time && spec.limits.wall_time->count() <= 0)
      return absl::InvalidArgumentError("the limit wall must be more than 0");
    auto instance = std::make_unique<WatchedInstance>(spec.limits.wall_time);
    const absl::Status made = instance->Make(*mock_, inner);
    if (!made.ok()) return made;
    return instance;
  }

 private:
  const std::shared_ptr<Provider> mock_ = NewMockProvider();
};

}  // namespace

std::shared_ptr<Provider> NewEmbedderProvider() { return std::make_shared<EmbedderProvider>(); }

}  // namespace waxvm::conformance
