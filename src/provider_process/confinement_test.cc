// SPDX-License-Identifier: Apache-2.0
// Attacks from inside: what a hostile program would try first.
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/base/unique_fd.h"
#include "src/provider_process/harness_for_test.h"
#include "waxvm/abi/host_call.h"

namespace waxvm::process {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

class ConfinementTest : public ProcessProviderFixture {
 protected:
  /// The errno of `attempt` inside; 0 when it succeeded.
  template <typename Attempt>
  int ErrnoOf(Attempt attempt, const Configure& configure = nullptr) {
    const Outcome outcome = Run(
        [attempt](NativeContext&) {
          errno = 0;
          return attempt() < 0 ? errno : 0;
        },
        configure);
    EXPECT_TRUE(outcome.status.ok()) << outcome.status;
    denials_ = outcome.gate.denials;
    return outcome.exit_code();
  }

  std::vector<std::string> denials_;
};

pid_t OnlyChild(pid_t parent) {
  const std::string task = "/proc/" + std::to_string(parent) + "/task/" + std::to_string(parent);
  std::ifstream children(task + "/children");
  pid_t child = -1;
  children >> child;
  return child;
}

/// A folder that is gone after the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "waxvm-test-XXXXXX").string();
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    path_ = name;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST_F(ConfinementTest, RefusedCallsAreNamed) {
  EXPECT_EQ(ErrnoOf([] { return mount("none", "/tmp", "tmpfs", 0, nullptr); }), EPERM);
  EXPECT_THAT(denials_, Contains("system_call:mount"));
  EXPECT_EQ(ErrnoOf([] { return ptrace(PTRACE_ATTACH, 1, nullptr, nullptr); }), EPERM);
  EXPECT_THAT(denials_, Contains("system_call:ptrace"));
  EXPECT_EQ(ErrnoOf([] { return socket(AF_INET, SOCK_STREAM, 0); }), EACCES);
  EXPECT_THAT(denials_, Contains("system_call:socket"));
  EXPECT_EQ(ErrnoOf([] { return unshare(CLONE_NEWUSER); }), EPERM);
  EXPECT_EQ(ErrnoOf([] { return syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0); }), EPERM);
  EXPECT_EQ(ErrnoOf([] { return syscall(999); }), ENOSYS);
  EXPECT_THAT(denials_, Contains("system_call:syscall_999"));
}

TEST_F(ConfinementTest, TheReservedNumberIsAbsentWithoutARefusal) {
  EXPECT_EQ(ErrnoOf([] { return syscall(WAXVM_HOST_CALL_NUMBER, 0, 0, 0); }), ENOSYS);
  EXPECT_TRUE(denials_.empty());
}

TEST_F(ConfinementTest, NothingOfTheHostIsThere) {
  for (const char* path : {"/etc/passwd", "/proc/self/status", "/proc/1/mem", "/sys/kernel",
                           "/dev/tty", "/dev/ptmx", "/dev/kmsg", "/../../etc/passwd", "/root"}) {
    EXPECT_EQ(ErrnoOf([=] { return open(path, O_RDONLY); }), ENOENT) << path;
  }
  EXPECT_EQ(ErrnoOf([] { return open("/dev/null", O_RDWR); }), 0);
  EXPECT_EQ(ErrnoOf([] { return open("/tmp/file", O_CREAT | O_RDWR, 0600); }), 0);
  EXPECT_EQ(ErrnoOf([] { return chmod("/dev/null", 0); }), EROFS);
}

TEST_F(ConfinementTest, EveryDescriptorOfTheEmbedderIsClosed) {
  const UniqueFd leaked(open("/etc/passwd", O_RDONLY));  // on purpose not close-on-exec
  ASSERT_TRUE(leaked.valid());
  const UniqueFd high(fcntl(leaked.get(), F_DUPFD, 500));
  const Outcome outcome = Run([](NativeContext& context) {
    std::string open_ones;
    for (int fd = 0; fd < 1024; ++fd) {
      if (fcntl(fd, F_GETFD) >= 0) open_ones += std::to_string(fd) + " ";
    }
    return context.WriteOutput(open_ones).ok() ? 0 : 1;
  });
  EXPECT_EQ(outcome.output, "0 1 2 255 ");
}

