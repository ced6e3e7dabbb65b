// SPDX-License-Identifier: Apache-2.0
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "src/base/status.h"
#include "src/base/strings.h"
#include "src/image/program_rep.h"
#include "src/isolation/limits_check.h"
#include "src/provider_process/launch.h"
#include "src/provider_process/memory_cgroup.h"
#include "src/provider_process/process_instance.h"
#include "src/provider_process/syscall_policy.h"
#include "waxvm/providers.h"

namespace waxvm {
namespace {

using process::HostFacts;
using process::LaunchRequest;
using process::PolicyOptions;
using process::ProcessInstance;

constexpr std::uint64_t kDefaultOpenFiles = 1024;
constexpr std::uint64_t kDefaultProcesses = 256;

using Filter = std::shared_ptr<const std::vector<sock_filter>>;

/// Thread safety: as Provider; one mutex guards what is filled in late.
class ProcessProvider final : public Provider {
 public:
  ProviderInfo info() const override;
  absl::Status Available() const override;
  absl::StatusOr<std::unique_ptr<Instance>> Create(const InstanceSpec& spec) override;

 private:
  absl::Status Probe() const;
  absl::StatusOr<Filter> FilterFor(const PolicyOptions& options) const;
  std::optional<process::CgroupParent> CgroupParent() const;
  std::vector<LimitKind> EnforceableLimits() const;

  mutable std::mutex mutex_;
  mutable std::optional<absl::Status> available_;
  mutable HostFacts host_;  ///< set once, before available_ becomes OK
  mutable std::map<int, Filter> filters_;
  mutable bool cgroups_probed_ = false;
  mutable std::optional<process::CgroupParent> cgroup_parent_;
};

/// Limits of the kernel's own, per process. Only ever lowered: an ordinary user cannot do more.
class ResourceLimits {
 public:
  void Add(int resource, std::uint64_t value) {
    rlimit now{};
    if (getrlimit(static_cast<__rlimit_resource>(resource), &now) == 0) {
      value = std::min<std::uint64_t>(value, now.rlim_max);
    }
    limits_.push_back(wx_rlimit{static_cast<std::uint32_t>(resource), 0, value});
  }
  std::vector<wx_rlimit> Take() { return std::move(limits_); }

