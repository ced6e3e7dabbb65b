// SPDX-License-Identifier: Apache-2.0
// Calls into a program that is running: start it once, call its functions, copy it while it waits.
// And many runs of a program that is loaded once.
#ifndef WAXVM_SESSION_H_
#define WAXVM_SESSION_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "waxvm/program.h"
#include "waxvm/provider.h"
#include "waxvm/report.h"
#include "waxvm/supervisor.h"

namespace waxvm {

class Session;

/// Bytes of arguments, and of a result.
inline constexpr std::size_t kMaxCallBytes = std::size_t{15} << 20;
/// Bytes of the message with which a function fails.
inline constexpr std::size_t kMaxCallMessageBytes = std::size_t{64} << 10;

struct CallOptions {
  /// Time limits of this call alone.
  CallLimits limits = {};
  /// Cancels the call. The session is poisoned then, as after a fault, unless the call had not
  /// begun.
  std::stop_token stop = {};
};

/// One run of a program that Snapshot::OfStart has loaded, from its first instruction to its end.
struct RunRequest {
  /// Arguments after argv[0].
  std::vector<std::string> arguments = {};
  /// argv[0]; empty: as the options of OfStart say.
  std::string argument_zero = {};
  /// The whole environment, "NAME=value".
  std::vector<std::string> environment = {};
  /// Standard input as bytes; ignored where `input_fd` is set.
  std::string input = {};
  /// A descriptor to read standard input from, the caller's; -1: use `input`.
  int input_fd = -1;
  /// Takes the output as it comes; empty: the writer of the options of OfStart, and where they have
  /// none it is collected in RunResult.
  OutputWriter output = {};
  /// As RunOptions::label; empty: that of the options of OfStart.
  std::string label = {};
  /// Of this run. What is empty is as the options of OfStart say; memory is always.
  Limits limits = {};
  /// Ends the run (outcome kStopped).
  std::stop_token stop = {};
};

/// A program, ready for calls, at one moment: memory, registers and what its kernel knows of it.
/// Or a program that is loaded and has not run. Sessions made from it share its memory until they
/// write. Thread safety: may be copied and used from any thread at once; sessions hold what they
/// need of it.
class Snapshot {
 public:
  /// Loads any program, and for a dynamic one its interpreter, and takes it before its first
  /// instruction, for Session::Run and Pool::Run. `options` has what all runs have in common:
  /// grants, memory limit, stop token; and what a run has that does not say otherwise: argv[0], the
  /// other limits, output writer, label. Errors: as Supervisor::Run; kInvalidArgument also for
  /// arguments, environment or input, which are those of each run; kUnimplemented where the
  /// provider has no snapshots.
  static absl::StatusOr<Snapshot> OfStart(std::shared_ptr<Provider> provider,
                                          const absl::StatusOr<Program>& program,
                                          const RunOptions& options = {});

  /// A session that is where the snapshot was taken, with randomness and a clock of its own: it
  /// answers calls, or runs the program where it has not run yet. Its
  /// options are those of the session that was started: the same grants, label, stop token and
  /// output writer, which is called from the thread of each clone; standard input is read by all.
  /// Time limits are those of calls alone. It belongs to the thread of its first call. Where the
  /// options have an identity, it gets a key, an address and an advert of its own; a program that
  /// remembers who it was asks again. Errors: what the provider could not do, or the identity's
  /// signer or directory.
  absl::StatusOr<std::unique_ptr<Session>> Clone() const;

  /// Bytes of memory it holds.
  std::uint64_t memory_bytes() const;
  /// Whether it is of a program that has not run, for runs instead of calls.
  bool is_of_start() const;

  /// Puts it into the file at `path`, in the place of what is there, or leaves that as it was: also
  /// where this process is killed meanwhile. The file holds the program's memory, secrets included,
  /// and only its owner can read it. A symbolic link at `path` is replaced, not followed.
  /// Blocks: until the disk has it. Errors: kUnimplemented where the provider has no such files,
  /// and for a snapshot of OfStart;
  /// kFailedPrecondition with the name of what a file cannot keep; what writing gave.
  absl::Status Save(const std::string& path) const;

  /// The snapshot that Save has put there, of the same program, with the same grants and limits
  /// (but time limits) as `options` now give. Memory is copied from the file, which may change or
  /// go afterwards. Whoever can write to the file decides what the program does, within its grants.
  /// Blocks: on reading. Errors: as Session::Start for the options; kNotFound; kInvalidArgument for
  /// what is no snapshot; kDataLoss for one that is damaged or truncated; kFailedPrecondition for
  /// another version, processor, program, grant or limit: the message says which.
  static absl::StatusOr<Snapshot> Load(std::shared_ptr<Provider> provider,
                                       const absl::StatusOr<Program>& program,
                                       const RunOptions& options, const std::string& path);

