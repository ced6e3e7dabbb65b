// SPDX-License-Identifier: Apache-2.0
#include "prepare.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "commands.h"

namespace waxvm::cli {
namespace {

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

int Fail(int exit_code, const absl::Status& status) {
  absl::FPrintF(stderr, "waxvm: %s\n", std::string(status.message()));
  return exit_code;
}

bool RefusesProgram(Provider& provider, const Program& program) {
  AllowAll gate;
  InstanceSpec spec(program);
  spec.arguments = {program.name()};
  spec.gate = &gate;
  return absl::IsInvalidArgument(provider.Create(spec).status());
}

std::variant<Prepared, int> PrepareProgram(RunFlags& flags) {
  auto provider = FindProvider(flags.provider);
  if (!provider.ok()) return Fail(kExitFailed, provider.status());
  std::optional<RootImage> image;
  if (!flags.images.empty()) {
    auto opened = UseImages(flags);
    if (!opened.ok()) return Fail(kExitFailed, opened.status());
    image = *std::move(opened);
  }
  auto program = image ? image->OpenProgram(flags.program) : Program::FromFile(flags.program);
  if (!program.ok())
    return Fail(ExitCodeForProgram(program.status()), Hint(program.status(), flags));
  return Prepared{*std::move(provider), *std::move(program)};
}

}  // namespace waxvm::cli
