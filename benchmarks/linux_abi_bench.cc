// SPDX-License-Identifier: Apache-2.0
// What does the Linux personality of the microVM cost: a system call that is answered inside and
// one that leaves, reading files through a grant, memory and threads, an interpreter as it comes?
// Next to the floor of a trip out of ring 3, to no isolation at all, to bubblewrap and to gVisor,
// all in one run, so that ratios are fair. tools/bench prints the ratios.
#include <benchmark/benchmark.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_format.h"
#include "benchmarks/cases.h"
#include "benchmarks/floor_cases.h"
#include "benchmarks/spawn.h"
#include "src/base/status.h"
#include "waxvm/providers.h"

namespace waxvm {
namespace {

constexpr char kPython[] = "/usr/bin/python3";
constexpr int kFolders = 100;
constexpr int kFilesPerFolder = 100;
constexpr int kFiles = kFolders * kFilesPerFolder;

/// 10,000 files of 100 to 4,000 bytes in 100 folders, written when they are first asked for and
/// removed with the object.
class SmallFiles {
 public:
  SmallFiles() : path_(std::filesystem::temp_directory_path() / "waxvm-bench-XXXXXX") {
    if (::mkdtemp(path_.data()) == nullptr) path_.clear();
  }
  ~SmallFiles() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  SmallFiles(const SmallFiles&) = delete;
  SmallFiles& operator=(const SmallFiles&) = delete;

  const std::string& path() const { return path_; }

  absl::Status Write() {
    if (std::exchange(written_, true)) return absl::OkStatus();
    for (int i = 0; i < kFolders; ++i) {
      const std::string folder = path_ + "/" + std::to_string(i);
      if (::mkdir(folder.c_str(), 0755) != 0) return ErrnoStatus(errno, folder);
      for (int j = 0; j < kFilesPerFolder; ++j) {
        std::ofstream file(folder + "/" + std::to_string(j));
        file << std::string(100 + (i * kFilesPerFolder + j) * 39 % 3901, 'x');
        if (!file.flush().good()) return absl::UnavailableError("cannot write to " + folder);
      }
    }
    return absl::OkStatus();
  }

 private:
  std::string path_;
  bool written_ = false;
};

/// Keeps this thread, and what it spawns, on the CPU where it is.
class OneCpu {
 public:
  OneCpu() {
    ::sched_getaffinity(0, sizeof before_, &before_);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<std::size_t>(::sched_getcpu()), &one);
    ::sched_setaffinity(0, sizeof one, &one);
  }
  ~OneCpu() { ::sched_setaffinity(0, sizeof before_, &before_); }
  OneCpu(const OneCpu&) = delete;
  OneCpu& operator=(const OneCpu&) = delete;

