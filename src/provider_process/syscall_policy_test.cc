// SPDX-License-Identifier: Apache-2.0
#include "src/provider_process/syscall_policy.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <random>

#include "gtest/gtest.h"
#include "src/provider_process/filter_program.h"
#include "waxvm/abi/host_call.h"

namespace waxvm::process {
namespace {

/// The part of classic BPF that seccomp programs use, so that the filter is judged without a
/// kernel. Spec: seccomp(2), Linux Documentation/networking/filter.rst.
std::uint32_t Evaluate(const std::vector<sock_filter>& code, const seccomp_data& data) {
  std::uint32_t a = 0;
  for (std::size_t pc = 0; pc < code.size(); ++pc) {
    const sock_filter& op = code[pc];
    const auto jump = [&](bool taken) { pc += taken ? op.jt : op.jf; };
    switch (op.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        std::memcpy(&a, reinterpret_cast<const char*>(&data) + op.k, sizeof a);
        break;
      case BPF_ALU | BPF_AND | BPF_K:
        a &= op.k;
        break;
      case BPF_JMP | BPF_JA:
        pc += op.k;
        break;
      case BPF_JMP | BPF_JEQ | BPF_K:
        jump(a == op.k);
        break;
      case BPF_JMP | BPF_JGT | BPF_K:
        jump(a > op.k);
        break;
      case BPF_JMP | BPF_JGE | BPF_K:
        jump(a >= op.k);
        break;
      case BPF_RET | BPF_K:
        return op.k;
      default:
        ADD_FAILURE() << "instruction " << op.code << " at " << pc;
        return SECCOMP_RET_KILL_PROCESS;
    }
  }
  ADD_FAILURE() << "ran off the end";
  return SECCOMP_RET_KILL_PROCESS;
}

class SyscallPolicyTest : public ::testing::Test {
 protected:
  void Build(const PolicyOptions& options) {
    auto code = BuildFilter(options);
    ASSERT_TRUE(code.ok()) << code.status();
    code_ = *std::move(code);
    ASSERT_LE(code_.size(), std::size_t{BPF_MAXINSNS});
  }
  std::uint32_t Call(long number, std::uint64_t a = 0, std::uint64_t b = 0, std::uint64_t c = 0,
                     std::uint32_t arch = AUDIT_ARCH_X86_64) {
    const seccomp_data data{static_cast<int>(number), arch, 0, {a, b, c, 0, 0, 0}};
    return Evaluate(code_, data);
  }

  static constexpr std::uint32_t kAllow = SECCOMP_RET_ALLOW;
  static constexpr std::uint32_t kNotify = SECCOMP_RET_USER_NOTIF;
  static constexpr std::uint32_t kAbsent = SECCOMP_RET_ERRNO | ENOSYS;

