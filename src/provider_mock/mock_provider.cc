// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "src/base/status.h"
#include "src/isolation/limits_check.h"
#include "src/provider_mock/native_instance.h"
#include "src/provider_mock/script_instance.h"
#include "waxvm/providers.h"

namespace waxvm {
namespace {

constexpr LimitKind kEnforceable[] = {LimitKind::kOutput, LimitKind::kHostCalls};

/// Thread safety: immutable.
class MockProvider final : public Provider {
 public:
  explicit MockProvider(MockOptions options) : options_(std::move(options)) {}

  ProviderInfo info() const override {
    ProviderInfo info;
    info.name = "mock";
    info.isolation = IsolationClass::kNone;
    info.mechanism = "none: native functions run on a thread of the embedding process";
    info.does_not_protect_against = {"anything the program does: it is code of this process"};
    for (Resource resource :
         {Resource::kClock, Resource::kRandom, Resource::kFile, Resource::kSystemCall})
      info.ambient.emplace_back(ResourceName(resource));
    info.enforceable_limits.assign(std::begin(kEnforceable), std::end(kEnforceable));
    return info;
  }

  absl::Status Available() const override { return absl::OkStatus(); }

  absl::StatusOr<std::unique_ptr<Instance>> Create(const InstanceSpec& spec) override {
    // The kind of program first: no change of the limits would make it run.
    if (options_.script.empty() && spec.program.kind() != Program::Kind::kNative)
      return InvalidArgument(
          "%s: the mock provider runs native functions only; use the process or microvm provider "
          "for ELF programs",
          spec.program.name());
    WAXVM_RETURN_IF_ERROR(CheckLimits("mock", spec.limits, kEnforceable));
    if (spec.root_image)
      return InvalidArgument("the mock provider has no root images; use the microvm provider");
    if (spec.gate == nullptr) return InvalidArgument("an instance needs an access gate");
    if (!options_.script.empty()) return std::make_unique<ScriptInstance>(spec, options_.script);
    return NativeInstance::Create(spec);
  }

 private:
  const MockOptions options_;
};

}  // namespace

std::shared_ptr<Provider> NewMockProvider(MockOptions options) {
  return std::make_shared<MockProvider>(std::move(options));
}

}  // namespace waxvm