 private:
  std::vector<wx_rlimit> limits_;
};

std::vector<wx_rlimit> ResourceLimitsFor(const Limits& limits, bool sampled_memory, bool native) {
  constexpr std::uint64_t kStackBytes = 8 << 20;
  ResourceLimits out;
  // Numbers stay below the limit; the channel for host calls sits on one of them.
  const std::uint64_t files = *limits.open_files;
  out.Add(RLIMIT_NOFILE, files > WX_FD_HOST_CALL ? files + 1 : files);
  out.Add(RLIMIT_CORE, 0);
  out.Add(RLIMIT_MSGQUEUE, 0);
  out.Add(RLIMIT_RTPRIO, 0);
  out.Add(RLIMIT_NICE, 0);
  if (!native) out.Add(RLIMIT_STACK, kStackBytes);
  if (geteuid() != 0) out.Add(RLIMIT_NPROC, *limits.processes + 1);
  if (limits.cpu_time) {
    // Behind the sampling: holds also while the embedder is busy with a host call.
    const auto seconds = std::chrono::ceil<std::chrono::seconds>(*limits.cpu_time).count();
    out.Add(RLIMIT_CPU, static_cast<std::uint64_t>(seconds) + 1);
  }
  if (limits.memory_bytes && sampled_memory && !native) {
    // A process that allocates faster than it is looked at.
    out.Add(RLIMIT_DATA, *limits.memory_bytes + *limits.memory_bytes / 5);
    out.Add(RLIMIT_MEMLOCK, *limits.memory_bytes);
  }
  return out.Take();
}

absl::Status CheckSpec(const InstanceSpec& spec) {
  if (spec.clock != nullptr && !spec.host_clock) {
    return InvalidArgument("clock: the process provider cannot inject a clock source");
  }
  if (spec.random != nullptr && !spec.host_random) {
    return InvalidArgument("random: the process provider cannot inject a source of randomness");
  }
  if (spec.root_image) {
    return InvalidArgument(
        "image: the process provider has no root images; use the microvm provider");
  }
  const auto has_nul = [](const std::string& s) { return s.find('\0') != std::string::npos; };
  if (std::any_of(spec.arguments.begin(), spec.arguments.end(), has_nul) ||
      std::any_of(spec.environment.begin(), spec.environment.end(), has_nul)) {
    return InvalidArgument("arguments and environment cannot hold a zero byte");
  }
  if (spec.limits.processes && *spec.limits.processes == 0) {
    return InvalidArgument("the limit `processes` is 0, which leaves no room for the program");
  }
  return absl::OkStatus();
}

/// Whether a walk along `path` from the root enters a granted folder, or is a granted file. The
/// private root around them holds no links, so that the walk is that of the words.
bool EntersGrant(const std::vector<FileMount>& mounts, std::string_view path) {
  const auto is_place = [&](const std::string& place) {
    return std::any_of(mounts.begin(), mounts.end(),
                       [&](const FileMount& mount) { return mount.guest_path == place; });
  };
  if (is_place("/")) return true;
  std::string at;
  for (const absl::string_view part : absl::StrSplit(ToAbsl(path), '/', absl::SkipEmpty())) {
    if (part == "..") {
      at.resize(at.empty() ? 0 : at.rfind('/'));
    } else if (part != ".") {
      absl::StrAppend(&at, "/", part);
    }
    if (is_place(at)) return true;
  }
  return false;
}

absl::Status CheckInterpreter(const InstanceSpec& spec) {
  if (spec.program.kind() == Program::Kind::kNative) return absl::OkStatus();
  const internal::ProgramRep& program = spec.program.rep();
  const std::optional<std::string>& interpreter = program.elf().interpreter;
  if (!interpreter || EntersGrant(spec.mounts, *interpreter)) return absl::OkStatus();
  return InvalidArgument(
      "%s is dynamically linked (it asks for %s), which is in no granted folder; grant the folders "
      "it needs, or link it statically",
      program.name(), *interpreter);
}

/// `spec` without the grants that its gate refuses. What is inside cannot be asked for one by one:
/// the host's kernel serves it.
InstanceSpec WithoutRefusedGrants(InstanceSpec spec) {
  if (spec.gate == nullptr) return spec;
  const auto passes = [&](const FileMount& mount, bool write) {
    return spec.gate->Check({Resource::kFile, mount.guest_path, write}).ok();
  };
  std::vector<FileMount> mounts;
  for (FileMount& mount : spec.mounts) {
    const bool writable = mount.rights == Rights::kReadWrite && passes(mount, true);
    mount.rights = writable ? Rights::kReadWrite : Rights::kReadOnly;
    if (writable || passes(mount, false)) mounts.push_back(std::move(mount));
  }
  spec.mounts = std::move(mounts);
  if (spec.random != nullptr && !spec.gate->Check({Resource::kRandom, "random"}).ok()) {
    spec.random = nullptr;
    spec.host_random = false;
  }
  return spec;
}

absl::StatusOr<Filter> ProcessProvider::FilterFor(const PolicyOptions& options) const {
  const std::lock_guard lock(mutex_);
  Filter& filter = filters_[options.Key()];
  if (filter == nullptr) {
    WAXVM_ASSIGN_OR_RETURN(auto code, process::BuildFilter(options));
    filter = std::make_shared<const std::vector<sock_filter>>(std::move(code));
  }
  return filter;
}

absl::Status ProcessProvider::Probe() const {
  WAXVM_ASSIGN_OR_RETURN(HostFacts host, process::ProbeHost());
  const PolicyOptions policy{.notify = host.notifications};
  WAXVM_ASSIGN_OR_RETURN(const auto code, process::BuildFilter(policy));
  LaunchRequest request;
  request.host = &host;
  request.filter = &code;
  const auto sandbox = process::Launch(request);
  if (!sandbox.ok()) {
    return Annotate(sandbox.status(), "the process provider does not work here");
  }
  host_ = std::move(host);
  return absl::OkStatus();
}

absl::Status ProcessProvider::Available() const {
  const std::lock_guard lock(mutex_);
  if (!available_) {
    absl::Status status = Probe();
    // A host that is short of something now may have it later.
    if (status.code() == absl::StatusCode::kResourceExhausted) return status;
    available_ = std::move(status);
  }
  return *available_;
}

std::optional<process::CgroupParent> ProcessProvider::CgroupParent() const {
  const std::lock_guard lock(mutex_);
  if (!cgroups_probed_) cgroup_parent_ = process::ProbeMemoryCgroups();
  cgroups_probed_ = true;
  return cgroup_parent_;
}

std::vector<LimitKind> ProcessProvider::EnforceableLimits() const {
  std::vector<LimitKind> limits = {LimitKind::kMemory,    LimitKind::kWallTime,
                                   LimitKind::kCpuTime,   LimitKind::kOutput,
                                   LimitKind::kOpenFiles, LimitKind::kHostCalls};
  // The listener bounds processes for everybody; without it (before Linux 5.5) the kernel's own
  // limit does, from which the root user is exempt.
  if (host_.notifications || geteuid() != 0) limits.push_back(LimitKind::kProcesses);
  return limits;
}

absl::StatusOr<std::unique_ptr<Instance>> ProcessProvider::Create(const InstanceSpec& asked) {
  WAXVM_RETURN_IF_ERROR(Available());
  WAXVM_RETURN_IF_ERROR(CheckLimits("process", asked.limits, EnforceableLimits()));
  WAXVM_RETURN_IF_ERROR(CheckSpec(asked));
  const InstanceSpec spec = WithoutRefusedGrants(asked);
  WAXVM_RETURN_IF_ERROR(CheckInterpreter(spec));
  ProcessInstance::Parts parts;
  parts.limits = spec.limits;
  if (!parts.limits.processes) parts.limits.processes = kDefaultProcesses;
  if (!parts.limits.open_files) parts.limits.open_files = kDefaultOpenFiles;

  LaunchRequest request;
  if (spec.limits.memory_bytes) {
    request.root_bytes = *spec.limits.memory_bytes;
    if (const auto parent = CgroupParent()) {
      auto group = process::MemoryCgroup::Create(*parent, *spec.limits.memory_bytes);
      if (!group.ok()) return group.status();
      parts.cgroup.emplace(*std::move(group));
      request.cgroup = parts.cgroup->processes();
    }
  }
  const bool sampled = spec.limits.memory_bytes && !parts.cgroup;
  parts.policy = {.random = spec.random != nullptr,
                  .deny_memory_files = sampled,
                  .announce_opens = host_.notifications && spec.limits.open_files.has_value(),
                  .notify = host_.notifications};
  WAXVM_ASSIGN_OR_RETURN(const Filter filter, FilterFor(parts.policy));
  parts.stop = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!parts.stop) return ErrnoStatus(errno, "eventfd");
  request.root_wanted = sampled;
  request.spec = &spec;
  request.host = &host_;
  request.filter = filter.get();
  Limits bounded = parts.limits;
  // What the kernel enforces could not be raised again for an embedder without privileges.
  if (spec.for_calls) bounded.cpu_time.reset();
  request.rlimits =
      ResourceLimitsFor(bounded, sampled, spec.program.kind() == Program::Kind::kNative);
  auto sandbox = process::Launch(request);
  if (!sandbox.ok() && parts.cgroup && parts.cgroup->Exhausted()) {
    return InvalidArgument("the limit `memory` of %d bytes is less than an empty process needs",
                           *spec.limits.memory_bytes);
  }
  if (!sandbox.ok()) return sandbox.status();
  return std::make_unique<ProcessInstance>(spec, *std::move(sandbox), std::move(parts));
}

std::string Mechanism(const HostFacts& host) {
  std::string text =
      "a child process in its own user, mount, pid, net, ipc, uts and cgroup namespaces, without "
      "capabilities, with no_new_privs, resource limits and a seccomp allow-list";
  if (host.notifications) text += " whose refusals are counted";
  if (host.landlock_abi != 0) {
    text += absl::StrFormat(", and landlock (ABI %d)", host.landlock_abi);
  }
  return text;
}

ProviderInfo ProcessProvider::info() const {
  const bool available = Available().ok();
  ProviderInfo info;
  info.name = "process";
  info.isolation = IsolationClass::kProcess;
  info.mechanism = available ? Mechanism(host_) : "a child process in its own namespaces";
  info.protects_against = {
      "reading or changing files, processes, sockets and settings of the host",
      "network access of any kind",
      "gaining privileges by setuid programs or user namespaces",
      "exhausting the host's memory, processors, processes or the embedder's output",
      "outliving the embedder",
  };
  info.does_not_protect_against = {
      "flaws of the host's kernel in the system calls that are let through",
      "side channels of processor, caches and memory shared with the host",
      "learning the kernel's version, the processor's type and the load of the machine",
      "FIFOs inside granted folders, which can be opened like files",
      "use of the embedder's supplementary groups in granted folders",
      "native functions reading the embedder's memory as it was at the start: it is a copy of it",
  };
  info.ambient = {"clock", "rdtsc", "rdrand", "fifo", "sysinfo", "uname"};
  info.enforceable_limits = EnforceableLimits();
  return info;
}

}  // namespace

std::shared_ptr<Provider> NewProcessProvider(ProcessOptions) {
  return std::make_shared<ProcessProvider>();
}

}  // namespace waxvm