TEST_F(ConfinementTest, SignalsReachNobodyElse) {
  const Outcome outcome = Run([](NativeContext&) {
    if (getpid() != 2 || getppid() != 1) return 10;
    kill(1, SIGKILL);
    kill(1, SIGSTOP);
    return kill(-1, SIGKILL) == 0 ? 11 : errno;
  });
  EXPECT_EQ(outcome.exit_code(), ESRCH);
}

TEST_F(ConfinementTest, ATerminalTakesNoInputFromInside) {
  const UniqueFd master(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!master) GTEST_SKIP() << "no pseudo-terminals here";
  ASSERT_EQ(grantpt(master.get()), 0);
  ASSERT_EQ(unlockpt(master.get()), 0);
  const UniqueFd terminal(open(ptsname(master.get()), O_RDWR | O_NOCTTY | O_CLOEXEC));
  ASSERT_TRUE(terminal.valid());
  const auto use_terminal = [&](InstanceSpec& spec) { spec.input_fd = terminal.get(); };
  EXPECT_EQ(ErrnoOf([] { return ioctl(0, TIOCSTI, "x"); }, use_terminal), ENOTTY);
  EXPECT_EQ(ErrnoOf([] { return syscall(SYS_ioctl, 0, 0x100000000 | TIOCSTI, "x"); }, use_terminal),
            ENOTTY);
  EXPECT_EQ(ErrnoOf([] { return ioctl(0, TIOCSCTTY, 0); }, use_terminal), ENOTTY);
  EXPECT_EQ(ErrnoOf([] { return write(0, "x", 1); }, use_terminal), EBADF)
      << "a pipe's reading end";
}

