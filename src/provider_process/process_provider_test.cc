// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/base/unique_fd.h"
#include "src/provider_process/harness_for_test.h"

namespace waxvm::process {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using ::testing::HasSubstr;

class ProcessProviderTest : public ProcessProviderFixture {};

std::size_t OpenDescriptors() {
  std::size_t count = 0;
  DIR* const folder = opendir("/proc/self/fd");
  while (readdir(folder) != nullptr) ++count;
  closedir(folder);
  return count;
}

TEST_F(ProcessProviderTest, RunsStaticPrograms) {
  for (const char* guest : {"hello_musl", "hello_glibc", "hello_glibc_pie"}) {
    const Outcome outcome = RunGuest(guest, [](InstanceSpec& spec) {
      spec.arguments = {"a", "b"};
      spec.environment = {"C=d"};
    });
    EXPECT_TRUE(outcome.status.ok()) << guest << ": " << outcome.status;
    EXPECT_EQ(outcome.exit_code(), 2) << guest;
    EXPECT_EQ(outcome.output, "argv[0]=a\nargv[1]=b\nenv[0]=C=d\n") << guest;
    EXPECT_TRUE(outcome.usage.cpu_time.has_value());
  }
}

TEST_F(ProcessProviderTest, PassesArgumentsEnvironmentAndStreams) {
  std::array<int, 2> pipe_fds{};
  ASSERT_EQ(pipe2(pipe_fds.data(), O_CLOEXEC), 0);
  const UniqueFd reader(pipe_fds[0]);
  UniqueFd writer(pipe_fds[1]);
  ASSERT_EQ(write(writer.get(), "in", 2), 2);
  writer.reset();
  const Outcome outcome = Run(
      [](NativeContext& context) {
        std::array<char, 16> buffer{};
        const auto n = context.ReadInput(buffer);
        if (!n.ok() || !context.WriteError(std::string(buffer.data(), *n)).ok()) return 1;
        for (const auto& list : {context.arguments(), context.environment()}) {
          for (const std::string& item : list) {
            if (!context.WriteOutput(item + ";").ok()) return 2;
          }
        }
        return 300;  // the low eight bits count
      },
      [&](InstanceSpec& spec) {
        spec.arguments = {"zero", "", "two"};
        spec.environment = {"A=b"};
        spec.input_fd = reader.get();
      });
  EXPECT_EQ(outcome.output, "zero;;two;A=b;");
  EXPECT_EQ(outcome.error, "in");
  EXPECT_EQ(outcome.exit_code(), 300 & 0xff);
}

TEST_F(ProcessProviderTest, DeathsBySignalAreFaults) {
  EXPECT_EQ(RunGuest("segv_musl").signal(), SIGSEGV);
  EXPECT_EQ(RunGuest("illegal_instruction_musl").signal(), SIGILL);
  EXPECT_EQ(RunGuest("divide_by_zero_musl").signal(), SIGFPE);
  const Outcome aborted = RunGuest("abort_musl");
  EXPECT_EQ(aborted.signal(), SIGABRT);
  EXPECT_EQ(std::get<Fault>(aborted.event).kind, FaultKind::kSignal);
  EXPECT_EQ(Run([](NativeContext&) { return raise(SIGTERM); }).signal(), SIGTERM)
      << "default actions must work: the program is not pid 1";
}

TEST_F(ProcessProviderTest, CarriesHostCalls) {
  const Outcome outcome = Run([](NativeContext& context) {
    const auto reply = context.CallHost("add", std::string(1 << 20, 'x'));
    if (!reply.ok() || reply->size() != (1 << 20) + 5) return 1;
    return context.CallHost("second", "").value_or("") == "second()" ? 0 : 2;
  });
  EXPECT_EQ(outcome.exit_code(), 0);
}

TEST_F(ProcessProviderTest, AHostCallMustBeAnsweredOnce) {
  InstanceSpec spec(Program::FromFunction(
      "native", [](NativeContext& context) { return context.CallHost("f", "").ok() ? 0 : 1; }));
  auto instance = provider_->Create(spec);
  ASSERT_TRUE(instance.ok()) << instance.status();
  EXPECT_FALSE((*instance)->CompleteHostCall(std::string()).ok()) << "none is pending";
  ASSERT_TRUE(std::holds_alternative<HostCallRequest>(*(*instance)->Resume()));
  EXPECT_EQ((*instance)->Resume().status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE((*instance)->CompleteHostCall(absl::NotFoundError("no")).ok());
  EXPECT_EQ(std::get<Exited>(*(*instance)->Resume()).code, 1);
  EXPECT_EQ((*instance)->Resume().status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(ProcessProviderTest, WallAndCpuTimeAreBounded) {
  const auto spin = [](NativeContext&) -> int {
    for (;;) asm volatile("");
  };
  const Outcome wall =
      Run(spin, [](InstanceSpec& spec) { spec.limits.wall_time = milliseconds(50); });
  EXPECT_EQ(wall.limit(), "wall");
  const Outcome cpu =
      Run(spin, [](InstanceSpec& spec) { spec.limits.cpu_time = milliseconds(100); });
  EXPECT_EQ(cpu.limit(), "cpu");
  ASSERT_TRUE(cpu.usage.cpu_time.has_value());
  EXPECT_GE(*cpu.usage.cpu_time, milliseconds(100));
  EXPECT_LE(*cpu.usage.cpu_time, milliseconds(120));
}

TEST_F(ProcessProviderTest, CpuTimeOfAllProcessesCounts) {
  const Outcome outcome = Run(
      [](NativeContext&) {
        for (int i = 0; i < 3; ++i) {
          if (fork() == 0) {
            for (;;) asm volatile("");
          }
        }
        pause();
        return 0;
      },
      [](InstanceSpec& spec) { spec.limits.cpu_time = milliseconds(200); });
  EXPECT_EQ(outcome.limit(), "cpu");
}

TEST_F(ProcessProviderTest, LimitsRestartWhileAHostCallIsPending) {
  const auto spin = [](NativeContext& context) {
    const auto work = [](milliseconds time) {
      const auto until = std::chrono::steady_clock::now() + time;
      while (std::chrono::steady_clock::now() < until) {
      }
    };
    work(milliseconds(250));
    (void)context.CallHost("one", "");
    work(milliseconds(250));
    (void)context.CallHost("two", "");
    work(std::chrono::seconds(60));
    return 0;
  };
  for (const bool wall : {true, false}) {
    RecordingGate gate;
    InstanceSpec spec(Program::FromFunction("spin", spin));
    spec.arguments = {"spin"};
    spec.gate = &gate;
    spec.host_functions_granted = spec.for_calls = true;
    spec.output = [](Stream, std::string_view) { return absl::OkStatus(); };
    (wall ? spec.limits.wall_time : spec.limits.cpu_time) = milliseconds(400);
    const auto instance = *provider_->Create(spec);
    EXPECT_EQ(instance->RestartLimits({}).code(), absl::StatusCode::kFailedPrecondition);
    const CallLimits again = {.wall_time = spec.limits.wall_time, .cpu_time = spec.limits.cpu_time};
    for (const char* call : {"one", "two"}) {
      const auto event = instance->Resume();
      ASSERT_TRUE(event.ok()) << event.status();
      ASSERT_TRUE(std::holds_alternative<HostCallRequest>(*event)) << call << wall;
      // The time of the host counts for nobody.
      if (wall) std::this_thread::sleep_for(milliseconds(500));
      ASSERT_TRUE(instance->RestartLimits(again).ok());
      ASSERT_TRUE(instance->CompleteHostCall("").ok());
    }
    const auto event = instance->Resume();
    ASSERT_TRUE(event.ok()) << event.status();
    ASSERT_TRUE(std::holds_alternative<LimitReached>(*event));
    EXPECT_EQ(std::get<LimitReached>(*event).limit,
              wall ? LimitKind::kWallTime : LimitKind::kCpuTime);
    // On a busy machine the wall time holds less of it.
    if (!wall) EXPECT_GE(*instance->usage().cpu_time, milliseconds(300));
  }
}

TEST_F(ProcessProviderTest, OutputIsBoundedAndDeliveredUpToTheBound) {
  const Outcome outcome =
      RunGuest("flood_output_musl", [](InstanceSpec& spec) { spec.limits.output_bytes = 100000; });
  EXPECT_EQ(outcome.limit(), "output");
  EXPECT_EQ(outcome.output.size() + outcome.error.size(), 100000u);
  EXPECT_EQ(outcome.usage.output_bytes, 100000u);
}

int EatMemory(NativeContext&) {
  constexpr std::size_t kStep = 1 << 20;
  for (;;) {
    void* const block = malloc(kStep);
    if (block == nullptr) return 3;
    memset(block, 1, kStep);
  }
}

TEST_F(ProcessProviderTest, MemoryIsBounded) {
  constexpr std::uint64_t kLimit = 48 << 20;
  const Outcome outcome =
      Run(EatMemory, [=](InstanceSpec& spec) { spec.limits.memory_bytes = kLimit; });
  EXPECT_EQ(outcome.limit(), "memory") << outcome.status;
  ASSERT_TRUE(outcome.usage.peak_memory_bytes.has_value());
  EXPECT_LE(*outcome.usage.peak_memory_bytes, kLimit + kLimit / 5);
}

TEST_F(ProcessProviderTest, FilesInMemoryCountAsMemory) {
  const Outcome outcome = Run(
      [](NativeContext&) {
        const int fd = open("/tmp/file", O_CREAT | O_WRONLY, 0600);
        const std::string block(1 << 20, 'x');
        while (write(fd, block.data(), block.size()) > 0) continue;
        return errno;
      },
      [](InstanceSpec& spec) { spec.limits.memory_bytes = 32 << 20; });
  if (outcome.limit() != "memory") {
    EXPECT_EQ(outcome.exit_code(), ENOSPC);
  }
}

TEST_F(ProcessProviderTest, ProcessesAreBoundedAndRefusalsCounted) {
  const Outcome outcome = Run(
      [](NativeContext& context) {
        int started = 0;
        for (int i = 0; i < 50; ++i) {
          const pid_t pid = fork();
          if (pid == 0) pause();
          if (pid > 0) ++started;
          if (pid < 0 && errno != EAGAIN) return 1;
        }
        return context.WriteOutput(std::to_string(started)).ok() ? 0 : 2;
      },
      [](InstanceSpec& spec) { spec.limits.processes = 10; });
  EXPECT_EQ(outcome.exit_code(), 0);
  EXPECT_EQ(outcome.output, "9");
  EXPECT_EQ(outcome.gate.Count("limit:processes"), 41u);
}

TEST_F(ProcessProviderTest, EndedProcessesMakeRoomForOthers) {
  const Outcome outcome = Run(
      [](NativeContext&) {
        for (int i = 0; i < 20; ++i) {
          const pid_t pid = fork();
          if (pid == 0) _exit(0);
          if (pid < 0) return errno;
          waitpid(pid, nullptr, 0);
        }
        return 0;
      },
      [](InstanceSpec& spec) { spec.limits.processes = 2; });
  EXPECT_EQ(outcome.exit_code(), 0);
  EXPECT_TRUE(outcome.gate.denials.empty());
}

TEST_F(ProcessProviderTest, OpenFilesAreBounded) {
  for (const int limit : {5, 100, 300}) {
    const Outcome outcome = Run(
        [](NativeContext& context) {
          int opened = 3;
          while (open("/dev/null", O_RDONLY) >= 0) ++opened;
          if (errno != EMFILE) return 1;
          return context.WriteOutput(std::to_string(opened)).ok() ? 0 : 2;
        },
        [=](InstanceSpec& spec) { spec.limits.open_files = static_cast<std::uint64_t>(limit); });
    EXPECT_EQ(outcome.output, std::to_string(limit));
    EXPECT_EQ(outcome.gate.Count("limit:open_files"), 1u);
  }
}

TEST_F(ProcessProviderTest, WhatCannotBeHonouredIsRefused) {
  const auto nothing = [](NativeContext&) { return 0; };
  const auto code_with = [&](const Configure& configure) {
    return Run(nothing, configure).status.code();
  };
  class FixedClock final : public ClockSource {
    nanoseconds RealTime() override { return nanoseconds(0); }
    nanoseconds MonotonicTime() override { return nanoseconds(0); }
  };
  EXPECT_EQ(code_with([](InstanceSpec& s) { s.clock = std::make_shared<FixedClock>(); }),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code_with([](InstanceSpec& s) { s.random = std::make_shared<HostRandomForTest>(); }),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code_with([](InstanceSpec& s) { s.limits.memory_bytes = 0; }),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code_with([](InstanceSpec& s) { s.limits.processes = 0; }),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code_with([](InstanceSpec& s) { s.environment = {std::string("A=\0b", 4)}; }),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(ProcessProviderTest, StopWorksBeforeAndDuringARun) {
  const auto sleeper = Program::FromFunction("sleep", [](NativeContext&) { return pause(); });
  for (const bool before : {true, false}) {
    auto instance = provider_->Create(InstanceSpec(sleeper));
    ASSERT_TRUE(instance.ok()) << instance.status();
    std::thread stopper;
    if (before) {
      (*instance)->Stop();
    } else {
      stopper = std::thread([&] {
        std::this_thread::sleep_for(milliseconds(20));
        (*instance)->Stop();
      });
    }
    const auto event = (*instance)->Resume();
    ASSERT_TRUE(event.ok()) << event.status();
    EXPECT_TRUE(std::holds_alternative<Stopped>(*event));
    if (stopper.joinable()) stopper.join();
  }
}

TEST_F(ProcessProviderTest, AWriterThatFailsEndsTheRun) {
  const Outcome outcome = RunGuest("flood_output_musl", [](InstanceSpec& spec) {
    spec.output = [](Stream, std::string_view) { return absl::DataLossError("disk full"); };
  });
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kDataLoss);
}

TEST_F(ProcessProviderTest, ThreadThatCreatedMayEnd) {
  std::unique_ptr<Instance> instance;
  std::thread([&] {
    auto created = provider_->Create(InstanceSpec(Guest("true_musl")));
    ASSERT_TRUE(created.ok()) << created.status();
    instance = *std::move(created);
  }).join();
  const auto event = instance->Resume();
  ASSERT_TRUE(event.ok()) << event.status();
  EXPECT_TRUE(std::holds_alternative<Exited>(*event));
}

TEST_F(ProcessProviderTest, NothingIsLeftBehind) {
  RunGuest("true_musl");
  const std::size_t before = OpenDescriptors();
  for (int i = 0; i < 200; ++i) {
    const bool bounded = i % 20 == 0;
    const Outcome outcome = RunGuest("true_musl", [&](InstanceSpec& spec) {
      if (bounded) spec.limits.memory_bytes = 64 << 20;
    });
    ASSERT_EQ(outcome.exit_code(), 0) << outcome.status;
  }
  for (int i = 0; i < 5; ++i) {
    Run([](NativeContext&) {
      if (fork() == 0) {
        setsid();
        if (fork() == 0) pause();
        pause();
      }
      return 0;
    });
  }
  // Created and destroyed without running.
  provider_->Create(InstanceSpec(Guest("true_musl"))).IgnoreError();
  EXPECT_EQ(OpenDescriptors(), before);
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG | __WALL), -1);
  EXPECT_EQ(errno, ECHILD);
}

std::string ReadText(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST_F(ProcessProviderTest, WhatTheEmbedderIgnoresIsNotInherited) {
  struct sigaction ignored = {}, child_before = {}, pipe_before = {};
  ignored.sa_handler = SIG_IGN;
  ASSERT_EQ(sigaction(SIGCHLD, &ignored, &child_before), 0);
  ASSERT_EQ(sigaction(SIGPIPE, &ignored, &pipe_before), 0);
  const auto bound = [](InstanceSpec& spec) { spec.limits.wall_time = std::chrono::seconds(20); };
  EXPECT_EQ(RunGuest("true_musl", bound).exit_code(), 0);
  const auto native = Run(
      [](NativeContext&) {
        struct sigaction child = {}, pipe = {};
        sigaction(SIGCHLD, nullptr, &child);
        sigaction(SIGPIPE, nullptr, &pipe);
        return child.sa_handler == SIG_DFL && pipe.sa_handler == SIG_DFL ? 7 : 8;
      },
      bound);
  sigaction(SIGCHLD, &child_before, nullptr);
  sigaction(SIGPIPE, &pipe_before, nullptr);
  EXPECT_EQ(native.exit_code(), 7);
}

TEST_F(ProcessProviderTest, TheEndOfTheEmbedderIsTheEndOfEverything) {
  std::array<int, 2> fds{};
  ASSERT_EQ(pipe2(fds.data(), O_CLOEXEC), 0);
  const UniqueFd reader(fds[0]);
  UniqueFd writer(fds[1]);
  const pid_t embedder = fork();
  ASSERT_GE(embedder, 0);
  if (embedder == 0) {
    const auto provider = NewProcessProvider();
    InstanceSpec spec(Guest("sleep_forever_musl"));
    auto instance = provider->Create(spec);
    const std::string path = "/proc/self/task/" + std::to_string(syscall(SYS_gettid)) + "/children";
    const std::string children = ReadText(path);
    if (write(writer.get(), children.data(), children.size()) < 0) _exit(1);
    if (instance.ok()) (*instance)->Resume().IgnoreError();
    _exit(1);
  }
  writer.reset();
  std::array<char, 64> text{};
  ASSERT_GT(read(reader.get(), text.data(), text.size() - 1), 0);
  const UniqueFd init(static_cast<int>(syscall(SYS_pidfd_open, atoi(text.data()), 0)));
  ASSERT_TRUE(init.valid()) << "pid " << text.data();
  kill(embedder, SIGKILL);
  EXPECT_EQ(waitpid(embedder, nullptr, 0), embedder);
  pollfd ended{init.get(), POLLIN, 0};
  EXPECT_EQ(poll(&ended, 1, 5000), 1) << "pid 1 of the instance lives on";
}

/// The exit code of `body` in a child that gave up root for good.
int AsOrdinaryUser(const std::function<int()>& body) {
  const pid_t pid = fork();
  if (pid == 0) {
    constexpr unsigned kNobody = 65534;
    if (geteuid() == 0 &&
        (setgroups(0, nullptr) != 0 || setgid(kNobody) != 0 || setuid(kNobody) != 0))
      _exit(125);
    _exit(body());
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_F(ProcessProviderTest, WorksForAnOrdinaryUser) {
  const Program guest = Guest("true_musl");
  EXPECT_EQ(AsOrdinaryUser([&] {
              const auto provider = NewProcessProvider();
              if (!provider->Available().ok()) return 100;
              if (RunProgram(*provider, guest).exit_code() != 0) return 101;
              const auto eater = Program::FromFunction("eat", EatMemory);
              const auto bound = [](InstanceSpec& spec) { spec.limits.memory_bytes = 64 << 20; };
              if (RunProgram(*provider, eater, bound).limit() != "memory") return 102;
              const auto whoami = Program::FromFunction("id", [](NativeContext&) {
                return getuid() == 1000 && getgid() == 1000 ? 0 : 1;
              });
              return RunProgram(*provider, whoami).exit_code();
            }),
            0);
}

TEST_F(ProcessProviderTest, SaysWhatItIs) {
  const ProviderInfo info = provider_->info();
  EXPECT_EQ(info.name, "process");
  EXPECT_EQ(info.isolation, IsolationClass::kProcess);
  EXPECT_THAT(info.mechanism, HasSubstr("seccomp"));
  EXPECT_THAT(info.ambient, ::testing::IsSupersetOf({"clock", "rdtsc", "rdrand", "fifo"}));
  EXPECT_FALSE(info.does_not_protect_against.empty());
}

TEST_F(ProcessProviderTest, ADynamicProgramNamesWhatIsMissing) {
  const Outcome outcome = RunGuest("true_dynamic");
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(outcome.status.message()), HasSubstr("/lib64/ld-linux-x86-64.so.2"));
  const absl::Status status = provider_->Create(InstanceSpec(Guest("true_dynamic"))).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << "before anything is made";
}

TEST_F(ProcessProviderTest, ADynamicProgramRunsWhereItsLoaderIsGranted) {
  const auto grant = [&](const std::string& path) {
    return RunGuest("true_dynamic", [=](InstanceSpec& spec) { spec.mounts = {Mount(path, path)}; });
  };
  const Outcome whole = grant("/");
  EXPECT_EQ(whole.exit_code(), 0) << whole.status;
  EXPECT_EQ(grant("/etc").status.code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ProcessProviderTest, FilesInMemoryAreMeasuredUnderAnyGrant) {
  const auto write_some = [](NativeContext&) {
    const std::string block(24 << 20, 'x');
    const int file = open("/tmp/file", O_CREAT | O_WRONLY, 0600);
    return write(file, block.data(), block.size()) == static_cast<ssize_t>(block.size()) ? 0 : 1;
  };
  const auto bound = [](InstanceSpec& spec) { spec.limits.memory_bytes = 256 << 20; };
  const Outcome inside = Run(write_some, bound);
  ASSERT_EQ(inside.exit_code(), 0) << inside.limit();
  if (inside.usage.peak_memory_bytes) {
    EXPECT_GE(*inside.usage.peak_memory_bytes, 24u << 20);
  }
  // What lies on the host's file system is not the program's memory.
  const Outcome granted = RunGuest("true_musl", [&](InstanceSpec& spec) {
    bound(spec);
    spec.mounts = {Mount("/usr", "/tmp")};
  });
  EXPECT_EQ(granted.exit_code(), 0) << granted.limit();
  EXPECT_LT(granted.usage.peak_memory_bytes.value_or(0), 16u << 20);
}

}  // namespace
}  // namespace waxvm::process
