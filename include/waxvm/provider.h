// SPDX-License-Identifier: Apache-2.0
// The interface between the supervisor and one way to isolate. Embedders can implement it too;
// tests/conformance/ holds the suite that every implementation must pass.
#ifndef WAXVM_PROVIDER_H_
#define WAXVM_PROVIDER_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "waxvm/access.h"
#include "waxvm/fault.h"
#include "waxvm/grant.h"
#include "waxvm/limits.h"
#include "waxvm/program.h"
#include "waxvm/root_image.h"

namespace waxvm {

/// What stands between the program and the host, weakest first.
enum class IsolationClass {
  kNone,     ///< the embedder's own process: for tests and trusted code
  kProcess,  ///< the host kernel's namespaces and filters
  kMicroVm,  ///< hardware or paravirtual virtualisation; no host system call is reachable
};

/// "none", "process", "microvm".
std::string_view IsolationName(IsolationClass isolation);

/// What a provider is and is not, for people and for policy.
struct ProviderInfo {
  std::string name;
  IsolationClass isolation = IsolationClass::kNone;
  /// One sentence: what the boundary is made of on this host.
  std::string mechanism;
  std::vector<std::string> protects_against;
  std::vector<std::string> does_not_protect_against;
  /// What it cannot withhold, by resource name: "clock", "rdtsc", "rdrand", "fifo" …
  std::vector<std::string> ambient;
  /// The limits that it can enforce; setting any other is refused.
  std::vector<LimitKind> enforceable_limits;
};

enum class Stream { kOutput, kError };

/// Takes what a program writes, in order, on the thread in Resume. A status other than OK ends
/// the run with that status. The output limit has been applied already.
using OutputWriter = std::function<absl::Status(Stream stream, std::string_view data)>;

/// A host folder or file, opened (O_PATH) and checked, under a path inside the instance.
struct FileMount {
  std::shared_ptr<const int> host_fd = {};
  std::string host_path = {};   ///< for messages only
  std::string guest_path = {};  ///< absolute, normalised
  bool is_directory = true;
  Rights rights = Rights::kReadOnly;
};

/// Everything an instance is made from. Filled by the supervisor from RunOptions.
struct InstanceSpec {
  explicit InstanceSpec(Program p) : program(std::move(p)) {}

  Program program;
  std::vector<std::string> arguments;    ///< argv, argv[0] included
  std::vector<std::string> environment;  ///< "NAME=value"
  Limits limits;
  /// Null: not granted. `host_clock` and `host_random` tell that the source is the host's own.
  std::shared_ptr<ClockSource> clock;
  std::shared_ptr<RandomSource> random;
  bool host_clock = false;
  bool host_random = false;
  std::vector<FileMount> mounts;
  /// Read-only, at "/", below everything else; what the program changes of it stays its own.
  std::optional<RootImage> root_image;
  bool host_functions_granted = false;
  /// The program is started for calls: its limits of time and fuel bound the start alone,
  /// RestartLimits follows.
  bool for_calls = false;
  /// The program is only loaded, for Instance::TakeSnapshot; Instance::StartRun gives each clone
  /// its arguments.
  bool for_runs = false;
  /// Standard input, owned by the caller and open until the instance is gone; -1: empty.
  int input_fd = -1;
  OutputWriter output;
  /// Owned by the caller, outlives the instance.
  AccessGate* gate = nullptr;
};

/// The program calls a host function and waits for Instance::CompleteHostCall.
struct HostCallRequest {
  std::string name;
  std::string request;
};
struct Exited {
  int code = 0;  ///< 0 to 255
};
struct LimitReached {
  LimitKind limit = LimitKind::kMemory;
};
struct Stopped {};

/// What happened when Resume returned. All but HostCallRequest are final.
using Event = std::variant<HostCallRequest, Exited, Fault, LimitReached, Stopped>;

/// Memory of the program that the host has in place for it.
struct InstanceMemory {
  std::uint64_t resident_bytes = 0;  ///< shared with a snapshot, or its own
  std::uint64_t private_bytes = 0;   ///< its own
};

/// What was measured so far; an empty field could not be measured.
struct Usage {
  std::optional<std::chrono::nanoseconds> cpu_time = {};
  std::optional<std::uint64_t> peak_memory_bytes = {};
  std::optional<std::uint64_t> vm_exits = {};
  std::uint64_t output_bytes = 0;
  /// As it was when the program ended; empty before.
  std::optional<InstanceMemory> memory = {};
  /// Instructions; empty where no limit asks for counting them.
  std::optional<std::uint64_t> fuel = {};
};

/// What an instance was at one moment, from which clones are made. Immutable; may be used from any
/// thread at once.
class InstanceSnapshot {
 public:
  virtual ~InstanceSnapshot() = default;
  /// Bytes of the program's memory that it holds, once for all clones.
  virtual std::uint64_t memory_bytes() const = 0;
};

/// Limits that count from now on.
struct CallLimits {
  std::optional<std::chrono::nanoseconds> wall_time = {};
  std::optional<std::chrono::nanoseconds> cpu_time = {};
  std::optional<std::uint64_t> fuel = {};  ///< as Limits::fuel
};

/// One running program. Destroying it ends the program and frees everything it held; when the
/// destructor returns no process, thread, descriptor or mapping of it is left.
/// Thread safety: Stop may be called from any thread at any time before destruction; everything
/// else from one thread at a time.
class Instance {
 public:
  virtual ~Instance() = default;

