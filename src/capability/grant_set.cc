// SPDX-License-Identifier: Apache-2.0
#include "src/capability/grant_set.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/escaping.h"
#include "src/base/status.h"
#include "src/capability/file_grant.h"
#include "src/capability/host_sources.h"
#include "waxvm/abi/host_call.h"

namespace waxvm {
namespace {

// What the library itself answers; docs/formats/call.md.
constexpr std::string_view kReservedPrefix = "waxvm.";

/// True when `path` is `folder` or lies below it. Both are absolute and normalised.
bool Contains(std::string_view folder, std::string_view path) {
  if (folder == "/") return path.starts_with('/');
  return path.starts_with(folder) && (path.size() == folder.size() || path[folder.size()] == '/');
}

/// Adds one grant after the other to a GrantSet.
struct Opener {
  GrantSet& set;

  absl::Status operator()(const ClockGrant& grant) {
    if (set.clock) return InvalidArgument("the clock is granted twice");
    set.host_clock = grant.source == nullptr;
    set.clock = set.host_clock ? NewHostClock() : grant.source;
    return absl::OkStatus();
  }

  absl::Status operator()(const RandomGrant& grant) {
    if (set.random) return InvalidArgument("randomness is granted twice");
    set.host_random = grant.source == nullptr;
    set.random = grant.source;
    if (set.host_random) {
      WAXVM_ASSIGN_OR_RETURN(set.random, NewHostRandom());
    }
    return absl::OkStatus();
  }

  absl::Status operator()(const FilesGrant& grant) {
    const auto same_path = [&](const FileMount& m) { return m.guest_path == grant.guest_path; };
    if (std::ranges::any_of(set.mounts, same_path))
      return InvalidArgument("files grant: the guest path \"%s\" is granted twice",
                             grant.guest_path);
    WAXVM_ASSIGN_OR_RETURN(FileMount mount, OpenFileGrant(grant));
    set.mounts.push_back(std::move(mount));
    return absl::OkStatus();
  }

  absl::Status operator()(const ImageGrant& grant) {
    if (set.root_image)
      return InvalidArgument("a root image is granted twice; put them together with Stack");
    set.root_image = grant.image;
    return absl::OkStatus();
  }

  absl::Status operator()(const FunctionGrant& grant) {
    if (grant.name.empty() || grant.name.size() > WAXVM_HOST_CALL_MAX_NAME)
      return InvalidArgument("the name of a host function has %d bytes, must be 1 to %d",
                             grant.name.size(), WAXVM_HOST_CALL_MAX_NAME);
    const std::string shown = absl::Utf8SafeCHexEscape(grant.name);
    if (grant.name.starts_with(kReservedPrefix))
      return InvalidArgument("the host function \"%s\": names that begin with %s are waxvm's own",
                             shown, kReservedPrefix);
    if (!grant.function) return InvalidArgument("the host function \"%s\" is empty", shown);
    if (!set.functions.emplace(grant.name, grant.function).second)
      return InvalidArgument("the host function \"%s\" is granted twice", shown);
    return absl::OkStatus();
  }
};

}  // namespace

bool GrantSet::Allows(const Access& access) const {
  switch (access.resource) {
    case Resource::kClock:
      return clock != nullptr;
    case Resource::kRandom:
      return random != nullptr;
    case Resource::kHostFunction:
      return functions.contains(access.name) || own_functions.contains(access.name);
    case Resource::kFile: {
      // A "/data/../etc" would pass for something below "/data".
      if (!CheckGuestPath(access.name).ok()) return false;
      const FileMount* closest = nullptr;
      for (const FileMount& mount : mounts) {
        if (Contains(mount.guest_path, access.name) &&
            (closest == nullptr || mount.guest_path.size() > closest->guest_path.size()))
          closest = &mount;
      }
      return closest != nullptr && (!access.write || closest->rights == Rights::kReadWrite);
    }
    case Resource::kSystemCall:
    case Resource::kLimit:
      return false;
  }
  return false;
}

absl::StatusOr<GrantSet> OpenGrants(std::span<const Grant> grants) {
  GrantSet set;
  for (const Grant& grant : grants) WAXVM_RETURN_IF_ERROR(std::visit(Opener{set}, grant));
  const auto is_root = [](const FileMount& mount) { return mount.guest_path == "/"; };
  if (set.root_image && std::ranges::any_of(set.mounts, is_root))
    return InvalidArgument("both a root image and files are granted at \"/\"");
  return set;
}

}  // namespace waxvm