  std::vector<sock_filter> code_;
};

TEST(FilterProgramTest, EveryNumberGetsItsVerdict) {
  constexpr std::uint32_t kRefused = SECCOMP_RET_ERRNO | EPERM, kUnknown = SECCOMP_RET_ERRNO | 1000;
  std::minstd_rand random(1);
  for (int round = 0; round < 200; ++round) {
    FilterTable table{.refuse = kRefused, .unknown = kUnknown, .absent = {}, .allowed = {}};
    const unsigned density = random() % 8 + 1;
    std::map<int, std::uint32_t> verdicts;
    for (int number = 0; number < 300; ++number) {
      verdicts[number] = kRefused;
      if (random() % 16 < density) {
        table.allowed[number];
        verdicts[number] = SECCOMP_RET_ALLOW;
      } else if (random() % 64 == 0) {
        table.absent.push_back(number);
        verdicts[number] = kUnknown;
      }
    }
    const auto code = CompileFilter(table);
    ASSERT_TRUE(code.ok()) << code.status();
    verdicts[300] = verdicts[0x3fffffff] = kRefused;
    verdicts[0x40000000] = verdicts[0x7fffffff] = verdicts[-1] = kUnknown;
    for (const auto& [number, verdict] : verdicts) {
      ASSERT_EQ(Evaluate(*code, {number, AUDIT_ARCH_X86_64, 0, {}}), verdict) << number;
      ASSERT_EQ(Evaluate(*code, {number, AUDIT_ARCH_I386, 0, {}}), kUnknown) << number;
    }
  }
}

TEST(FilterProgramTest, AllTestsOfACallMustPass) {
  FilterTable table{.refuse = 1, .unknown = 2, .absent = {}, .allowed = {}};
  table.allowed[7] = {{0, {3, 4}}, {5, {0x10, 0x20}, 0xf0}};
  const auto code = CompileFilter(table);
  ASSERT_TRUE(code.ok()) << code.status();
  const auto verdict = [&](std::uint64_t first, std::uint64_t last) {
    return Evaluate(*code, {7, AUDIT_ARCH_X86_64, 0, {first, 0, 0, 0, 0, last}});
  };
  EXPECT_EQ(verdict(3, 0x1f), SECCOMP_RET_ALLOW);
  EXPECT_EQ(verdict(0xff00000004, 0xff00000020), SECCOMP_RET_ALLOW) << "the low half counts";
  EXPECT_EQ(verdict(5, 0x10), 1u);
  EXPECT_EQ(verdict(3, 0x30), 1u);
}

TEST(FilterProgramTest, ATableTooLargeForItsJumpsIsRefused) {
  FilterTable table;
  for (int number = 0; number < 2000; number += 2) table.allowed[number] = {{0, {1, 2, 3}}};
  EXPECT_EQ(CompileFilter(table).status().code(), absl::StatusCode::kInternal);
}

TEST_F(SyscallPolicyTest, TheReservedNumberAndForeignEntriesDoNotExist) {
  Build({});
  EXPECT_EQ(Call(WAXVM_HOST_CALL_NUMBER), kAbsent);
  EXPECT_EQ(Call(0x40000000 | SYS_read), kAbsent) << "x32";
  EXPECT_EQ(Call(0x40000000 | 520), kAbsent) << "x32 execve";
  EXPECT_EQ(Call(11, 0, 0, 0, AUDIT_ARCH_I386), kAbsent) << "int 0x80 execve";
  EXPECT_EQ(Call(SYS_clone3), kAbsent);
}

TEST_F(SyscallPolicyTest, DangerousCallsAreNotLetThrough) {
  for (const bool notify : {true, false}) {
    Build({.random = true, .notify = notify});
    for (const long number : {SYS_mount,
                              SYS_umount2,
                              SYS_move_mount,
                              SYS_open_tree,
                              SYS_fsopen,
                              SYS_mount_setattr,
                              SYS_pivot_root,
                              SYS_chroot,
                              SYS_setns,
                              SYS_unshare,
                              SYS_ptrace,
                              SYS_process_vm_readv,
                              SYS_process_vm_writev,
                              SYS_kcmp,
                              SYS_pidfd_getfd,
                              SYS_bpf,
                              SYS_perf_event_open,
                              SYS_userfaultfd,
                              SYS_io_uring_setup,
                              SYS_io_uring_enter,
                              SYS_io_uring_register,
                              SYS_keyctl,
                              SYS_add_key,
                              SYS_request_key,
                              SYS_kexec_load,
                              SYS_kexec_file_load,
                              SYS_init_module,
                              SYS_finit_module,
                              SYS_delete_module,
                              SYS_open_by_handle_at,
                              SYS_name_to_handle_at,
                              SYS_quotactl,
                              SYS_reboot,
                              SYS_swapon,
                              SYS_swapoff,
                              SYS_sethostname,
                              SYS_setdomainname,
                              SYS_settimeofday,
                              SYS_clock_settime,
                              SYS_adjtimex,
                              SYS_clock_adjtime,
                              SYS_syslog,
                              SYS_acct,
                              SYS_ioperm,
                              SYS_iopl,
                              SYS_modify_ldt,
                              SYS_socket,
                              SYS_connect,
                              SYS_bind,
                              SYS_listen,
                              SYS_accept,
                              SYS_accept4,
                              SYS_setsockopt,
                              SYS_fanotify_init,
                              SYS_lookup_dcookie,
                              SYS_mbind,
                              SYS_migrate_pages,
                              SYS_move_pages,
                              SYS_vhangup,
                              SYS_nfsservctl,
                              SYS_seccomp,
                              SYS_process_madvise,
                              SYS_sched_setscheduler,
                              SYS_sched_setattr,
                              SYS_ioprio_set}) {
      EXPECT_NE(Call(number), kAllow) << SystemCallName(static_cast<int>(number));
    }
  }
}

TEST_F(SyscallPolicyTest, RandomnessNeedsItsGrant) {
  Build({});
  EXPECT_EQ(Call(SYS_getrandom), kNotify);
  Build({.random = true});
  EXPECT_EQ(Call(SYS_getrandom), kAllow);
}

TEST_F(SyscallPolicyTest, ArgumentsAreComparedAsTheKernelReadsThem) {
  Build({});
  EXPECT_EQ(Call(SYS_ioctl, 0, TCGETS), kAllow);
  EXPECT_EQ(Call(SYS_ioctl, 0, 0xdeadbeef00000000 | TCGETS), kAllow);
  EXPECT_EQ(Call(SYS_ioctl, 0, TIOCSTI), kNotify);
  EXPECT_EQ(Call(SYS_ioctl, 0, 0x100000000 | TIOCSTI), kNotify) << "the kernel drops the high half";
  EXPECT_EQ(Call(SYS_ioctl, 0, TCSETS), kNotify);
  EXPECT_EQ(Call(SYS_prlimit64, 0), kAllow);
  EXPECT_EQ(Call(SYS_prlimit64, 1), kNotify) << "pid 1 runs under the same id";
  EXPECT_EQ(Call(SYS_fcntl, 0, F_SETLEASE), kNotify);
  EXPECT_EQ(Call(SYS_mknodat, 0, 0, S_IFIFO | 0600), kAllow);
  EXPECT_EQ(Call(SYS_mknodat, 0, 0, S_IFBLK | 0600), kNotify);
  EXPECT_EQ(Call(SYS_mknodat, 0, 0, S_IFSOCK | 0600), kNotify);
  EXPECT_EQ(Call(SYS_personality, 0x0400000), kNotify);
}

TEST_F(SyscallPolicyTest, OnlyConnectedPairsThatCannotBeAddressed) {
  Build({});
  EXPECT_EQ(Call(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC), kAllow);
  EXPECT_EQ(Call(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET), kAllow);
  EXPECT_EQ(Call(SYS_socketpair, AF_UNIX, SOCK_DGRAM), kNotify);
  EXPECT_EQ(Call(SYS_socketpair, AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK), kNotify);
  EXPECT_EQ(Call(SYS_socketpair, AF_INET, SOCK_STREAM), kNotify);
}

TEST_F(SyscallPolicyTest, ForksAreAnnouncedOrFreeOfNamespaces) {
  Build({});
  EXPECT_EQ(Call(SYS_clone, SIGCHLD), kNotify);
  EXPECT_EQ(Call(SYS_fork), kNotify);
  EXPECT_TRUE(IsFork(SYS_clone, SIGCHLD | CLONE_VM));
  EXPECT_TRUE(IsFork(SYS_vfork, CLONE_NEWUSER)) << "has no flags";
  EXPECT_FALSE(IsFork(SYS_unshare, 0));
  Build({.notify = false});
  EXPECT_EQ(Call(SYS_clone, SIGCHLD), kAllow);
  for (const int flag : {CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC,
                         CLONE_NEWUTS, CLONE_NEWCGROUP}) {
    EXPECT_NE(Call(SYS_clone, static_cast<unsigned>(flag) | SIGCHLD), kAllow);
    EXPECT_FALSE(IsFork(SYS_clone, static_cast<unsigned>(flag) | SIGCHLD));
  }
}

TEST_F(SyscallPolicyTest, OpensAreAnnouncedWhereTheyAreCounted) {
  Build({.announce_opens = true});
  EXPECT_EQ(Call(SYS_openat), kNotify);
  EXPECT_EQ(Call(SYS_fcntl, 0, F_DUPFD_CLOEXEC), kNotify);
  EXPECT_EQ(Call(SYS_fcntl, 0, F_GETFL), kAllow);
  EXPECT_EQ(Call(SYS_dup2), kAllow);
  EXPECT_EQ(DescriptorsOpened(SYS_pipe2, 0, 0), 2);
  EXPECT_EQ(DescriptorsOpened(SYS_openat, 0, 0), 1);
  EXPECT_EQ(DescriptorsOpened(SYS_socketpair, AF_UNIX, SOCK_STREAM), 2);
  EXPECT_EQ(DescriptorsOpened(SYS_socketpair, AF_UNIX, SOCK_DGRAM), 0) << "refused";
  EXPECT_EQ(DescriptorsOpened(SYS_fcntl, 0, F_SETLEASE), 0) << "refused";
  EXPECT_EQ(DescriptorsOpened(SYS_mount, 0, 0), 0);
}

TEST_F(SyscallPolicyTest, RefusalsHaveNamesAndUsefulErrors) {
  EXPECT_EQ(SystemCallName(SYS_mount), "mount");
  EXPECT_EQ(SystemCallName(100000), "syscall_100000");
  EXPECT_EQ(RefusalErrno(SYS_mount), EPERM);
  EXPECT_EQ(RefusalErrno(SYS_socket), EACCES);
  EXPECT_EQ(RefusalErrno(SYS_io_uring_setup), ENOSYS);
  EXPECT_EQ(RefusalErrno(457), ENOSYS);
  EXPECT_EQ(RefusalErrno(-1), ENOSYS);
}

}  // namespace
}  // namespace waxvm::process