 private:
  cpu_set_t before_;
};

/// `calls` calls of `kind` by one guest count as that many iterations; the start of the machine is
/// in them, which is a few nanoseconds a call.
void GuestCall(benchmark::State& state, const std::shared_ptr<Provider>& provider,
               const std::string& kind, std::int64_t calls) {
  const absl::StatusOr<Program> program = Program::FromFile(GuestPath("calls_musl"));
  const RunOptions options = {.arguments = {kind, std::to_string(calls)}, .grants = {Clock()}};
  double exits = 0;
  while (state.KeepRunningBatch(calls)) {
    const absl::StatusOr<Report> report = RunToEnd(provider, program, options);
    if (!report.ok()) return Skip(state, report.status());
    exits += static_cast<double>(report->vm_exits.value_or(0));
  }
  state.counters["exits_per_call"] = exits / static_cast<double>(state.iterations());
}

/// The time of an iteration is the CPU time that the program used, all on one CPU; `wall_us` tells
/// how long it took, idle time included.
template <typename Function>
void MeasureCpuTime(benchmark::State& state, const Function& run_once) {
  const OneCpu one_cpu;
  double wall_us = 0;
  for (auto _ : state) {
    const auto start = std::chrono::steady_clock::now();
    const absl::StatusOr<std::chrono::nanoseconds> used = run_once();
    if (!used.ok()) return Skip(state, used.status());
    state.SetIterationTime(std::chrono::duration<double>(*used).count());
    wall_us +=
        std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
  }
  state.counters["wall_us"] = wall_us / static_cast<double>(state.iterations());
}

using Arguments = std::vector<std::string>;

/// `arguments` (the first is an absolute path) natively and under the rivals, as group/native,
/// group/bubblewrap and group/gvisor. `prepare` comes before the clock runs.
void RegisterRivals(const std::string& group, const Arguments& arguments,
                    const std::function<absl::Status()>& prepare = {}) {
  const auto spawn = [=](Arguments prefix) {
    prefix.insert(prefix.end(), arguments.begin(), arguments.end());
    return [=](benchmark::State& state) {
      if (absl::Status status = prepare ? prepare() : absl::OkStatus(); !status.ok())
        return Skip(state, status);
      MeasureSpawn(state, prefix);
    };
  };
  Register(group + "/native", spawn({}));
  Register(group + "/bubblewrap",
           spawn({FindInPath("bwrap"), "--unshare-all", "--ro-bind", "/", "/"}));
  Arguments gvisor = {FindInPath("runsc"), "--platform=ptrace", "--network=none"};
  if (::geteuid() != 0) gvisor.push_back("--rootless");
  gvisor.push_back("do");
  Register(group + "/gvisor", spawn(gvisor));
}

void RegisterCalls(const std::shared_ptr<Provider>& provider) {
  Register("KvmFloor/ring3_exit", FloorExit);
  Register("KvmFloor/ring3_syscall", FloorSyscall);
  struct {
    const char* kind;
    std::int64_t calls;
  } const kinds[] = {{"getpid", 100000}, {"clock_gettime", 100000}, {"read_devzero", 2000}};
  for (const auto& [kind, calls] : kinds)
    Register(std::string("GuestCall/") + kind,
             [=, kind = kind, calls = calls](benchmark::State& state) {
               GuestCall(state, provider, kind, calls);
             });
}

void RegisterPrograms(const std::shared_ptr<Provider>& provider,
                      const std::shared_ptr<SmallFiles>& files) {
  const Grant root = Files("/", "/");
  const RunOptions python = {.arguments = {"-c", "pass"}, .grants = {root, Clock(), Random()}};
  Register("Python/microvm", [=](benchmark::State& state) {
    MeasureRun(state, {provider, kPython, python});
  });
  RegisterRivals("Python", {kPython, "-c", "pass"});

  const std::string reader = GuestPath("read_files_musl");
  const RunOptions reading = {.arguments = {"/data"}, .grants = {Files(files->path(), "/data")}};
  Register("Files/microvm", [=](benchmark::State& state) {
    if (absl::Status status = files->Write(); !status.ok()) return Skip(state, status);
    MeasureRun(state, {provider, reader, reading, "file", kFiles});
  });
  RegisterRivals("Files", {reader, files->path()}, [files] { return files->Write(); });

  const std::string allocator = GuestPath("malloc_threads_glibc");
  Register("Malloc/microvm", [=](benchmark::State& state) {
    MeasureRun(state, {provider, allocator});
  });
  RegisterRivals("Malloc", {allocator});
}

void RegisterCompute(const std::shared_ptr<Provider>& provider) {
  const std::string path = GuestPath("compute_threads_musl");
  Register("Compute/threads_microvm", [=](benchmark::State& state) {
    const absl::StatusOr<Program> program = Program::FromFile(path);
    MeasureCpuTime(state, [&]() -> absl::StatusOr<std::chrono::nanoseconds> {
      absl::StatusOr<Report> report = RunToEnd(provider, program, {});
      if (!report.ok()) return report.status();
      if (!report->cpu_time) return absl::UnavailableError("the CPU time was not measured");
      return *report->cpu_time;
    });
  })->UseManualTime();
  Register("Compute/threads_native", [=](benchmark::State& state) {
    MeasureCpuTime(state, [&] { return SpawnAndMeasure({path}); });
  })->UseManualTime();
}

void RegisterAll(const std::shared_ptr<SmallFiles>& files) {
  const std::shared_ptr<Provider> provider = NewMicroVmProvider();
  RegisterCalls(provider);
  RegisterPrograms(provider, files);
  RegisterCompute(provider);
}

}  // namespace
}  // namespace waxvm

int main(int argc, char** argv) {
  const auto files = std::make_shared<waxvm::SmallFiles>();
  waxvm::RegisterAll(files);
  return waxvm::RunBenchmarks(argc, argv);
}
