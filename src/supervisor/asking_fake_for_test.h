// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_SUPERVISOR_ASKING_FAKE_FOR_TEST_H_
#define WAXVM_SRC_SUPERVISOR_ASKING_FAKE_FOR_TEST_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>

#include "src/supervisor/call_format.h"
#include "waxvm/provider.h"
#include "waxvm/providers.h"

namespace waxvm {

/// Has clones, resets and runs. A call of its program's function F asks the host for F and returns
/// the answer; "nothing" asks for nothing, "fault" faults, "take the key" keeps the private key
/// with each byte turned. A run writes what "waxvm.identity" answers.
class AskingProvider final : public Provider {
 public:
  ProviderInfo info() const override {
    ProviderInfo info;
    info.name = "asking";
    info.enforceable_limits = {LimitKind::kOutput, LimitKind::kWallTime};
    return info;
  }
  absl::Status Available() const override { return absl::OkStatus(); }
  absl::StatusOr<std::unique_ptr<Instance>> Create(const InstanceSpec& spec) override {
    return std::make_unique<AskingInstance>(*this, spec);
  }
  absl::StatusOr<std::unique_ptr<Instance>> Clone(std::shared_ptr<const InstanceSnapshot>,
                                                  const InstanceSpec& spec) override {
    return std::make_unique<AskingInstance>(*this, spec);
  }

  std::array<unsigned char, 32> turned_key = {};
  std::atomic<int> alive = 0;

 private:
  class AskingInstance final : public Instance {
   public:
    AskingInstance(AskingProvider& provider, const InstanceSpec& spec)
        : provider_(provider), runs_(spec.for_runs), output_(spec.output) {
      ++provider_.alive;
    }
    ~AskingInstance() override { --provider_.alive; }

    absl::StatusOr<Event> Resume() override {
      if (runs_) {
        if (!answered_) return HostCallRequest{"waxvm.identity", ""};
        if (absl::Status status = output_(Stream::kOutput, answer_); !status.ok()) return status;
        return Event(Exited{0});
      }
      if (function_.empty()) return Serve(0, 0, "");
      if (function_ == "fault")
        return Event(Fault{.kind = FaultKind::kSignal, .detail = "asked for"});
      if (!answered_ && function_ != "nothing")
        return HostCallRequest{TakesKey() ? "waxvm.identity.private_key" : function_, ""};
      function_.clear();
      return Serve(code_ == 0 ? 1 : 2, code_, std::exchange(answer_, ""));
    }

    absl::Status CompleteHostCall(const absl::StatusOr<std::string>& reply) override {
      if (!runs_ && function_.empty()) {
        std::uint32_t name = 0;
        std::memcpy(&name, reply->data() + 4, 4);
        function_ = reply->substr(kCallHeaderBytes, name);
        answered_ = false;
        code_ = 0;
        return absl::OkStatus();
      }
      answered_ = true;
      code_ = static_cast<std::uint32_t>(reply.status().code());
      if (TakesKey() && reply.ok() && reply->size() == 32) {
        for (std::size_t i = 0; i < 32; ++i)
          provider_.turned_key[i] = static_cast<unsigned char>((*reply)[i] ^ 0x5a);
        return absl::OkStatus();
      }
      answer_ = reply.ok() ? *reply : std::string(reply.status().message());
      return absl::OkStatus();
    }

    void Stop() override {}
    Usage usage() const override { return {}; }
    absl::Status RestartLimits(const CallLimits&) override { return absl::OkStatus(); }
    absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> TakeSnapshot() override {
      struct Taken final : InstanceSnapshot {
        std::uint64_t memory_bytes() const override { return 4096; }
      };
      return std::make_shared<Taken>();
    }
    absl::Status Reset() override {
      function_.clear();
      answered_ = false;
      return absl::OkStatus();
    }
    absl::Status StartRun(const InstanceSpec& spec) override {
      output_ = spec.output;
      answered_ = false;
      return absl::OkStatus();
    }

   private:
    bool TakesKey() const { return function_ == "take the key"; }
    static Event Serve(std::uint32_t state, std::uint32_t code, const std::string& data) {
      const std::uint32_t words[] = {1, state, code, 0};
      return HostCallRequest{
          std::string(kServeName),
          std::string(reinterpret_cast<const char*>(words), sizeof words) + data};
    }

    AskingProvider& provider_;
    const bool runs_;
    OutputWriter output_;
    std::string function_, answer_;
    std::uint32_t code_ = 0;
    bool answered_ = false;
  };
};

}  // namespace waxvm

#endif  // WAXVM_SRC_SUPERVISOR_ASKING_FAKE_FOR_TEST_H_