  /// Runs the program until its next event. Blocks. The calling thread is the program's (a
  /// microVM's vCPU thread). Errors: what the provider itself could not do; then the instance
  /// can only be destroyed. Must not be called again after a final event (kFailedPrecondition).
  virtual absl::StatusOr<Event> Resume() = 0;

  /// Answers the HostCallRequest that Resume returned; call Resume next.
  /// Errors: kFailedPrecondition when none is pending.
  virtual absl::Status CompleteHostCall(const absl::StatusOr<std::string>& reply) = 0;

  /// Makes the current or next Resume return Stopped, soon.
  virtual void Stop() = 0;

  virtual Usage usage() const = 0;

  /// Empty where it cannot be told. Costs time for what there is.
  virtual std::optional<InstanceMemory> memory() const;

  /// Makes the first Resume of a clone faster by what can be done in advance, from any thread; it
  /// takes memory, also of the kernel's, until the instance is gone. Nothing of the program runs.
  /// Does nothing where there is nothing to do. Errors: the instance can only be destroyed.
  virtual absl::Status Prepare();

  /// Replaces the limits of time and fuel: they are counted from now, and an empty one is none.
  /// While a host call is pending. Errors: kFailedPrecondition when none is; kUnimplemented where
  /// the provider cannot, if a limit is set.
  virtual absl::Status RestartLimits(const CallLimits& limits);

  /// What the program is now, while a host call is pending, which is part of it: a clone continues
  /// with the answer to that call. Or, made for_runs and not resumed yet, the program before its
  /// first instruction. Errors: kUnimplemented where the provider has no snapshots;
  /// kFailedPrecondition when no host call is pending, or with the name of what cannot be kept (an
  /// open file of the host).
  virtual absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> TakeSnapshot();

  /// Puts a clone back to the snapshot it was made from, as long as it has not ended: the host call
  /// is pending again, what it changed is undone, and usage() starts anew. A clone that StartRun
  /// has started may also have ended, by Exited alone, and waits for StartRun again. Costs time for
  /// what was changed, not for what there is. Errors: kUnimplemented; kFailedPrecondition for what
  /// is no clone or has ended; others leave an instance that can only be destroyed.
  virtual absl::Status Reset();

  /// Gives a clone of a snapshot before a program's first instruction the arguments, environment,
  /// standard input, output, gate and limits of one run, of `spec`; Resume is next. The rest of
  /// `spec` is as it was for the clone. Errors: kUnimplemented; kInvalidArgument as
  /// Provider::Create, kResourceExhausted for arguments that the memory limit does not hold, and
  /// kFailedPrecondition for any other instance: nothing has changed. Others leave an instance that
  /// can only be destroyed.
  virtual absl::Status StartRun(const InstanceSpec& spec);
};

/// One way to isolate. Thread safety: all methods may be called from any thread at once.
class Provider {
 public:
  virtual ~Provider() = default;

  virtual ProviderInfo info() const = 0;

  /// OK, or kUnavailable with the exact reason and the remedy. Cheap after the first call.
  virtual absl::Status Available() const = 0;

  /// Makes an instance, ready to Resume. Errors: kUnavailable as Available; kInvalidArgument for
  /// a limit it cannot enforce, a program of a kind it cannot run, or a source or root image it
  /// cannot inject; kResourceExhausted when the host is out of something. Never falls back to
  /// anything weaker.
  virtual absl::StatusOr<std::unique_ptr<Instance>> Create(const InstanceSpec& spec) = 0;

  /// Makes an instance that is where `snapshot`, one of this provider's, was taken: the same host
  /// call is pending, or StartRun is next. Memory is shared until it is written to. `spec` has the
  /// program, the grants and the memory limit of the instance the snapshot is of; output, gate and
  /// limits are its own. Errors: as Create; kUnimplemented where the provider has no snapshots.
  virtual absl::StatusOr<std::unique_ptr<Instance>> Clone(
      std::shared_ptr<const InstanceSnapshot> snapshot, const InstanceSpec& spec);
};

}  // namespace waxvm

#endif  // WAXVM_PROVIDER_H_
