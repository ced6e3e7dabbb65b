// SPDX-License-Identifier: Apache-2.0
#include "src/provider_process/process_tree.h"

#include <dirent.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_format.h"
#include "src/provider_process/proc_file.h"

namespace waxvm::process {
namespace {

// The kernel's numbering of per-process CPU clocks, as used by clock_getcpuclockid().
clockid_t CpuClockOf(pid_t pid) {
  return static_cast<clockid_t>((~static_cast<unsigned>(pid)) << 3 | 2);
}

// More than any processes limit; bounds the work that a guest can cause by a sample.
constexpr std::size_t kMaxProcesses = 65536;

struct Stat {
  std::uint64_t children_ticks = 0;
  std::uint64_t threads = 0;
  std::uint64_t resident_pages = 0;
};

/// Fields of /proc/<pid>/stat after the name, which may hold anything but a ')' after its last one.
std::optional<Stat> ReadStat(pid_t pid) {
  const auto text = ReadFileAt(AT_FDCWD, absl::StrFormat("/proc/%d/stat", pid).c_str());
  if (!text) return std::nullopt;
  const std::size_t name_end = text->rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::array<std::uint64_t, 53> field{};
  const char* at = text->data() + name_end + 1;
  const char* const end = text->data() + text->size();
  for (std::size_t number = 3; number < field.size() && at < end; ++number) {
    while (at < end && *at == ' ') ++at;
    std::from_chars(at, end, field[number]);
    while (at < end && *at != ' ') ++at;
  }
  constexpr std::size_t kChildUser = 16, kChildSystem = 17, kThreads = 20, kResident = 24;
  return Stat{field[kChildUser] + field[kChildSystem], field[kThreads], field[kResident]};
}

void AppendChildren(const std::string& list, std::vector<pid_t>& out) {
  const char* at = list.data();
  const char* const end = at + list.size();
  while (at < end) {
    pid_t pid = 0;
    const auto [next, error] = std::from_chars(at, end, pid);
    if (error != std::errc()) return;
    out.push_back(pid);
    at = next + 1;
  }
}

/// Children are listed under the thread that made them.
bool ListChildren(pid_t pid, std::vector<pid_t>& out) {
  const std::string folder = absl::StrFormat("/proc/%d/task", pid);
  const std::unique_ptr<DIR, int (*)(DIR*)> threads(opendir(folder.c_str()), &closedir);
  if (threads == nullptr) return false;
  while (const dirent* entry = readdir(threads.get())) {
    if (entry->d_name[0] == '.') continue;
    const std::string path =
        absl::StrFormat("%s/children", static_cast<const char*>(entry->d_name));
    if (const auto list = ReadFileAt(dirfd(threads.get()), path.c_str()))
      AppendChildren(*list, out);
  }
  return true;
}

std::optional<std::uint64_t> CountEntries(const std::string& folder) {
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(opendir(folder.c_str()), &closedir);
  if (entries == nullptr) return std::nullopt;
  std::uint64_t count = 0;
  while (const dirent* entry = readdir(entries.get())) count += entry->d_name[0] != '.';
  return count;
}

std::chrono::nanoseconds FromTicks(std::uint64_t ticks) {
  const auto per_second = static_cast<std::uint64_t>(sysconf(_SC_CLK_TCK));
  return std::chrono::nanoseconds(ticks * (1'000'000'000 / per_second));
}

}  // namespace

std::chrono::nanoseconds ProcessCpuTime(pid_t pid) {
  timespec time{};
  if (clock_gettime(CpuClockOf(pid), &time) != 0) return {};
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

std::optional<std::uint64_t> PeakOfOnlyChild(pid_t init) {
  std::vector<pid_t> processes;
  if (!ListChildren(init, processes) || processes.size() != 1) return std::nullopt;
  const auto text = ReadFileAt(AT_FDCWD, absl::StrFormat("/proc/%d/status", processes[0]).c_str());
  constexpr std::string_view kKey = "VmHWM:";
  const std::size_t at = text ? text->find(kKey) : std::string::npos;
  if (at == std::string::npos) return std::nullopt;
  const std::size_t digits = text->find_first_of("0123456789", at);
  std::uint64_t kibibytes = 0;
  if (digits == std::string::npos) return std::nullopt;
  std::from_chars(text->data() + digits, text->data() + text->size(), kibibytes);
  return kibibytes * 1024;
}

std::optional<TreeSample> SampleTree(pid_t init) {
  static const auto page_bytes = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  TreeSample sample;
  std::vector<pid_t> processes;
  if (!ListChildren(init, processes)) return std::nullopt;
  if (const auto stat = ReadStat(init)) sample.cpu_time += FromTicks(stat->children_ticks);
  for (std::size_t i = 0; i < processes.size() && i < kMaxProcesses; ++i) {
    const pid_t pid = processes[i];
    const auto stat = ReadStat(pid);
    if (!stat) continue;
    sample.cpu_time += ProcessCpuTime(pid) + FromTicks(stat->children_ticks);
    sample.resident_bytes += stat->resident_pages * page_bytes;
    sample.tasks += stat->threads;
    ListChildren(pid, processes);
  }
  return sample;
}

std::optional<std::uint64_t> CountDescriptors(pid_t pid) {
  struct stat about {};
  const std::string path = absl::StrFormat("/proc/%d/fd", pid);
  if (stat(path.c_str(), &about) != 0) return std::nullopt;
  if (about.st_size > 0) return static_cast<std::uint64_t>(about.st_size);
  // Before Linux 6.2 the folder has no size.
  return CountEntries(path);
}

}  // namespace waxvm::process
