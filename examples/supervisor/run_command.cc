// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "commands.h"
#include "flags.h"
#include "signals.h"
#include "streams.h"
#include "waxvm/supervisor.h"

namespace waxvm::cli {
namespace {

int Fail(int exit_code, const absl::Status& status) {
  absl::FPrintF(stderr, "waxvm: %s\n", std::string(status.message()));
  return exit_code;
}

/// The provider of that name. Errors: kInvalidArgument for a name that is none, kUnavailable with
/// the reason and what else is there: a weaker boundary is for the user to choose.
absl::StatusOr<std::shared_ptr<Provider>> FindProvider(std::string_view name) {
  const auto providers = AllProviders();
  std::vector<std::string> names;
  std::vector<std::string> available;
  std::shared_ptr<Provider> found;
  for (const auto& provider : providers) {
    names.push_back(provider->info().name);
    if (names.back() == name) found = provider;
  }
  if (!found)
    return absl::InvalidArgumentError(absl::StrFormat("no provider is called '%s'; there are %s",
                                                      name, absl::StrJoin(names, ", ")));
  const absl::Status status = found->Available();
  if (status.ok()) return found;
  for (const auto& provider : providers) {
    // The mock runs no files, so it is no choice here.
    const ProviderInfo info = provider->info();
    if (info.isolation != IsolationClass::kNone && provider->Available().ok())
      available.push_back(absl::StrFormat("--provider=%s (isolation class %s)", info.name,
                                          IsolationName(info.isolation)));
  }
  return absl::UnavailableError(absl::StrFormat(
      "provider %s is not available: %s; nothing ran. Available: %s", name,
      std::string(status.message()),
      available.empty() ? "no provider that runs files" : absl::StrJoin(available, ", ")));
}

int ExitCodeForProgram(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kNotFound:
      return kExitNotFound;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kResourceExhausted:
      return kExitCannotRun;
    default:
      return kExitFailed;
  }
}

/// What was meant where somebody gives a name alone, as to a shell.
absl::Status Hint(const absl::Status& status, const RunFlags& flags) {
  const bool alone = flags.images.empty() && flags.program.find('/') == std::string::npos;
  if (!alone || !absl::IsNotFound(status)) return status;
  return absl::NotFoundError(absl::StrFormat(
      "%s; PROGRAM is a path on this machine, such as /usr/bin/%s: PATH is not searched",
      std::string(status.message()), flags.program));
}

class AllowAll final : public AccessGate {
 public:
  absl::Status Check(const Access&) override { return absl::OkStatus(); }
  void RecordDenial(const Access&) override {}
};

/// Whether the provider refuses the program as such, whatever limits and grants it comes with.
bool RefusesProgram(Provider& provider, const Program& program) {
  AllowAll gate;
  InstanceSpec spec(program);
  spec.arguments = {program.name()};
  spec.gate = &gate;
  return absl::IsInvalidArgument(provider.Create(spec).status());
}

int ExitCodeForRun(const RunResult& result, const StopOnSignal& signals,
                   const OutputPassThrough& output) {
  if (result.outcome != Outcome::kStopped) return result.exit_code;
  if (signals.signal() != 0) return kExitSignal + signals.signal();
  return output.broken() ? kExitSignal + SIGPIPE : result.exit_code;
}

/// Whether more random numbers were refused than the few bytes that glibc asks for at its start, in
/// every program, and goes on without.
bool MissesRandom(const Denial& denial) {
  return denial.resource == Resource::kRandom && (denial.name != "getrandom" || denial.count > 1);
}

/// What the report knows to be missing and which grant would bring it; "" where it knows nothing.
/// A name is the program's own choice, so it reaches the terminal escaped.
std::string MissingGrants(const Report& report) {
  std::vector<std::string> missing;
  const auto add = [&](auto&& misses, std::string_view what, std::string_view grant) {
    const auto denial = std::ranges::find_if(report.denied, misses);
    if (denial != report.denied.end())
      missing.push_back(absl::StrFormat("%s (%s), which %s allows", what,
                                        absl::Utf8SafeCHexEscape(denial->name), grant));
  };
  add(MissesRandom, "random numbers", "--grant=random");
  add([](const Denial& denial) { return denial.resource == Resource::kClock; }, "the clock",
      "--grant=clock");
  add([](const Denial& denial) { return denial.resource == Resource::kFile && denial.write; },
      "changing a granted file", "--grant=files:HOST:GUEST:rw");
  return absl::StrJoin(missing, "; ");
}

/// Says on standard error what the exit code alone does not.
void Explain(const RunResult& result) {
  if (result.limit)
    absl::FPrintF(stderr, "waxvm: stopped at the %s limit\n", LimitName(*result.limit));
  if (result.fault)
    absl::FPrintF(stderr, "waxvm: %s: %s\n", FaultName(result.fault->kind), result.fault->detail);
  // A limit is reason enough of its own.
  const bool ended_badly = result.outcome == Outcome::kFault ||
                           (result.outcome == Outcome::kExited && result.exit_code != 0);
  if (!ended_badly) return;
  if (const std::string missing = MissingGrants(result.report); !missing.empty())
    absl::FPrintF(stderr, "waxvm: hint: the program was refused %s\n", missing);
}

RunOptions ToOptions(const RunFlags& flags, StopOnSignal& signals, OutputPassThrough& output) {
  RunOptions options;
  options.arguments = flags.arguments;
  options.argument_zero = flags.program;
  options.environment = flags.environment;
  options.limits = flags.limits;
  options.grants = flags.grants;
  options.input_fd = STDIN_FILENO;
  options.label = flags.program;
  options.stop = signals.source().get_token();
  options.output = [&output](Stream stream, std::string_view data) {
    return output.Write(stream, data);
  };
  return options;
}

int RunProgram(const std::shared_ptr<Provider>& provider, const Program& program,
               const RunFlags& flags, std::optional<ReportFile> report) {
  StopOnSignal signals;
  OutputPassThrough output(signals.source(), flags.limits.wall_time);
  const auto result = RunOnce(provider, program, ToOptions(flags, signals, output));
  if (!result.ok()) {
    const bool refused =
        absl::IsInvalidArgument(result.status()) && RefusesProgram(*provider, program);
    return Fail(refused ? kExitCannotRun : kExitFailed, result.status());
  }
  Explain(*result);
  if (report) {
    if (const absl::Status status = report->Commit(ReportToJson(*result) + "\n"); !status.ok())
      return Fail(kExitFailed, status);
  }
  return ExitCodeForRun(*result, signals, output);
}

absl::StatusOr<RootImage> OpenImage(const ImageFlag& flag) {
  switch (flag.kind) {
    case ImageFlag::Kind::kTar:
      return RootImage::FromTar(flag.path);
    case ImageFlag::Kind::kOci:
      return RootImage::FromOciLayout(flag.path, flag.reference);
    case ImageFlag::Kind::kErofs:
      return RootImage::FromErofs(flag.path);
  }
  return absl::InternalError("an image of no kind");
}

/// Adds the variables of the image that the command line does not set.
void AddEnvironment(const ImageConfig& config, RunFlags& flags) {
  std::vector<std::string> environment;
  for (const std::string& variable : config.environment) {
    const std::string name = variable.substr(0, variable.find('=')) + "=";
    const auto sets_it = [&](const std::string& given) { return given.starts_with(name); };
    if (std::none_of(flags.environment.begin(), flags.environment.end(), sets_it))
      environment.push_back(variable);
  }
  flags.environment.insert(flags.environment.begin(), environment.begin(), environment.end());
}

/// Grants the images, one on top of the other, and takes from them what the command line leaves
/// open: the program and variables of the environment.
absl::StatusOr<RootImage> UseImages(RunFlags& flags) {
  std::vector<RootImage> layers;
  for (const ImageFlag& flag : flags.images) {
    auto layer = OpenImage(flag);
    if (!layer.ok()) return layer.status();
    layers.push_back(*std::move(layer));
  }
  auto image = RootImage::Stack(layers);
  if (!image.ok()) return image.status();
  flags.grants.push_back(Image(*image));
  const ImageConfig& config = image->config();
  AddEnvironment(config, flags);
  if (!flags.program.empty()) return image;
  std::vector<std::string> command = config.entrypoint;
  command.insert(command.end(), config.command.begin(), config.command.end());
  if (command.empty())
    return absl::InvalidArgumentError(
        "the image does not say what to run; write waxvm run [flags] -- PROGRAM [arguments]");
  flags.program = command.front();
  flags.arguments.assign(command.begin() + 1, command.end());
  return image;
}

}  // namespace

int RunCommand(std::span<const std::string_view> arguments) {
  auto flags = ParseRunFlags(arguments);
  if (!flags.ok()) return Fail(kExitFailed, flags.status());
  if (flags->help) {
    absl::PrintF("waxvm run [flags] -- PROGRAM [arguments]\n\n%s", RunFlagsHelp());
    return kExitOk;
  }
  const auto provider = FindProvider(flags->provider);
  if (!provider.ok()) return Fail(kExitFailed, provider.status());
  std::optional<RootImage> image;
  if (!flags->images.empty()) {
    auto opened = UseImages(*flags);
    if (!opened.ok()) return Fail(kExitFailed, opened.status());
    image = *std::move(opened);
  }
  const auto program =
      image ? image->OpenProgram(flags->program) : Program::FromFile(flags->program);
  if (!program.ok())
    return Fail(ExitCodeForProgram(program.status()), Hint(program.status(), *flags));
  std::optional<ReportFile> report;
  if (!flags->report_path.empty()) {
    auto file = ReportFile::Open(flags->report_path);
    if (!file.ok()) return Fail(kExitFailed, file.status());
    report.emplace(*std::move(file));
  }
  return RunProgram(*provider, *program, *flags, std::move(report));
}

}  // namespace waxvm::cli
