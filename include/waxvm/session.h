// SPDX-License-Identifier: Apache-2.0
// Calls into a program that is running: start it once, call its functions, copy it while it waits.
#ifndef WAXVM_SESSION_H_
#define WAXVM_SESSION_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "waxvm/program.h"
#include "waxvm/provider.h"
#include "waxvm/report.h"
#include "waxvm/supervisor.h"

namespace waxvm {

class Session;

struct CallOptions {
  /// Time limits of this call alone.
  CallLimits limits = {};
  /// Cancels the call. The session is poisoned then, as after a fault.
  std::stop_token stop = {};
};

/// A program, ready for calls, at one moment: memory, registers and what its kernel knows of it.
/// Sessions made from it share its memory until they write. Thread safety: may be copied and used
/// from any thread at once; sessions hold what they need of it.
class Snapshot {
 public:
  /// A session that is where the snapshot was taken, with randomness and a clock of its own.
  /// `options` as the session's that it was taken of, but for output, label, limits and stop.
  /// Errors: kInvalidArgument for other grants; what the provider could not do.
  absl::StatusOr<std::unique_ptr<Session>> Clone() const;

  /// Bytes of memory it holds.
  std::uint64_t memory_bytes() const;

 private:
  friend class Session;
  struct State;
  explicit Snapshot(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  std::shared_ptr<const State> state_;
};

/// One instance of a program that answers calls (built with waxvm/guest.h, or speaking the format
/// of docs/formats/call.md). Thread safety: belongs to the thread that made it: Call, Reset and
/// TakeSnapshot from another give kFailedPrecondition, as a virtual CPU is a thread's. Destroying
/// it, Stop and the rest work from any thread, one at a time.
class Session {
 public:
  /// Starts `program` and runs it until it waits for its first call. `options.limits` bound that;
  /// memory, output, descriptors, threads and host calls bound the whole session.
  /// Errors: kInvalidArgument as Supervisor::Run; kUnavailable where the provider does not work
  /// here; kFailedPrecondition for a program that ended, faulted or met a limit before it was
  /// ready (the message says which).
  static absl::StatusOr<std::unique_ptr<Session>> Start(std::shared_ptr<Provider> provider,
                                                        const absl::StatusOr<Program>& program,
                                                        const RunOptions& options = {});
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Calls an exported function with bytes and returns its bytes. Host functions that it calls run
  /// on this thread, inside. Errors the function itself gave: its code and message.
  /// kNotFound: there is no such function. kInvalidArgument: the arguments are above
  /// kMaxCallBytes. kDeadlineExceeded, kResourceExhausted: a limit; kCancelled: stopped;
  /// kAborted: the program faulted or ended; each of these three poisons the session, and every
  /// later call gets kFailedPrecondition with the reason. kFailedPrecondition: a call from a
  /// host function of the same session, from another thread, or into a poisoned session.
  absl::StatusOr<std::string> Call(std::string_view function, std::string_view arguments,
                                   const CallOptions& options = {});

  /// Ends the current call, or the next one, soon. From any thread.
  void Stop();

  /// OK, or why no call is possible any more.
  absl::Status health() const;

  /// The program as it waits now. Errors: kUnimplemented where the provider has no snapshots;
  /// kFailedPrecondition with the name of what cannot be kept.
  absl::StatusOr<Snapshot> TakeSnapshot();

  /// Puts a session that a snapshot made back to it. Errors: as Instance::Reset; a session that was
  /// poisoned cannot be put back, it is to be replaced.
  absl::Status Reset();

  /// What was used and refused since the start, or since the last Reset.
  Report report() const;
  /// What the program wrote, where it was collected; taken away by this.
  std::string TakeOutput();
  std::string TakeErrorOutput();

 private:
  friend class Snapshot;
  struct State;
  explicit Session(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// Bytes of arguments, and of a result.
inline constexpr std::size_t kMaxCallBytes = std::size_t{15} << 20;

}  // namespace waxvm

#endif  // WAXVM_SESSION_H_