 private:
  friend class Session;
  struct State;
  explicit Snapshot(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  std::shared_ptr<const State> state_;
};

/// One instance of a program that answers calls (built with waxvm/guest.h, or speaking the format
/// of docs/formats/call.md). Thread safety: a started session belongs to the thread that started
/// it, a clone to the thread of its first call, as a virtual CPU is a thread's: Call, Reset and
/// TakeSnapshot from another give kFailedPrecondition. So a clone can be made on one thread and
/// handed to another. Stop may be called from any thread at any time, the rest from any thread
/// while no other uses the session. In a forked child process the parent's sessions can be
/// destroyed, which frees nothing; every call gives kFailedPrecondition.
class Session {
 public:
  /// Starts `program` and runs it until it waits for its first call. `options.limits` bound that;
  /// memory, output, descriptors, threads and host calls bound the whole session.
  /// Blocks: until the program is ready; without a wall time limit perhaps for ever.
  /// Errors: kInvalidArgument as Supervisor::Run; kUnavailable where the provider does not work
  /// here; kFailedPrecondition for a program that ended, faulted, met a limit or broke the format
  /// before it was ready (the message says which); kCancelled when it was stopped.
  static absl::StatusOr<std::unique_ptr<Session>> Start(std::shared_ptr<Provider> provider,
                                                        const absl::StatusOr<Program>& program,
                                                        const RunOptions& options = {});
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Calls an exported function with bytes and returns its bytes. Host functions that it calls run
  /// on this thread, inside.
  /// Errors, the session goes on: the code and message that the function itself gave; kNotFound,
  /// no such function; kInvalidArgument, a name that is empty or over 255 bytes, arguments above
  /// kMaxCallBytes, a limit of 0; kCancelled, `options.stop` was requested before; kUnimplemented,
  /// a limit that the provider does not have.
  /// Errors that poison the session (health() tells): kDeadlineExceeded, kResourceExhausted: a
  /// limit; kCancelled: stopped; kAborted: the program faulted, ended or broke the format of calls;
  /// what the provider could not do. Every later call gets kFailedPrecondition with that reason.
  /// kFailedPrecondition: a call from a host function of the same session, from another thread, or
  /// into a poisoned session.
  absl::StatusOr<std::string> Call(std::string_view function, std::string_view arguments,
                                   const CallOptions& options = {});

  /// Runs the program of Snapshot::OfStart from its first instruction to its end, on this thread,
  /// and puts the session back to before it. Nothing of a run is there in the next: each gets
  /// arguments, random numbers and files of its own. After anything but an exit of the program the
  /// session is poisoned, and health() says why. The report's set-up is what it took to start and
  /// its tear-down what it took to put back. Errors, the session goes on: kInvalidArgument as
  /// Supervisor::Run; kResourceExhausted, the memory limit does not hold the arguments; kCancelled,
  /// `request.stop` was requested before; kFailedPrecondition as Call, or for a session that
  /// answers calls. Errors that poison: what the provider could not do.
  absl::StatusOr<RunResult> Run(const RunRequest& request = {});

  /// Makes the first call, or run, of a clone faster by what can be done in advance, on any thread;
  /// it costs memory, of the kernel's above all (a pool does it for the clones that it keeps
  /// ready). Nothing of the program runs. Errors: what the provider could not do; the session is
  /// poisoned.
  absl::Status Prepare();

  /// Ends the current call or run, or the next one, soon. From any thread.
  void Stop();

  /// OK, or why no call is possible any more.
  absl::Status health() const;

  /// The program as it waits now. Errors: kUnimplemented where the provider has no snapshots;
  /// kFailedPrecondition as Call, or with the name of what cannot be kept; also for a program that
  /// has read its private key, which all clones would share.
  absl::StatusOr<Snapshot> TakeSnapshot();

  /// Puts a session that a snapshot made back to it; one that runs a program is already. It gets a
  /// new identity, where it has one. Errors: as Instance::Reset;
  /// kFailedPrecondition as Call: a session that was poisoned cannot be put back, it is to be
  /// replaced.
  absl::Status Reset();

  /// What was used and refused since the start, or since the last Reset.
  Report report() const;
  /// As Instance::memory; empty for a poisoned session too.
  std::optional<InstanceMemory> memory() const;
  /// What the program wrote, where it was collected; taken away by this.
  std::string TakeOutput();
  std::string TakeErrorOutput();

 private:
  friend class Snapshot;
  struct State;
  explicit Session(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace waxvm

#endif  // WAXVM_SESSION_H_
