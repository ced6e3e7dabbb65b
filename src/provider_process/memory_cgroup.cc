// SPDX-License-Identifier: Apache-2.0
#include "src/provider_process/memory_cgroup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "src/base/status.h"
#include "src/provider_process/proc_file.h"

namespace waxvm::process {
namespace {

struct Membership {
  bool v2 = false;
  std::string path;
};

bool HasWord(absl::string_view list, absl::string_view word, char separator) {
  for (const absl::string_view item : absl::StrSplit(list, separator)) {
    if (item == word) return true;
  }
  return false;
}

/// Lines are "id:controllers:path"; v2 is "0::path". v1's memory controller wins where it exists.
std::optional<Membership> FindMembership(std::string_view cgroups) {
  std::optional<Membership> found;
  for (const absl::string_view line : absl::StrSplit(ToAbsl(cgroups), '\n')) {
    const std::vector<absl::string_view> part = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (part.size() != 3) continue;
    if (HasWord(part[1], "memory", ',')) return Membership{false, std::string(part[2])};
    if (part[0] == "0" && part[1].empty()) found = Membership{true, std::string(part[2])};
  }
  return found;
}

/// The folder that shows `membership`, given what part of the hierarchy is mounted.
std::optional<std::string> MountedPath(const Membership& membership, absl::string_view line) {
  const std::size_t dash = line.find(" - ");
  if (dash == absl::string_view::npos) return std::nullopt;
  const std::vector<absl::string_view> head = absl::StrSplit(line.substr(0, dash), ' ');
  const std::vector<absl::string_view> tail = absl::StrSplit(line.substr(dash + 3), ' ');
  if (head.size() < 5 || tail.size() < 3) return std::nullopt;
  if (tail[0] != (membership.v2 ? "cgroup2" : "cgroup")) return std::nullopt;
  if (!membership.v2 && !HasWord(tail[2], "memory", ',')) return std::nullopt;
  const absl::string_view root = head[3] == "/" ? absl::string_view() : head[3];
  absl::string_view below = membership.path;
  if (!absl::StartsWith(below, root)) return std::nullopt;
  below.remove_prefix(root.size());
  return absl::StrFormat("%s%s", head[4], below == "/" ? absl::string_view() : below);
}

bool WriteAt(int folder, const char* name, std::string_view text) {
  const UniqueFd file(openat(folder, name, O_WRONLY | O_CLOEXEC));
  return file && write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

std::optional<std::uint64_t> ReadNumber(int folder, const char* name) {
  const std::optional<std::string> text = ReadFileAt(folder, name);
  std::uint64_t value = 0;
  if (!text ||
      std::from_chars(text->data(), text->data() + text->size(), value).ec != std::errc()) {
    return std::nullopt;
  }
  return value;
}

/// The number after "<key> " at the start of a line; 0 where there is none.
std::uint64_t ReadKey(int folder, const char* name, std::string_view key) {
  const std::optional<std::string> text = ReadFileAt(folder, name);
  if (!text) return 0;
  for (const absl::string_view line : absl::StrSplit(*text, '\n')) {
    if (!absl::StartsWith(line, ToAbsl(key)) || line.size() <= key.size() + 1) continue;
    if (line[key.size()] != ' ') continue;
    std::uint64_t value = 0;
    std::from_chars(line.data() + key.size() + 1, line.data() + line.size(), value);
    return value;
  }
  return 0;
}

/// Makes a folder with the first free name.
absl::StatusOr<std::string> MakeFolder(const std::string& parent) {
  constexpr int kMaxNames = 1 << 20;
  for (int number = 0; number < kMaxNames; ++number) {
    std::string path = absl::StrFormat("%s/waxvm-%d-%d", parent, getpid(), number);
    if (mkdir(path.c_str(), 0755) == 0) return path;
    if (errno != EEXIST) return ErrnoStatus(errno, "mkdir " + path);
  }
  return absl::ResourceExhaustedError("no free name for a cgroup below " + parent);
}

}  // namespace

std::optional<CgroupParent> FindMemoryCgroupParent(std::string_view cgroups,
                                                   std::string_view mount_info) {
  const std::optional<Membership> membership = FindMembership(cgroups);
  if (!membership) return std::nullopt;
  for (const absl::string_view line : absl::StrSplit(ToAbsl(mount_info), '\n')) {
    std::optional<std::string> path = MountedPath(*membership, line);
    if (!path) continue;
    if (membership->v2 && membership->path != "/") path->resize(path->rfind('/'));
    return CgroupParent{*std::move(path), membership->v2};
  }
  return std::nullopt;
}

std::optional<CgroupParent> ProbeMemoryCgroups() {
  const std::optional<std::string> cgroups = ReadFileAt(AT_FDCWD, "/proc/self/cgroup");
  const std::optional<std::string> mounts = ReadFileAt(AT_FDCWD, "/proc/self/mountinfo");
  if (!cgroups || !mounts) return std::nullopt;
  std::optional<CgroupParent> parent = FindMemoryCgroupParent(*cgroups, *mounts);
  constexpr std::uint64_t kProbeBytes = 64 << 20;
  if (parent && !MemoryCgroup::Create(*parent, kProbeBytes).ok()) parent.reset();
  return parent;
}

absl::StatusOr<MemoryCgroup> MemoryCgroup::Create(const CgroupParent& parent,
                                                  std::uint64_t limit_bytes) {
  WAXVM_ASSIGN_OR_RETURN(const std::string path, MakeFolder(parent.path));
  MemoryCgroup group(path, parent.v2);
  group.folder_.reset(open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  const int folder = group.folder_.get();
  const std::string limit = std::to_string(limit_bytes);
  if (!WriteAt(folder, parent.v2 ? "memory.max" : "memory.limit_in_bytes", limit)) {
    return ErrnoStatus(errno, "setting the memory limit of " + path);
  }
  // Swap would let the program hold more than its limit. Hosts without swap accounting lack these.
  if (parent.v2) {
    WriteAt(folder, "memory.swap.max", "0");
    WriteAt(folder, "memory.oom.group", "1");
  } else {
    WriteAt(folder, "memory.memsw.limit_in_bytes", limit);
  }
  group.processes_.reset(openat(folder, "cgroup.procs", O_WRONLY | O_CLOEXEC));
  if (!group.processes_) return ErrnoStatus(errno, "opening cgroup.procs of " + path);
  return group;
}

MemoryCgroup::MemoryCgroup(MemoryCgroup&& other) noexcept
    : path_(std::exchange(other.path_, {})),
      v2_(other.v2_),
      folder_(std::move(other.folder_)),
      processes_(std::move(other.processes_)) {}

MemoryCgroup::~MemoryCgroup() {
  if (path_.empty()) return;
  // A process that was reaped may still be on its way out of its cgroup.
  for (int attempt = 0; rmdir(path_.c_str()) != 0 && errno == EBUSY && attempt < 1000; ++attempt) {
    usleep(1000);
  }
}

bool MemoryCgroup::Exhausted() const {
  const char* file = v2_ ? "memory.events" : "memory.oom_control";
  return ReadKey(folder_.get(), file, "oom_kill") != 0;
}

std::optional<std::uint64_t> MemoryCgroup::PeakBytes() const {
  return ReadNumber(folder_.get(), v2_ ? "memory.peak" : "memory.max_usage_in_bytes");
}

}  // namespace waxvm::process
