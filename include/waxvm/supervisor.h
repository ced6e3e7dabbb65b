// SPDX-License-Identifier: Apache-2.0
// Runs programs: joins providers with capabilities and decides who may touch what.
#ifndef WAXVM_SUPERVISOR_H_
#define WAXVM_SUPERVISOR_H_

#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "waxvm/access.h"
#include "waxvm/grant.h"
#include "waxvm/identity.h"
#include "waxvm/limits.h"
#include "waxvm/program.h"
#include "waxvm/provider.h"
#include "waxvm/report.h"

namespace waxvm {

struct RunOptions {
  /// Arguments after argv[0].
  std::vector<std::string> arguments = {};
  /// argv[0]; empty: the program's name.
  std::string argument_zero = {};
  /// The whole environment, "NAME=value"; nothing is inherited.
  std::vector<std::string> environment = {};
  Limits limits = {};
  std::vector<Grant> grants = {};
  /// Standard input as bytes; ignored where `input_fd` is set.
  std::string input = {};
  /// A descriptor to read standard input from, the caller's; -1: use `input`.
  int input_fd = -1;
  /// Takes the output as it comes; empty: it is collected in RunResult.
  OutputWriter output = {};
  /// A name for this run, handed to the authorizer and to host functions.
  std::string label = {};
  /// Ends the run from outside (outcome kStopped).
  std::stop_token stop = {};
  /// Asked in front of the grants, after the supervisor's own authorizer. Empty: allows all.
  Authorizer authorizer = {};
  /// Gives the instance a key and an address of its own, and an advert. Empty: it is nobody.
  std::optional<IdentityOptions> identity = {};
};

struct SupervisorOptions {
  /// Asked in front of the grants. Empty: the grants alone decide.
  Authorizer authorizer = {};
};

/// Runs any number of instances of one provider, from any number of threads.
/// Thread safety: all methods may be called from any thread at once, except the destructor.
class Supervisor {
 public:
  /// Errors: kUnavailable with the reason and the remedy where `provider` does not work here.
  static absl::StatusOr<Supervisor> Create(std::shared_ptr<Provider> provider,
                                           const SupervisorOptions& options = {});
  Supervisor(Supervisor&&) noexcept;
  Supervisor& operator=(Supervisor&&) noexcept;
  /// Stops every run and waits for them.
  ~Supervisor();

  /// Runs `program` to its end on the calling thread. Blocks.
  /// Errors: kInvalidArgument for a grant, limit or program that cannot be honoured (nothing ran);
  /// kNotFound for a granted host path that does not exist; kCancelled after Stop; what the signer
  /// or the directory of an identity could not do (nothing ran); otherwise what the provider could
  /// not do.
  absl::StatusOr<RunResult> Run(const Program& program, const RunOptions& options = {});

  /// Ends all current runs (outcome kStopped) and refuses later ones.
  void Stop();

 private:
  struct State;
  explicit Supervisor(std::shared_ptr<State> state);

  std::shared_ptr<State> state_;
};

/// The ten-line program: one run under one provider. `program` may be the result of
/// Program::FromFile as it is; its error is passed on.
absl::StatusOr<RunResult> RunOnce(const std::shared_ptr<Provider>& provider,
                                  const absl::StatusOr<Program>& program,
                                  const RunOptions& options = {});

}  // namespace waxvm

#endif  // WAXVM_SUPERVISOR_H_
