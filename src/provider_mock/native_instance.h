// SPDX-License-Identifier: Apache-2.0
#ifndef WAXVM_SRC_PROVIDER_MOCK_NATIVE_INSTANCE_H_
#define WAXVM_SRC_PROVIDER_MOCK_NATIVE_INSTANCE_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "src/base/mutex.h"
#include "src/base/unique_fd.h"
#include "src/isolation/output_limiter.h"
#include "waxvm/native.h"
#include "waxvm/provider.h"

namespace waxvm {

/// Runs a native function on a thread of its own, in turns with the thread in Resume: while one
/// of the two runs the other waits, so that runs are deterministic. Everything the function asks
/// of its context is done on the thread in Resume; a host call makes Resume return. After a final
/// event the function sleeps at its next call of the context until the destructor cancels it; the
/// destructor waits for the function to return.
/// Thread safety: as Instance.
class NativeInstance final : public Instance {
 public:
  static absl::StatusOr<std::unique_ptr<Instance>> Create(const InstanceSpec& spec);
  ~NativeInstance() override;

  absl::StatusOr<Event> Resume() override;
  absl::Status CompleteHostCall(const absl::StatusOr<std::string>& reply) override;
  void Stop() override;
  Usage usage() const override { return {.output_bytes = output_.bytes()}; }

 private:
  class Context;
  enum class Turn { kHost, kProgram };
  using Operation = std::function<void()>;

  NativeInstance(const InstanceSpec& spec, UniqueFd stop_event);

  // On the thread in Resume.
  absl::Status StartThread();
  absl::StatusOr<Event> RunUntilEvent();
  /// Gives the program its turn and waits for it to end; false when the run is to be stopped.
  bool GiveTurn();
  void WriteOutput(Stream stream, std::string_view data, absl::Status& result);
  absl::StatusOr<std::size_t> ReadInput(std::span<char> buffer);
  absl::StatusOr<std::chrono::nanoseconds> ReadClock();
  absl::Status ReadRandom(std::span<std::byte> buffer);

  // On the program's thread.
  void RunProgram();
  /// Lets the thread in Resume do `operation`; false when the instance goes away instead.
  bool DoOnHost(Operation operation);
  void EndTurn();

  const InstanceSpec spec_;
  const UniqueFd stop_event_;  ///< readable once stopped; ends a wait for input
  std::thread thread_;

  Mutex mutex_;
  CondVar changed_;
  Turn turn_ ABSL_GUARDED_BY(mutex_) = Turn::kHost;
  bool stop_requested_ ABSL_GUARDED_BY(mutex_) = false;
  bool released_ ABSL_GUARDED_BY(mutex_) = false;

  // Belong to whoever has the turn.
  OutputLimiter output_;
  Operation operation_;                               ///< asked for by the program, not done yet
  std::optional<Event> event_;                        ///< what Resume returns next
  std::optional<absl::StatusOr<std::string>> reply_;  ///< of the last host call
  absl::Status failure_;                              ///< of the output writer
  bool host_call_pending_ = false;
  bool ended_ = false;
};

}  // namespace waxvm

#endif  // WAXVM_SRC_PROVIDER_MOCK_NATIVE_INSTANCE_H_
