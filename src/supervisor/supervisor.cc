// SPDX-License-Identifier: Apache-2.0
#include "waxvm/supervisor.h"

#include <set>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "src/base/mutex.h"
#include "src/base/status.h"
#include "src/supervisor/run.h"
#include "src/supervisor/run_control.h"

namespace waxvm {

/// Thread safety: all methods may be called from any thread at once.
struct Supervisor::State {
  State(std::shared_ptr<Provider> p, ProviderInfo i, Authorizer a)
      : provider(std::move(p)), info(std::move(i)), authorizer(std::move(a)) {}

  absl::Status Enter(RunControl& run) {
    MutexLock lock(mutex);
    if (stopped) return absl::CancelledError("the supervisor was stopped");
    runs.insert(&run);
    return absl::OkStatus();
  }

  void Leave(RunControl& run) {
    MutexLock lock(mutex);
    runs.erase(&run);
    if (runs.empty()) idle.NotifyAll();
  }

  void Stop() {
    MutexLock lock(mutex);
    stopped = true;
    for (RunControl* run : runs) run->Stop();
  }

  void WaitUntilIdle() {
    MutexLock lock(mutex);
    while (!runs.empty()) idle.Wait(mutex);
  }

  const std::shared_ptr<Provider> provider;
  const ProviderInfo info;
  const Authorizer authorizer;
  Mutex mutex;
  CondVar idle;
  bool stopped ABSL_GUARDED_BY(mutex) = false;
  std::set<RunControl*> runs ABSL_GUARDED_BY(mutex);
};

absl::StatusOr<Supervisor> Supervisor::Create(std::shared_ptr<Provider> provider,
                                              const SupervisorOptions& options) {
  if (provider == nullptr) return InvalidArgument("a supervisor needs a provider");
  WAXVM_RETURN_IF_ERROR(provider->Available());
  ProviderInfo info = provider->info();
  return Supervisor(
      std::make_shared<State>(std::move(provider), std::move(info), options.authorizer));
}

Supervisor::Supervisor(std::shared_ptr<State> state) : state_(std::move(state)) {}

Supervisor::Supervisor(Supervisor&&) noexcept = default;

Supervisor& Supervisor::operator=(Supervisor&& other) noexcept {
  // The old state ends as in the destructor.
  if (this != &other) Supervisor(std::exchange(state_, std::move(other.state_)));
  return *this;
}

Supervisor::~Supervisor() {
  if (state_ == nullptr) return;
  state_->Stop();
  state_->WaitUntilIdle();
}

absl::StatusOr<RunResult> Supervisor::Run(const Program& program, const RunOptions& options) {
  const std::shared_ptr<State> state = state_;
  if (state == nullptr) return FailedPrecondition("the supervisor was moved from");
  RunControl control;
  WAXVM_RETURN_IF_ERROR(state->Enter(control));
  const absl::Cleanup leave = [&] { state->Leave(control); };
  const std::stop_callback stop(options.stop, [&] { control.Stop(); });
  Authorizer both;
  if (state->authorizer && options.authorizer)
    both = [&](std::string_view label, const Access& access) {
      const absl::Status first = state->authorizer(label, access);
      return first.ok() ? options.authorizer(label, access) : first;
    };
  const Authorizer& asked = both                 ? both
                            : options.authorizer ? options.authorizer
                                                 : state->authorizer;
  return ProgramRun(*state->provider, state->info, asked, program, options, control).Execute();
}

void Supervisor::Stop() {
  if (state_ != nullptr) state_->Stop();
}

absl::StatusOr<RunResult> RunOnce(const std::shared_ptr<Provider>& provider,
                                  const absl::StatusOr<Program>& program,
                                  const RunOptions& options) {
  WAXVM_RETURN_IF_ERROR(program.status());
  WAXVM_ASSIGN_OR_RETURN(Supervisor supervisor, Supervisor::Create(provider));
  return supervisor.Run(*program, options);
}

}  // namespace waxvm
