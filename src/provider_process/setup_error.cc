// SPDX-License-Identifier: Apache-2.0
#include "src/provider_process/setup_error.h"

#include <array>
#include <cerrno>
#include <string_view>
#include <system_error>

#include "src/base/status.h"
#include "src/provider_process/proc_file.h"
#include "src/provider_process/sandbox.h"

namespace waxvm::process {
namespace {

constexpr std::array<std::string_view, WX_STEP_COUNT> kStepNames = {
    "starting",
    "placing the descriptors",
    "reading the configuration",
    "writing /proc/self/setgroups",
    "writing /proc/self/uid_map",
    "writing /proc/self/gid_map",
    "keeping capabilities in the user namespace",
    "starting the stage program",
    "joining the memory cgroup",
    "making the mounts private",
    "reading /proc/self/mountinfo",
    "opening the granted path",
    "comparing the granted path with what was checked",
    "looking at the file system of the granted path",
    "cloning the granted mount",
    "restricting the granted mount",
    "hiding kernel file systems below the granted folder",
    "attaching the grant",
    "mounting the in-memory root",
    "passing the devices",
    "changing the root",
    "setting the host name",
    "setting no_new_privs",
    "restricting paths with landlock",
    "starting the program's process",
    "setting the resource limits",
    "starting a session",
    "installing the seccomp filter",
    "handing over the seccomp listener",
    "executing the program",
};

std::string Reason(int error_number) { return std::generic_category().message(error_number); }

/// Whether kernel setting `path` holds the number `value`.
bool SettingIs(const char* path, std::string_view value) {
  const auto text = ReadFileAt(AT_FDCWD, path);
  return text && text->substr(0, text->find('\n')) == value;
}

std::string_view NamespaceRemedy(int error_number) {
  if (SettingIs("/proc/sys/user/max_user_namespaces", "0")) {
    return "user namespaces are switched off: sysctl -w user.max_user_namespaces=10000";
  }
  if (SettingIs("/proc/sys/kernel/unprivileged_userns_clone", "0")) {
    return "user namespaces are kept from ordinary users: sysctl -w "
           "kernel.unprivileged_userns_clone=1";
  }
  if (SettingIs("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1")) {
    return "AppArmor restricts user namespaces: give the program a profile with 'userns,', or "
           "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0";
  }
  switch (error_number) {
    case ENOSYS:
      return "clone3 is missing: Linux 5.5 or later is needed, or the surrounding container's "
             "seccomp profile must allow clone3";
    case EPERM:
    case EACCES:
      return "a surrounding container or security module forbids it: allow user namespaces and "
             "mounts there (Docker: --security-opt seccomp=unconfined, and apparmor=unconfined)";
    case ENOSPC:
    case EUSERS:
      return "too many namespaces exist or nest: raise user.max_*_namespaces";
    case EINVAL:
      return "the kernel lacks one of the user, mount, pid, net, ipc, uts and cgroup namespaces: "
             "use a kernel with CONFIG_NAMESPACES and all kinds below it";
    default:
      return "look at the limits of this host";
  }
}

absl::Status GrantError(unsigned step, int error_number, const std::string& grant) {
  switch (step) {
    case WX_STEP_GRANT_CHANGED:
      return FailedPrecondition("%s: the path no longer leads to what was granted", grant);
    case WX_STEP_GRANT_TYPE:
      return InvalidArgument(
          "%s: it is on a kernel file system (proc, sysfs, devtmpfs or the like), which is never "
          "passed on",
          grant);
    case WX_STEP_GRANT_ATTACH:
      return InvalidArgument("%s: its place inside the instance cannot be made: %s", grant,
                             Reason(error_number));
    default:
      return Annotate(ErrnoStatus(error_number, kStepNames[step]), grant);
  }
}

}  // namespace

absl::Status CloneError(int error_number) {
  if (error_number == EAGAIN || error_number == ENOMEM) {
    return ErrnoStatus(error_number, "making a process in new namespaces");
  }
  return Unavailable("making a process in new namespaces: %s; %s", Reason(error_number),
                     NamespaceRemedy(error_number));
}

absl::Status StepError(unsigned step, int error_number, const std::string& grant) {
  if (step >= kStepNames.size()) return Internal("unknown set-up step %d", step);
  if (step >= WX_STEP_GRANT_OPEN && step <= WX_STEP_GRANT_ATTACH) {
    return GrantError(step, error_number, grant);
  }
  const std::string what = absl::StrFormat("process sandbox, %s", kStepNames[step]);
  switch (error_number) {
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case EAGAIN:
    case ENOSPC:
      return ErrnoStatus(error_number, what);
    default:
      break;
  }
  if (step == WX_STEP_SECCOMP || step == WX_STEP_LANDLOCK) {
    return Unavailable(
        "%s: %s; the kernel must allow it (CONFIG_SECCOMP_FILTER, Linux 5.5 or later)", what,
        Reason(error_number));
  }
  return Unavailable("%s: %s; %s", what, Reason(error_number), NamespaceRemedy(error_number));
}

}  // namespace waxvm::process
