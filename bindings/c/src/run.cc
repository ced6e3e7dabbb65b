// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "absl/strings/str_format.h"
#include "support.h"
#include "waxvm/providers.h"

using waxvm::Program;
using waxvm::Supervisor;
using waxvm::c::CopyRunOptions;
using waxvm::c::Guard;
using waxvm::c::ToRunOptions;

namespace {

absl::StatusOr<std::shared_ptr<waxvm::Provider>> MakeProvider(waxvm_provider provider) {
  switch (provider) {
    case WAXVM_PROVIDER_PROCESS:
      return waxvm::NewProcessProvider();
    case WAXVM_PROVIDER_MICROVM:
      return waxvm::NewMicroVmProvider();
    default:
      return absl::InvalidArgumentError(absl::StrFormat(
          "provider is %d, which is none of the WAXVM_PROVIDER_ constants", provider));
  }
}

absl::Status RunAndGive(waxvm_supervisor& supervisor, const Program& program,
                        const waxvm_run_options* options, waxvm_result** result) {
  const auto from = CopyRunOptions(options);
  if (!from.ok()) return from.status();
  auto run_options = ToRunOptions(*from);
  if (!run_options.ok()) return run_options.status();
  if (from->stop != nullptr) run_options->stop = from->stop->source.get_token();
  auto done = supervisor.supervisor.Run(program, *run_options);
  if (!done.ok()) return done.status();
  *result = waxvm::c::NewResult(*std::move(done));
  return absl::OkStatus();
}

}  // namespace

extern "C" {

waxvm_status waxvm_provider_available(waxvm_provider provider, waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    const auto made = MakeProvider(provider);
    return made.ok() ? (*made)->Available() : made.status();
  });
}

waxvm_status waxvm_supervisor_open(waxvm_provider provider, waxvm_supervisor** supervisor,
                                   waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(supervisor);
    *supervisor = nullptr;
    auto made = MakeProvider(provider);
    if (!made.ok()) return made.status();
    auto opened = Supervisor::Create(*made);
    if (!opened.ok()) return opened.status();
    *supervisor = new waxvm_supervisor{*std::move(made), {}, *std::move(opened)};
    return absl::OkStatus();
  });
}

void waxvm_supervisor_stop(waxvm_supervisor* supervisor) {
  if (supervisor == nullptr) return;
  Guard(nullptr, [&] {
    supervisor->stop.request_stop();
    supervisor->supervisor.Stop();
    return absl::OkStatus();
  });
}

void waxvm_supervisor_close(waxvm_supervisor* supervisor) {
  waxvm_supervisor_stop(supervisor);
  delete supervisor;
}

waxvm_status waxvm_run(waxvm_supervisor* supervisor, const waxvm_program* program,
                       const waxvm_run_options* options, waxvm_result** result,
                       waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(result);
    *result = nullptr;
    WAXVM_C_REQUIRE(supervisor);
    WAXVM_C_REQUIRE(program);
    return RunAndGive(*supervisor, program->program, options, result);
  });
}

waxvm_status waxvm_run_file(waxvm_supervisor* supervisor, const char* path,
                            const waxvm_run_options* options, waxvm_result** result,
                            waxvm_error* error) {
  return Guard(error, [&]() -> absl::Status {
    WAXVM_C_REQUIRE(result);
    *result = nullptr;
    WAXVM_C_REQUIRE(supervisor);
    WAXVM_C_REQUIRE(path);
    const auto program = Program::FromFile(path);
    if (!program.ok()) return program.status();
    return RunAndGive(*supervisor, *program, options, result);
  });
}

}  // extern "C"
