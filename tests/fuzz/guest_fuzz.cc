// SPDX-License-Identifier: Apache-2.0
// guest_fuzz SECONDS [SEED]: lets tests/guests/fuzz_calls.c attack a live microVM, run after run
// with other random steps, and holds the host to its promises each time:
//   - a run gives a result, whatever the guest did; an error status is a finding
//   - it ends within its limits, and what it reports lies within them
//   - no descriptor and no thread of this process is left over
//   - nothing outside of the granted folder is made, changed or removed, and inside of it there is
//     nothing but regular files, folders and links
// The runs are made by a child, so that a crash or a hang is a finding as well. Every run follows
// from its seed alone, and the first run's is SEED: `guest_fuzz 0 SEED` does that one again.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "src/base/strings.h"
#include "waxvm/providers.h"
#include "waxvm/supervisor.h"

namespace waxvm {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::seconds;
using SteadyClock = std::chrono::steady_clock;

constexpr int kSkipped = 77;
constexpr milliseconds kCpuTime{200};
constexpr std::uint64_t kOutputBytes = 4096;
constexpr std::uint64_t kHostCalls = 16;
// What a busy machine and a sanitizer may add to a run before it counts as late, and to a run
// before it counts as hanging.
constexpr seconds kMargin{10};
constexpr seconds kHanging{60};
// The guest may write into the granted folder; the host's disk is not to be filled with it.
constexpr rlim_t kMaxFileBytes = 16 << 20;
constexpr char kCanary[] = "as it was\n";

std::uint64_t Mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

/// What the child tells the parent in shared memory, so that it survives the child.
struct Progress {
  std::atomic<std::uint64_t> seed;
  std::atomic<std::uint64_t> runs;
};

std::string ReadFile(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::ptrdiff_t Entries(const char* folder) {
  return std::distance(fs::directory_iterator(folder), fs::directory_iterator());
}

/// A folder with a canary and, next to it, the folder that is granted: a file, folders, and links
/// that lead out.
class Playground {
 public:
  Playground() {
    std::string name = fs::temp_directory_path() / "waxvm-guest-fuzz-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    root_ = name;
    std::ofstream(root_ / "canary") << kCanary;
    Fill();
  }
  ~Playground() {
    std::error_code ignored;
    fs::remove_all(root_, ignored);
  }
  Playground(const Playground&) = delete;
  Playground& operator=(const Playground&) = delete;

  std::string granted() const { return root_ / "granted"; }

  /// What is not as it should be; empty where all is well.
  std::string Check() const {
    struct stat canary {};
    if (::lstat((root_ / "canary").c_str(), &canary) != 0 || !S_ISREG(canary.st_mode) ||
        (canary.st_mode & 07777) != 0644 || canary.st_nlink != 1 ||
        ReadFile(root_ / "canary") != kCanary)
      return "the canary outside of the grant was touched";
    if (Entries(root_.c_str()) != 2) return "something was made outside of the grant";
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(
             granted(), fs::directory_options::skip_permission_denied)) {
      const fs::file_type type = entry.symlink_status().type();
      if (type != fs::file_type::regular && type != fs::file_type::directory &&
          type != fs::file_type::symlink)
        return absl::StrCat("the grant holds a special file: ", entry.path().string());
    }
    return "";
  }

  /// As it was in the beginning.
  void Fill() const {
    const fs::path folder = granted();
    fs::remove_all(folder);
    fs::create_directory(folder);
    fs::create_directory(folder / "folder");
    std::ofstream(folder / "file") << std::string(5000, 'f');
    fs::create_symlink("/etc/passwd", folder / "out");
    fs::create_symlink("../canary", folder / "canary");
    fs::create_symlink("loop", folder / "loop");
    fs::create_symlink("../..", folder / "folder" / "up");
    fs::create_symlink(root_, folder / "absolute");
  }

 private:
  fs::path root_;
};

RunOptions OptionsFor(std::uint64_t seed, const Playground& playground) {
  std::uint64_t dice = Mix(seed);
  const auto below = [&dice](std::uint64_t bound) { return (dice = Mix(dice)) % bound; };
  RunOptions options;
  options.arguments = {absl::StrCat(seed), absl::StrCat(50 + below(400)),
                       absl::StrCat(below(2) == 0 ? 1 : 1 + below(6))};
  options.limits = {.memory_bytes = (std::uint64_t{2} << 20) << below(4),
                    .wall_time = milliseconds(below(4) == 0 ? 50 + below(350) : 1000),
                    .cpu_time = kCpuTime,
                    .output_bytes = kOutputBytes,
                    .open_files = 24,
                    .processes = 6,
                    .host_calls = kHostCalls};
  options.grants = {
      Files(playground.granted(), "/data", below(4) == 0 ? Rights::kReadOnly : Rights::kReadWrite),
      Function("echo", [](const HostCallContext&, std::string_view request) {
        return std::string(request.substr(0, 4096));
      })};
  if (below(4) != 0) options.grants.push_back(Clock());
  if (below(4) != 0) options.grants.push_back(Random());
  options.input = std::string(below(2) == 0 ? 0 : 100, 'i');
  return options;
}

std::string CheckResult(const RunResult& result, const RunOptions& options) {
  const Report& report = result.report;
  if (result.exit_code < 0 || result.exit_code > 255)
    return absl::StrCat("exit code ", result.exit_code);
  if (report.wall_time > *options.limits.wall_time + kMargin)
    return "the run outlived its wall time";
  if (report.cpu_time && *report.cpu_time > kCpuTime + kMargin) return "it outlived its CPU time";
  if (report.peak_memory_bytes && *report.peak_memory_bytes > *options.limits.memory_bytes)
    return absl::StrCat("peak memory ", *report.peak_memory_bytes, " of ",
                        *options.limits.memory_bytes);
  if (result.output.size() + result.error_output.size() > kOutputBytes)
    return "more output than the limit";
  if (report.host_calls > kHostCalls) return absl::StrCat(report.host_calls, " host calls");
  if (report.denied.size() > 256) return "the list of refusals has no bound";
  return "";
}

/// Counts endings, to show that the guests get somewhere.
std::string EndingOf(const RunResult& result) {
  switch (result.outcome) {
    case Outcome::kExited:
      return "exited";
    case Outcome::kStopped:
      return "stopped";
    case Outcome::kFault:
      return absl::StrCat("fault ", ToAbsl(FaultName(result.fault.value_or(Fault()).kind)));
    case Outcome::kLimit:
      return absl::StrCat("limit ", ToAbsl(LimitName(*result.limit)));
  }
  return "";
}

/// True once there are so many threads. A thread that was joined is still listed until the kernel
/// has taken it away, which on a busy machine can be a while.
bool ThreadsBecome(std::ptrdiff_t threads) {
  for (int tries = 0; tries < 2000; ++tries) {
    if (Entries("/proc/self/task") == threads) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

class Fuzzer {
 public:
  Fuzzer(std::shared_ptr<Provider> provider, const Program& program)
      : provider_(std::move(provider)), program_(program) {}

  /// One run. Returns what went wrong; empty: nothing.
  std::string Run(std::uint64_t seed) {
    const std::ptrdiff_t descriptors = Entries("/proc/self/fd");
    const std::ptrdiff_t threads = Entries("/proc/self/task");
    RunOptions options = OptionsFor(seed, playground_);
    const absl::StatusOr<RunResult> result = RunAndStop(seed, options);
    if (!result.ok()) return absl::StrCat("no result: ", result.status().ToString());
    ++endings_[EndingOf(*result)];
    exits_ += result->report.vm_exits.value_or(0);
    std::string wrong = CheckResult(*result, options);
    if (wrong.empty()) wrong = playground_.Check();
    if (wrong.empty() && Entries("/proc/self/fd") != descriptors) wrong = "a descriptor was left";
    if (wrong.empty() && !ThreadsBecome(threads)) wrong = "a thread was left";
    playground_.Fill();
    return wrong;
  }

  void PrintEndings() const {
    for (const auto& [ending, count] : endings_)
      std::printf("%8llu %s\n", static_cast<unsigned long long>(count), ending.c_str());
    std::printf("%8llu trips to the host\n", static_cast<unsigned long long>(exits_));
  }

 private:
  /// Every eighth run is stopped by another thread, some time on its way.
  absl::StatusOr<RunResult> RunAndStop(std::uint64_t seed, RunOptions& options) const {
    std::stop_source stop;
    options.stop = stop.get_token();
    std::thread stopper;
    if (Mix(~seed) % 8 == 0)
      stopper = std::thread([&stop, delay = milliseconds(Mix(seed + 1) % 40)] {
        std::this_thread::sleep_for(delay);
        stop.request_stop();
      });
    absl::StatusOr<RunResult> result = RunOnce(provider_, program_, options);
    if (stopper.joinable()) stopper.join();
    return result;
  }

  const std::shared_ptr<Provider> provider_;
  const Program program_;
  const Playground playground_;
  std::map<std::string, std::uint64_t> endings_;
  std::uint64_t exits_ = 0;
};

/// The child: runs until the time is over. Returns its exit status.
int Work(SteadyClock::time_point end, std::uint64_t seed, Progress& progress) {
  const rlimit file_size = {kMaxFileBytes, kMaxFileBytes};
  ::setrlimit(RLIMIT_FSIZE, &file_size);
  std::signal(SIGXFSZ, SIG_IGN);
  ::umask(022);
  const std::shared_ptr<Provider> provider = NewMicroVmProvider();
  const char* folder = std::getenv("WAXVM_GUEST_DIR");
  const absl::StatusOr<Program> program = Program::FromFile(
      absl::StrCat(folder != nullptr ? folder : WAXVM_GUEST_DIR, "/fuzz_calls_musl"));
  if (const absl::Status status = provider->Available(); !status.ok()) {
    std::printf("%s\n", status.ToString().c_str());
    return kSkipped;
  }
  if (!program.ok()) {
    std::printf("%s\n", program.status().ToString().c_str());
    return 1;
  }
  Fuzzer fuzzer(provider, *program);
  do {
    progress.seed = seed;
    if (const std::string wrong = fuzzer.Run(seed); !wrong.empty()) {
      std::printf("%s\n", wrong.c_str());
      return 1;
    }
    ++progress.runs;
    seed = Mix(seed);
  } while (SteadyClock::now() < end);
  fuzzer.PrintEndings();
  return 0;
}

unsigned long long Number(const std::atomic<std::uint64_t>& value) { return value.load(); }

/// The parent: waits for the child, shows that it gets on, and ends it where it does not.
int Watch(pid_t child, const Progress& progress) {
  SteadyClock::time_point moved = SteadyClock::now(), shown = moved;
  std::uint64_t runs = 0;
  for (int status = 0;;) {
    const pid_t ended = ::waitpid(child, &status, WNOHANG);
    if (ended == child) {
      if (WIFEXITED(status)) return WEXITSTATUS(status);
      std::printf("the host ended by signal %d\n", WTERMSIG(status));
      return 1;
    }
    const SteadyClock::time_point now = SteadyClock::now();
    if (progress.runs != runs) moved = now;
    runs = progress.runs;
    if (now - moved > kHanging) {
      std::printf("the run does not end\n");
      ::kill(child, SIGABRT);
      moved = now;
    }
    if (now - shown > seconds(60)) {
      std::printf("%llu runs, now at seed %llu\n", Number(progress.runs), Number(progress.seed));
      std::fflush(stdout);
      shown = now;
    }
    std::this_thread::sleep_for(milliseconds(20));
  }
}

int Main(int argc, char** argv) {
  if (argc < 2 || argc > 3) return std::fprintf(stderr, "guest_fuzz SECONDS [SEED]\n"), 2;
  const seconds time(std::strtoll(argv[1], nullptr, 10));
  const std::uint64_t seed =
      argc == 3 ? std::strtoull(argv[2], nullptr, 10)
                : static_cast<std::uint64_t>(SteadyClock::now().time_since_epoch().count());
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  std::fflush(stdout);
  void* shared =
      ::mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return 1;
  Progress& progress = *new (shared) Progress{};
  const pid_t child = ::fork();
  if (child < 0) return 1;
  if (child == 0) {
    const int status = Work(SteadyClock::now() + time, seed, progress);
    std::fflush(stdout);
    return status;
  }
  const int status = Watch(child, progress);
  if (status != 0 && status != kSkipped)
    std::printf("FOUND after %llu runs; again: guest_fuzz 0 %llu\n", Number(progress.runs),
                Number(progress.seed));
  else
    std::printf("%llu runs\n", Number(progress.runs));
  return status;
}

}  // namespace
}  // namespace waxvm

int main(int argc, char** argv) { return waxvm::Main(argc, argv); }
