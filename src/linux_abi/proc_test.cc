// SPDX-License-Identifier: Apache-2.0
// /proc, /sys and /dev, through system calls.
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "src/linux_abi/testing/file_fixture.h"
#include "src/linux_abi/testing/host_directory.h"

namespace waxvm::linux_abi {
namespace {

class ProcTest : public FileFixture {
 protected:
  std::string Contents(std::string_view path) {
    const std::int64_t fd = Open(path, O_RDONLY);
    if (fd < 0) return "error " + std::to_string(-fd);
    std::string text = Read(fd, 65536);
    guest_.Call(SYS_close, fd);
    return text;
  }
  std::string Target(std::string_view path) {
    const std::uint64_t buffer = guest_.Reserve(4096);
    const std::int64_t n = guest_.Call(SYS_readlink, guest_.Put(path), buffer, 4096);
    return n < 0 ? "error " + std::to_string(-n) : guest_.Text(buffer, n);
  }
};

TEST_F(ProcTest, WhatTheProcessIs) {
  guest_.spec.arguments = {"/bin/prog", "one two"};
  guest_.spec.environment = {"A=1"};
  Start();
  EXPECT_EQ(Target("/proc/self"), "2");
  EXPECT_EQ(Target("/proc/self/exe"), "/bin/prog");
  EXPECT_EQ(Target("/proc/self/cwd"), "/");
  EXPECT_EQ(Target("/proc/thread-self"), "2/task/2");
  EXPECT_EQ(Contents("/proc/self/cmdline"), std::string("/bin/prog\0one two\0", 18));
  EXPECT_EQ(Contents("/proc/2/environ"), std::string("A=1\0", 4));
  EXPECT_EQ(Contents("/proc/thread-self/comm"), "prog\n");
  EXPECT_NE(Contents("/proc/self/maps").find("[stack]"), std::string::npos);
  EXPECT_NE(Contents("/proc/self/status").find("VmSize:"), std::string::npos);
  EXPECT_EQ(Contents("/proc/self/stat").rfind("2 (prog) R 1 2 2 0 -1 ", 0), 0u);
  EXPECT_EQ(Contents("/proc/self/nothing"), "error " + std::to_string(ENOENT));
}

TEST_F(ProcTest, TheProgramIsReadWhateverIsAtItsPath) {
  guest_.spec.arguments = {"/bin/prog"};
  Start();
  const image::ElfBuilder builder;
  const auto program = builder.Bytes();
  const std::string bytes(reinterpret_cast<const char*>(program.data()), program.size());
  EXPECT_EQ(Contents("/proc/self/exe"), bytes) << "nothing is at its path";
  guest_.Call(SYS_mkdir, guest_.Put("/bin"), 0755);
  ASSERT_EQ(Write(Open("/bin/prog", O_WRONLY | O_CREAT), "another"), 7);
  EXPECT_EQ(Contents("/proc/self/exe"), bytes);
  EXPECT_EQ(Contents("/proc/thread-self/exe"), bytes);
  const std::int64_t fd = Open("/proc/self/exe", O_RDONLY);
  EXPECT_EQ(guest_.Call(SYS_lseek, fd, -4, SEEK_END), static_cast<int>(bytes.size()) - 4);
  EXPECT_EQ(Read(fd, 100), bytes.substr(bytes.size() - 4));
  EXPECT_EQ(Target("/proc/self/fd/" + std::to_string(fd)), "/bin/prog");
  const std::uint64_t name = guest_.Put("/proc/self/exe");
  const std::uint64_t room = guest_.Reserve(sizeof(struct stat));
  EXPECT_EQ(guest_.Call(SYS_stat, name, room), 0);
  const auto found = guest_.Object<struct stat>(room);
  const struct stat opened = FStat(fd);
  EXPECT_EQ(opened.st_ino, found.st_ino);
  EXPECT_EQ(opened.st_mode, mode_t{S_IFREG | 0555});
  EXPECT_EQ(opened.st_size, static_cast<off_t>(bytes.size()));
  EXPECT_EQ(Open("/proc/self/exe", O_RDWR), -ETXTBSY);
  EXPECT_EQ(Open("/proc/self/exe", O_RDONLY | O_TRUNC), -ETXTBSY);
  EXPECT_EQ(Open("/proc/self/exe", O_RDONLY | O_NOFOLLOW), -ELOOP);
  EXPECT_EQ(Open("/proc/self/exe/x", O_RDONLY), -ENOTDIR);
  EXPECT_EQ(Write(fd, "x"), -EBADF);
}

TEST_F(ProcTest, SignalsInStatus) {
  Start();
  const std::string before = Contents("/proc/self/status");
  EXPECT_NE(before.find("SigQ:\t0/1024\nSigPnd:\t0000000000000000\n"), std::string::npos);
  const std::array<std::uint64_t, 4> handler = {0x401000, 0, 0, 0};
  const std::array<std::uint64_t, 4> ignore = {1, 0, 0, 0};
  ASSERT_EQ(guest_.Call(SYS_rt_sigaction, SIGUSR1, guest_.PutObject(handler), 0, 8), 0);
  ASSERT_EQ(guest_.Call(SYS_rt_sigaction, SIGPIPE, guest_.PutObject(ignore), 0, 8), 0);
  const std::uint64_t blocked = SignalBit(SIGUSR1) | SignalBit(SIGTERM);
  ASSERT_EQ(guest_.Call(SYS_rt_sigprocmask, SIG_BLOCK, guest_.PutObject(blocked), 0, 8), 0);
  ASSERT_EQ(guest_.Call(SYS_tkill, Process::kPid, SIGUSR1), 0);
  ASSERT_EQ(guest_.Call(SYS_kill, Process::kPid, SIGTERM), 0);
  const std::string after = Contents("/proc/self/status");
  EXPECT_NE(after.find("Threads:\t1\nSigQ:\t2/1024\nSigPnd:\t0000000000000200\n"
                       "ShdPnd:\t0000000000004000\nSigBlk:\t0000000000004200\n"
                       "SigIgn:\t0000000000001000\nSigCgt:\t0000000000000200\n"),
            std::string::npos)
      << after;
}

TEST_F(ProcTest, CpuTimeInStatWhereTheClockIsGranted) {
  guest_.spec.arguments = {"/bin/prog"};
  Start();
  guest_.host.cpu_time = std::chrono::milliseconds(1234);
  const auto user_time = [](const std::string& line) {
    std::size_t at = line.find(')');
    for (int field = 2; field < 14 && at != std::string::npos; ++field) at = line.find(' ', at + 1);
    return at == std::string::npos ? "?" : line.substr(at + 1, line.find(' ', at + 1) - at - 1);
  };
  EXPECT_EQ(user_time(Contents("/proc/self/stat")), "0");
  guest_.spec.clock = std::make_shared<FakeClock>();
  EXPECT_EQ(user_time(Contents("/proc/self/stat")), "123");
  EXPECT_EQ(user_time(Contents("/proc/thread-self/stat")), "123");
}

TEST_F(ProcTest, WhatTheMachineIs) {
  Start();
  EXPECT_NE(Contents("/proc/meminfo").find("MemTotal:"), std::string::npos);
  EXPECT_NE(Contents("/proc/cpuinfo").find("processor\t: 0"), std::string::npos);
  EXPECT_EQ(Contents("/proc/sys/kernel/ostype"), "Linux\n");
  EXPECT_EQ(Contents("/sys/devices/system/cpu/online"), "0\n");
  EXPECT_EQ(Contents("/proc/sys/kernel/random/uuid"), "error " + std::to_string(EACCES))
      << "randomness is not granted";
  EXPECT_NE(Contents("/proc/uptime").find("946684800.00"), std::string::npos) << "nor is the clock";
  EXPECT_EQ(Open("/proc/new", O_CREAT | O_RDWR), -ENOENT);
  EXPECT_EQ(Open("/sys/new", O_CREAT | O_RDWR), -EACCES);
  EXPECT_EQ(guest_.Call(SYS_mkdir, guest_.Put("/proc/self/new"), 0755), -ENOENT);
  EXPECT_EQ(guest_.Call(SYS_mkdir, guest_.Put("/sys/new"), 0755), -EPERM);
  EXPECT_EQ(guest_.Call(SYS_unlink, guest_.Put("/proc/version")), -EPERM);
  EXPECT_EQ(guest_.Call(SYS_rmdir, guest_.Put("/proc")), -EBUSY);
}

TEST_F(ProcTest, DescriptorsByName) {
  Start();
  const std::int64_t file = Open("/tmp/a", O_RDWR | O_CREAT);
  Write(file, "text");
  const std::string name = "/proc/self/fd/" + std::to_string(file);
  EXPECT_EQ(Target(name), "/tmp/a");
  const std::int64_t again = Open(name, O_RDONLY);
  EXPECT_EQ(Read(again, 10), "text") << "at an offset of its own";
  guest_.Call(SYS_unlink, guest_.Put("/tmp/a"));
  EXPECT_EQ(Target(name), "/a (deleted)");
  EXPECT_EQ(Contents(name), "text") << "though it has no name any more";
  const auto [reader, writer] = Pipe();
  EXPECT_EQ(Target("/proc/self/fd/" + std::to_string(reader)).rfind("pipe:[", 0), 0u);
  const std::int64_t second = Open("/proc/self/fd/" + std::to_string(reader), O_WRONLY);
  EXPECT_EQ(Write(second, "in"), 2);
  EXPECT_EQ(Read(reader, 10), "in");
  const std::int64_t out = Open("/dev/stdout", O_WRONLY | O_CREAT | O_TRUNC);
  EXPECT_EQ(Write(out, "said"), 4);
  EXPECT_EQ(guest_.host.output, "said");
  EXPECT_EQ(Open("/proc/self/fd/99", O_RDONLY), -ENOENT);
  EXPECT_EQ(Contents("/proc/self/fdinfo/" + std::to_string(file)).rfind("pos:\t4\n", 0), 0u);
}

TEST_F(ProcTest, GrantedFilesAreOpenedAgainWithinTheirRights) {
  HostDirectory folder;
  folder.MakeFile("f", "host");
  guest_.Mount(folder.path(), "/data", Rights::kReadOnly);
  Start();
  const std::int64_t file = Open("/data/f", O_RDONLY);
  const std::string name = "/proc/self/fd/" + std::to_string(file);
  EXPECT_EQ(Contents(name), "host");
  EXPECT_EQ(Open(name, O_RDWR), -EROFS);
  EXPECT_EQ(Open(name, O_RDONLY | O_TRUNC), -EROFS);
}

TEST_F(ProcTest, Fifos) {
  Start();
  EXPECT_EQ(guest_.Call(SYS_mknod, guest_.Put("/tmp/p"), S_IFIFO | 0600, 0), 0);
  EXPECT_EQ(Open("/tmp/p", O_WRONLY | O_NONBLOCK), -ENXIO);
  const std::int64_t reader = Open("/tmp/p", O_RDONLY | O_NONBLOCK);
  ASSERT_GE(reader, 0);
  EXPECT_EQ(Read(reader, 1), "") << "no writer yet";
  const std::int64_t writer = Open("/tmp/p", O_WRONLY);
  ASSERT_GE(writer, 0);
  EXPECT_EQ(Write(writer, "x"), 1);
  EXPECT_EQ(Read(reader, 1), "x");
  EXPECT_EQ(FStat(reader).st_mode, mode_t{S_IFIFO | 0600});
  EXPECT_EQ(guest_.Call(SYS_mknod, guest_.Put("/tmp/q"), S_IFIFO | 0600, 0), 0);
  EXPECT_EQ(Open("/tmp/q", O_WRONLY), FakeProcess::kEnded) << "it sleeps";
}

}  // namespace
}  // namespace waxvm::linux_abi