// On the host it would belong to the embedder, root perhaps, for everybody to run.
TEST_F(ConfinementTest, NoSetUserIdFilesInGrantedFolders) {
  const TemporaryFolder folder;
  const auto grant = [&](InstanceSpec& spec) {
    spec.mounts = {Mount(folder.path(), "/data", Rights::kReadWrite)};
  };
  EXPECT_EQ(ErrnoOf([] { return open("/data/a", O_CREAT | O_WRONLY, 04755); }, grant), EPERM);
  EXPECT_EQ(ErrnoOf([] { return mkdir("/data/d", 02755); }, grant), EPERM);
  EXPECT_EQ(ErrnoOf([] { return mknod("/data/n", S_IFREG | 06755, 0); }, grant), EPERM);
  EXPECT_EQ(ErrnoOf(
                [] {
                  const int fd = open("/data/b", O_CREAT | O_WRONLY, 0755);
                  return fd < 0 ? 0 : fchmod(fd, 04755);
                },
                grant),
            EPERM);
  EXPECT_EQ(ErrnoOf([] { return chmod("/data/b", 02755); }, grant), EPERM);
  EXPECT_EQ(ErrnoOf([] { return fchmodat(AT_FDCWD, "/data/b", 06755, 0); }, grant), EPERM);
  const auto counted = [&](InstanceSpec& spec) {
    grant(spec);
    spec.limits.open_files = 32;
  };
  EXPECT_EQ(ErrnoOf([] { return open("/data/c", O_CREAT | O_WRONLY, 04755); }, counted), EPERM);
  struct stat about {};
  ASSERT_EQ(stat((folder.path() + "/b").c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 07777, 0755u);
}

// The owner of a file may change it through a descriptor that is open for reading only.
TEST_F(ConfinementTest, AFileAsStandardInputStaysAsItIs) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/input";
  const UniqueFd file(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  const std::string text(100'000, 'i');
  ASSERT_EQ(write(file.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  lseek(file.get(), 10, SEEK_SET);
  struct stat before {};
  ASSERT_EQ(fstat(file.get(), &before), 0);
  const auto use_file = [&](InstanceSpec& spec) { spec.input_fd = file.get(); };
  const Outcome outcome = Run(
      [](NativeContext& world) {
        fchmod(0, 04777);
        const timespec old[2] = {};
        futimens(0, old);
        std::size_t bytes = 0;
        std::array<char, 5000> part;
        for (;;) {
          const auto n = world.ReadInput(part);
          if (!n.ok()) return 1;
          if (*n == 0) break;
          bytes += *n;
        }
        return bytes == 99'990 ? 0 : 2;
      },
      use_file);
  EXPECT_EQ(outcome.exit_code(), 0);
  struct stat after {};
  ASSERT_EQ(fstat(file.get(), &after), 0);
  EXPECT_EQ(after.st_mode, before.st_mode);
  EXPECT_EQ(after.st_mtim.tv_sec, before.st_mtim.tv_sec);
}

TEST_F(ConfinementTest, AFolderAsStandardInputIsRefused) {
  const UniqueFd folder(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const Outcome outcome = Run([](NativeContext&) { return 0; },
                              [&](InstanceSpec& spec) { spec.input_fd = folder.get(); });
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ConfinementTest, HostSocketsCannotBeReached) {
  const TemporaryFolder folder;
  const UniqueFd host(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, (folder.path() + "/s").c_str());
  ASSERT_EQ(bind(host.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  const auto grant = [&](InstanceSpec& spec) {
    spec.mounts = {Mount(folder.path(), "/data", Rights::kReadWrite)};
  };
  const auto reach = [](int type) {
    return [type] {
      int pair[2];
      if (socketpair(AF_UNIX, type, 0, pair) != 0) return -1L;
      sockaddr_un inside{};
      inside.sun_family = AF_UNIX;
      std::strcpy(inside.sun_path, "/data/s");
      return static_cast<long>(sendto(pair[0], "x", 1, MSG_NOSIGNAL,
                                      reinterpret_cast<sockaddr*>(&inside), sizeof inside));
    };
  };
  EXPECT_EQ(ErrnoOf(reach(SOCK_DGRAM), grant), EACCES);
  EXPECT_EQ(ErrnoOf(reach(SOCK_STREAM), grant), EISCONN);
  EXPECT_EQ(ErrnoOf([] { return open("/data/s", O_RDWR); }, grant), ENXIO);
  char byte;
  EXPECT_LT(recv(host.get(), &byte, 1, MSG_DONTWAIT), 0) << "something arrived";
}

TEST_F(ConfinementTest, GrantsHaveTheirRightsAndNoMore) {
  const TemporaryFolder folder;
  std::ofstream(folder.path() + "/secret") << "text";
  const auto read_only = [&](InstanceSpec& spec) {
    spec.mounts = {Mount(folder.path(), "/deep/er/data")};
  };
  const auto read_write = [&](InstanceSpec& spec) {
    spec.mounts = {Mount(folder.path(), "/data", Rights::kReadWrite)};
  };
  EXPECT_EQ(ErrnoOf([] { return open("/deep/er/data/secret", O_RDONLY); }, read_only), 0);
  EXPECT_EQ(ErrnoOf([] { return open("/deep/er/data/secret", O_RDWR); }, read_only), EROFS);
  EXPECT_EQ(ErrnoOf([] { return chmod("/deep/er/data/secret", 0777); }, read_only), EROFS);
  EXPECT_EQ(ErrnoOf([] { return open("/data/new", O_CREAT | O_WRONLY, 0600); }, read_write), 0);
  EXPECT_TRUE(std::filesystem::exists(folder.path() + "/new"));
  EXPECT_EQ(ErrnoOf([] { return mkfifo("/data/fifo", 0600); }, read_write), EACCES);
}

TEST_F(ConfinementTest, LinksAreFollowedInsideOnly) {
  const TemporaryFolder folder;
  std::filesystem::create_symlink("/etc/passwd", folder.path() + "/absolute");
  std::filesystem::create_symlink("../../../../etc/passwd", folder.path() + "/relative");
  const auto grant = [&](InstanceSpec& spec) { spec.mounts = {Mount(folder.path(), "/data")}; };
  EXPECT_EQ(ErrnoOf([] { return open("/data/absolute", O_RDONLY); }, grant), ENOENT);
  EXPECT_EQ(ErrnoOf([] { return open("/data/relative", O_RDONLY); }, grant), ENOENT);
}

TEST_F(ConfinementTest, AGrantedRootHidesKernelInterfaces) {
  const Outcome outcome = Run(
      [](NativeContext&) {
        if (open("/etc/passwd", O_RDONLY) < 0) return 1;
        if (open("/proc/self/status", O_RDONLY) >= 0) return 2;
        if (open("/sys/kernel/mm", O_RDONLY) >= 0) return 3;
        if (open("/dev/zero", O_RDONLY) < 0) return 4;
        if (open("/dev/kmsg", O_RDONLY) >= 0 || open("/dev/ptmx", O_RDONLY) >= 0) return 5;
        if (open("/tmp/mine", O_CREAT | O_WRONLY, 0600) < 0) return 6;
        return open("/waxvm-probe", O_CREAT | O_WRONLY, 0600) >= 0 ? 7 : 0;
      },
      [](InstanceSpec& spec) { spec.mounts = {Mount("/", "/")}; });
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.exit_code(), 0);
}

TEST_F(ConfinementTest, KernelFileSystemsAreNotGranted) {
  for (const char* path : {"/proc", "/proc/self", "/sys"}) {
    const Outcome outcome = Run([](NativeContext&) { return 0; },
                                [=](InstanceSpec& spec) { spec.mounts = {Mount(path, "/data")}; });
    EXPECT_EQ(outcome.status.code(), absl::StatusCode::kInvalidArgument) << path;
    EXPECT_THAT(std::string(outcome.status.message()), HasSubstr("kernel file system"));
  }
}

TEST_F(ConfinementTest, ASwappedFolderIsNotGranted) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder.path() + "/a");
  const FileMount mount = Mount(folder.path() + "/a", "/data");
  std::filesystem::remove(folder.path() + "/a");
  std::filesystem::create_directory(folder.path() + "/a");
  const Outcome outcome =
      Run([](NativeContext&) { return 0; }, [&](InstanceSpec& spec) { spec.mounts = {mount}; });
  EXPECT_FALSE(outcome.status.ok());
}

TEST_F(ConfinementTest, RandomnessNeedsItsGrant) {
  const auto draw = [](NativeContext& context) {
    std::byte bytes[8];
    const bool device = access("/dev/urandom", F_OK) == 0;
    return (context.ReadRandom(bytes).ok() ? 1 : 0) + (device ? 2 : 0);
  };
  const Outcome refused = Run(draw);
  EXPECT_EQ(refused.exit_code(), 0);
  EXPECT_EQ(refused.gate.Count("random:getrandom"), 1u);
  const Outcome granted = Run(draw, [](InstanceSpec& spec) {
    spec.random = std::make_shared<HostRandomForTest>();
    spec.host_random = true;
  });
  EXPECT_EQ(granted.exit_code(), 3);
  EXPECT_TRUE(granted.gate.denials.empty());
}

TEST_F(ConfinementTest, TheGateIsAskedOnceForEachGrant) {
  const TemporaryFolder folder;
  RecordingGate gate;
  gate.refused = {"file:/gone", "file:/read:write", "random:random"};
  const Outcome outcome = Run(
      [](NativeContext& context) {
        std::byte bytes[1];
        if (access("/gone", F_OK) == 0) return 1;
        if (open("/read/x", O_CREAT | O_WRONLY, 0600) >= 0 || errno != EROFS) return 2;
        if (open("/write/y", O_CREAT | O_WRONLY, 0600) < 0) return 3;
        return context.ReadRandom(bytes).ok() || access("/dev/urandom", F_OK) == 0 ? 4 : 0;
      },
      [&](InstanceSpec& spec) {
        spec.mounts = {Mount(folder.path(), "/gone"),
                       Mount(folder.path(), "/read", Rights::kReadWrite),
                       Mount(folder.path(), "/write", Rights::kReadWrite)};
        spec.random = std::make_shared<HostRandomForTest>();
        spec.host_random = true;
        spec.gate = &gate;
      });
  EXPECT_EQ(outcome.exit_code(), 0) << outcome.status;
  EXPECT_THAT(gate.asked, ::testing::ElementsAre("file:/gone", "file:/read:write", "file:/read",
                                                 "file:/write:write", "random:random"));
  EXPECT_THAT(gate.denials, ::testing::ElementsAre("file:/gone", "file:/read:write",
                                                   "random:random", "random:getrandom"));
}

TEST_F(ConfinementTest, AClockThatIsNotGrantedIsRecorded) {
  const Outcome outcome = Run([](NativeContext& context) { return context.ReadClock().ok(); });
  EXPECT_EQ(outcome.exit_code(), 0);
  EXPECT_EQ(outcome.gate.Count("clock:adjtimex"), 1u);
}

/// The numbers of `pid`'s status file whose names begin with "Cap", but for the bounding set.
std::string Capabilities(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  std::string all;
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("Cap") && !line.starts_with("CapBnd")) all += line.substr(8) + " ";
  }
  return all;
}

TEST_F(ConfinementTest, NoCapabilityCanBeRegained) {
  EXPECT_EQ(ErrnoOf([] { return prctl(PR_SET_SECUREBITS, 0); }), EINVAL);
  EXPECT_EQ(ErrnoOf([] { return prctl(PR_SET_KEEPCAPS, 1); }), EINVAL);
  EXPECT_EQ(ErrnoOf([] { return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 21, 0, 0); }), EINVAL);
  const Outcome outcome = Run([](NativeContext&) {
    // Root's powers are locked away, and no user id brings them back.
    if (prctl(PR_GET_SECUREBITS) != (SECURE_ALL_BITS | SECURE_ALL_LOCKS) - SECBIT_KEEP_CAPS)
      return 1;
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) return 2;
    if (setuid(0) == 0) return 3;
    for (unsigned capability = 0; capability < 64; ++capability) {
      for (int set = 0; set < 3; ++set) {
        __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
        __user_cap_data_struct data[2]{};
        auto& half = data[capability / 32];
        (set == 0   ? half.effective
         : set == 1 ? half.permitted
                    : half.inheritable) = 1u << capability % 32;
        // Bits of capabilities that do not exist are dropped.
        if (syscall(SYS_capset, &header, data) == 0 && capability <= CAP_LAST_CAP) return 4;
        if (syscall(SYS_capget, &header, data) != 0) return 5;
        if (half.effective != 0 || half.permitted != 0 || half.inheritable != 0) return 6;
      }
    }
    return 0;
  });
  EXPECT_EQ(outcome.exit_code(), 0);
}

TEST_F(ConfinementTest, AnExecBringsNoCapability) {
  InstanceSpec spec(Guest("host_call_musl"));
  spec.arguments = {"host_call_musl", "name"};
  auto instance = provider_->Create(spec);
  ASSERT_TRUE(instance.ok()) << instance.status();
  const auto event = (*instance)->Resume();
  ASSERT_TRUE(event.ok()) << event.status();
  ASSERT_TRUE(std::holds_alternative<HostCallRequest>(*event));
  const pid_t init = OnlyChild(getpid());
  const std::string none = "0000000000000000 0000000000000000 0000000000000000 0000000000000000 ";
  EXPECT_EQ(Capabilities(init), none);
  EXPECT_EQ(Capabilities(OnlyChild(init)), none);
}

}  // namespace
}  // namespace waxvm::process
