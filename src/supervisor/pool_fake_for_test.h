// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_SUPERVISOR_POOL_FAKE_FOR_TEST_H_
#define WAXVM_SRC_SUPERVISOR_POOL_FAKE_FOR_TEST_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <utility>

#include "src/base/mutex.h"
#include "src/supervisor/call_format.h"
#include "src/supervisor/fake_provider_for_test.h"
#include "waxvm/session.h"

namespace waxvm {

/// What the instances of a FakeCloningProvider have in common. Any thread.
struct FakeCloning {
  std::atomic<int> alive = 0;
  std::atomic<int> most_alive = 0;
  std::atomic<int> clones = 0;
  std::atomic<int> resets = 0;
  std::atomic<int> blocked = 0;
  std::atomic<bool> released = false;
  std::atomic<bool> has_reset = true;

  void SetCloneStatus(absl::Status status) {
    const MutexLock lock(mutex);
    clone_status = std::move(status);
  }
  absl::Status GetCloneStatus() {
    const MutexLock lock(mutex);
    return clone_status;
  }

  Mutex mutex;
  absl::Status clone_status ABSL_GUARDED_BY(mutex);
};

/// Its program has functions: "count" says how often it was called in this state, "fail" fails,
/// "fault" faults, "spoil" makes the next Reset fail, "block" returns when `released` is set,
/// "call" calls the host function "back", "exhaust" throws as a host without memory does, "memory"
/// nothing.
class FakeCloningInstance final : public Instance {
 public:
  explicit FakeCloningInstance(std::shared_ptr<FakeCloning> all) : all_(std::move(all)) {
    const int now = ++all_->alive;
    int most = all_->most_alive;
    while (now > most && !all_->most_alive.compare_exchange_weak(most, now)) {
    }
  }
  ~FakeCloningInstance() override { --all_->alive; }

  absl::StatusOr<Event> Resume() override {
    if (function_.empty()) return HostCallRequest{std::string(kServeName), Header(0, 0)};
    EXPECT_TRUE(thread_ == std::thread::id() || thread_ == std::this_thread::get_id());
    thread_ = std::this_thread::get_id();
    if (function_ == "count") return Returned(std::to_string(++count_));
    if (function_ == "fault")
      return Event(Fault{.kind = FaultKind::kSignal, .detail = "asked for"});
    if (function_ == "exhaust") throw std::bad_alloc();
    if (function_ == "fail")
      return HostCallRequest{std::string(kServeName), Header(2, 9) + "as asked"};
    if (function_ == "spoil") spoiled_ = true;
    if (function_ == "call" && !std::exchange(called_, true)) return HostCallRequest{"back", ""};
    if (function_ == "block") {
      ++all_->blocked;
      while (!all_->released && !stopped_)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      --all_->blocked;
      if (stopped_) return Event(Stopped{});
    }
    return Returned(std::exchange(reply_, ""));
  }
  absl::Status CompleteHostCall(const absl::StatusOr<std::string>& reply) override {
    if (!reply.ok()) {
      reply_ = std::string(reply.status().message());
    } else if (called_) {
      reply_ = *reply;
    } else {
      std::uint32_t name = 0;
      std::memcpy(&name, reply->data() + 4, 4);
      function_ = reply->substr(kCallHeaderBytes, name);
    }
    return absl::OkStatus();
  }
  void Stop() override { stopped_ = true; }
  Usage usage() const override { return {}; }
  std::optional<InstanceMemory> memory() const override {
    return InstanceMemory{.resident_bytes = 100, .private_bytes = 30};
  }
  absl::Status RestartLimits(const CallLimits&) override { return absl::OkStatus(); }
  absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> TakeSnapshot() override {
    struct Taken final : InstanceSnapshot {
      std::uint64_t memory_bytes() const override { return 4096; }
    };
    return std::make_shared<Taken>();
  }
  absl::Status Reset() override {
    if (!all_->has_reset) return absl::UnimplementedError("no reset");
    if (spoiled_) return absl::InternalError("spoiled");
    ++all_->resets;
    count_ = 0;
    called_ = false;
    return absl::OkStatus();
  }

 private:
  static std::string Header(std::uint32_t state, std::uint32_t code) {
    const std::uint32_t words[] = {1, state, code, 0};
    return std::string(reinterpret_cast<const char*>(words), sizeof words);
  }
  static Event Returned(const std::string& result) {
    return HostCallRequest{std::string(kServeName), Header(1, 0) + result};
  }

  const std::shared_ptr<FakeCloning> all_;
  std::string function_, reply_;
  std::thread::id thread_;
  int count_ = 0;
  bool called_ = false;
  bool spoiled_ = false;
  std::atomic<bool> stopped_ = false;
};

class FakeCloningProvider final : public Provider {
 public:
  ProviderInfo info() const override {
    ProviderInfo info;
    info.name = "cloning";
    info.enforceable_limits = {LimitKind::kWallTime};
    return info;
  }
  absl::Status Available() const override { return absl::OkStatus(); }
  absl::StatusOr<std::unique_ptr<Instance>> Create(const InstanceSpec&) override {
    return std::make_unique<FakeCloningInstance>(all);
  }
  absl::StatusOr<std::unique_ptr<Instance>> Clone(std::shared_ptr<const InstanceSnapshot>,
                                                  const InstanceSpec&) override {
    if (absl::Status status = all->GetCloneStatus(); !status.ok()) return status;
    ++all->clones;
    return std::make_unique<FakeCloningInstance>(all);
  }

  const std::shared_ptr<FakeCloning> all = std::make_shared<FakeCloning>();
};

}  // namespace waxvm

#endif  // WAXVM_SRC_SUPERVISOR_POOL_FAKE_FOR_TEST_H_
