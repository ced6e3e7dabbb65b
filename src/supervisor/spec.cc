// SPDX-License-Identifier: Apache-2.0
#include "src/supervisor/spec.h"

#include <algorithm>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/sealed_file.h"
#include "src/base/status.h"
#include "src/supervisor/instance_identity.h"

namespace waxvm {
namespace {

/// A zero byte would silently cut a string on its way to the program.
absl::Status CheckStrings(std::string_view what, const std::vector<std::string>& strings) {
  for (std::size_t i = 0; i < strings.size(); ++i) {
    if (strings[i].find('\0') != std::string::npos)
      return InvalidArgument("%s %d contains a zero byte", what, i);
  }
  return absl::OkStatus();
}

absl::Status CheckEnvironment(const std::vector<std::string>& environment) {
  WAXVM_RETURN_IF_ERROR(CheckStrings("environment string", environment));
  for (const std::string& entry : environment) {
    if (entry.find('=') == std::string::npos || entry.front() == '=')
      return InvalidArgument("environment string \"%s\" is not of the form NAME=value", entry);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<GrantSet> GrantsOf(const RunOptions& options) {
  WAXVM_ASSIGN_OR_RETURN(GrantSet grants, OpenGrants(options.grants));
  if (options.identity) WAXVM_RETURN_IF_ERROR(GrantIdentity(*options.identity, grants));
  return grants;
}

absl::StatusOr<InstanceSpec> MakeSpec(const Program& program, const RunOptions& options,
                                      const GrantSet& grants, const ProviderInfo& info,
                                      UniqueFd& input) {
  InstanceSpec spec(program);
  spec.arguments.push_back(options.argument_zero.empty() ? program.name() : options.argument_zero);
  std::ranges::copy(options.arguments, std::back_inserter(spec.arguments));
  WAXVM_RETURN_IF_ERROR(CheckStrings("argument", spec.arguments));
  spec.environment = options.environment;
  WAXVM_RETURN_IF_ERROR(CheckEnvironment(spec.environment));

  spec.clock = grants.clock;
  spec.random = grants.random;
  spec.host_clock = grants.host_clock;
  spec.host_random = grants.host_random;
  spec.mounts = grants.mounts;
  spec.root_image = grants.root_image;
  spec.host_functions_granted = !grants.functions.empty() || !grants.own_functions.empty();

  spec.limits = options.limits;
  if (!options.output && !spec.limits.output_bytes &&
      std::ranges::count(info.enforceable_limits, LimitKind::kOutput) != 0)
    spec.limits.output_bytes = kDefaultCollectedBytes;

  spec.input_fd = options.input_fd;
  if (spec.input_fd < 0 && !options.input.empty()) {
    WAXVM_ASSIGN_OR_RETURN(input, NewSealedFile("waxvm-input", Executable::kNo,
                                                std::as_bytes(std::span(options.input))));
    spec.input_fd = input.get();
  }
  return spec;
}

}  // namespace waxvm
