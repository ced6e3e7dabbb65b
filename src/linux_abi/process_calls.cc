// SPDX-License-Identifier: Apache-2.0
// Identity, limits and the end of the process.
#include <asm/prctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>

#include "src/linux_abi/fixed_answers.h"
#include "src/linux_abi/process.h"

namespace waxvm::linux_abi {
namespace {

std::int64_t Exit(Process& process, const SyscallArguments& a) {
  process.End(Exited{static_cast<int>(a[0] & 0xff)});
  return 0;
}

std::int64_t Getpid(Process&, const SyscallArguments&) { return Process::kPid; }
std::int64_t Getppid(Process&, const SyscallArguments&) { return 1; }

// The program is root in a world of its own, where that means nothing.
std::int64_t Zero(Process&, const SyscallArguments&) { return 0; }

// The raw call returns 20 minus the nice value.
std::int64_t Getpriority(Process&, const SyscallArguments&) { return 20; }

std::int64_t Getresid(Process& process, const SyscallArguments& a) {
  constexpr std::uint32_t kRoot = 0;
  for (int i = 0; i < 3; ++i)
    if (!process.memory().WriteObject(a[static_cast<std::size_t>(i)], kRoot)) return -EFAULT;
  return 0;
}

std::int64_t SetId(Process&, const SyscallArguments& a) {
  for (int i = 0; i < 3; ++i) {
    const auto id = static_cast<std::int32_t>(a[static_cast<std::size_t>(i)]);
    if (i == 0 && id != 0 && id != -1) return -EPERM;
  }
  return 0;
}

std::int64_t Getpgid(Process&, const SyscallArguments& a) {
  const auto pid = static_cast<std::int32_t>(a[0]);
  return pid == 0 || pid == Process::kPid ? std::int64_t{Process::kPid} : -ESRCH;
}

std::int64_t Setpgid(Process&, const SyscallArguments& a) {
  const auto pid = static_cast<std::int32_t>(a[0]);
  return pid == 0 || pid == Process::kPid ? 0 : -ESRCH;
}

std::int64_t Wait4(Process&, const SyscallArguments&) { return -ECHILD; }

std::int64_t Uname(Process& process, const SyscallArguments& a) {
  utsname name{};
  const auto put = [](char* field, std::string_view text) {
    std::memcpy(field, text.data(), text.size());
  };
  put(name.sysname, "Linux");
  put(name.nodename, "waxvm");
  put(name.release, "6.1.0-waxvm");
  put(name.version, "#1 waxvm");
  put(name.machine, "x86_64");
  put(name.domainname, "(none)");
  return process.memory().WriteObject(a[0], name) ? 0 : -EFAULT;
}

std::int64_t Sysinfo(Process& process, const SyscallArguments& a) {
  struct sysinfo info {};
  info.totalram = process.account().limit_bytes();
  info.freeram = process.account().free_bytes();
  info.procs = static_cast<unsigned short>(process.scheduler().threads().size());
  info.mem_unit = 1;
  return process.memory().WriteObject(a[0], info) ? 0 : -EFAULT;
}

rlimit LimitOf(Process& process, std::uint64_t resource) {
  const Limits& limits = process.spec().limits;
  constexpr std::uint64_t kDefaultOpenFiles = 1024;
  switch (resource) {
    case RLIMIT_STACK:
      return {kStackBytes, kStackBytes};
    case RLIMIT_NOFILE: {
      const std::uint64_t files = limits.open_files.value_or(kDefaultOpenFiles);
      return {files, files};
    }
    case RLIMIT_NPROC: {
      const std::uint64_t threads = MaxThreads(limits);
      return {threads, threads};
    }
    case RLIMIT_CORE:
      return {0, 0};
    default:
      return {RLIM_INFINITY, RLIM_INFINITY};
  }
}

std::int64_t Getrlimit(Process& process, const SyscallArguments& a) {
  if (a[0] >= RLIM_NLIMITS) return -EINVAL;
  return process.memory().WriteObject(a[1], LimitOf(process, a[0])) ? 0 : -EFAULT;
}

std::int64_t Setrlimit(Process& process, const SyscallArguments& a) {
  rlimit wanted;
  if (a[0] >= RLIM_NLIMITS) return -EINVAL;
  if (!process.memory().ReadObject(a[1], wanted)) return -EFAULT;
  if (wanted.rlim_cur > wanted.rlim_max) return -EINVAL;
  return wanted.rlim_max > LimitOf(process, a[0]).rlim_max ? -EPERM : 0;
}

std::int64_t Prlimit64(Process& process, const SyscallArguments& a) {
  const auto pid = static_cast<std::int32_t>(a[0]);
  if (pid != 0 && pid != Process::kPid) return -ESRCH;
  const rlimit before = LimitOf(process, a[1]);
  if (a[1] >= RLIM_NLIMITS) return -EINVAL;
  if (a[2] != 0)
    if (const std::int64_t error = Setrlimit(process, {a[1], a[2]}); error < 0) return error;
  if (a[3] != 0 && !process.memory().WriteObject(a[3], before)) return -EFAULT;
  return 0;
}

std::int64_t ArchPrctl(Process& process, const SyscallArguments& a) {
  CpuRegisters registers = process.host().Registers();
  switch (a[0]) {
    case ARCH_SET_FS:
    case ARCH_SET_GS:
      // A non-canonical base would be refused by the CPU when the guest runs next.
      if (a[1] >= kUserEnd) return -EPERM;
      if (a[0] == ARCH_SET_FS)
        registers.fs_base = a[1];
      else
        registers.gs_base = a[1];
      process.host().SetRegisters(registers);
      return 0;
    case ARCH_GET_FS:
      return process.memory().WriteObject(a[1], registers.fs_base) ? 0 : -EFAULT;
    case ARCH_GET_GS:
      return process.memory().WriteObject(a[1], registers.gs_base) ? 0 : -EFAULT;
    default:
      return -EINVAL;
  }
}

std::int64_t SetName(Process& process, std::uint64_t address) {
  std::array<char, 16>& name = process.thread().name;
  std::string given;
  // Longer names are cut, and the string may end where memory does.
  const std::int64_t read = process.memory().ReadString(address, name.size() - 1, given);
  if (read < 0 && read != -ENAMETOOLONG) return read;
  name.fill('\0');
  std::ranges::copy(given, name.begin());
  return 0;
}

std::int64_t Prctl(Process& process, const SyscallArguments& a) {
  switch (a[0]) {
    case PR_SET_NAME:
      return SetName(process, a[1]);
    case PR_GET_NAME:
      return process.memory().WriteObject(a[1], process.thread().name) ? 0 : -EFAULT;
    case PR_SET_NO_NEW_PRIVS:
      return 0;
    case PR_GET_NO_NEW_PRIVS:
      return 1;
    case PR_GET_DUMPABLE:
    case PR_SET_DUMPABLE:
    case PR_SET_PDEATHSIG:
      return 0;
    default:
      return -EINVAL;
  }
}

std::int64_t Personality(Process&, const SyscallArguments& a) {
  return a[0] == 0 || a[0] == 0xffffffff ? 0 : -EINVAL;
}

constexpr std::string_view kKept = "the only ids are 0";
constexpr std::string_view kFixedLimits =
    "limits are the instance's: they can be lowered in name only";

constexpr SyscallEntry kCalls[] = {
    {SYS_exit_group, "exit_group", Exit},
    {SYS_getpid, "getpid", Getpid},
    {SYS_getppid, "getppid", Getppid},
    {SYS_getuid, "getuid", Zero},
    {SYS_geteuid, "geteuid", Zero},
    {SYS_getgid, "getgid", Zero},
    {SYS_getegid, "getegid", Zero},
    {SYS_getgroups, "getgroups", Zero},
    {SYS_getresuid, "getresuid", Getresid},
    {SYS_getresgid, "getresgid", Getresid},
    {SYS_setuid, "setuid", SetId, Support::kPartial, kKept},
    {SYS_setgid, "setgid", SetId, Support::kPartial, kKept},
    {SYS_setreuid, "setreuid", SetId, Support::kPartial, kKept},
    {SYS_setregid, "setregid", SetId, Support::kPartial, kKept},
    {SYS_setresuid, "setresuid", SetId, Support::kPartial, kKept},
    {SYS_setresgid, "setresgid", SetId, Support::kPartial, kKept},
    {SYS_setgroups, "setgroups", Zero, Support::kPartial, kKept},
    {SYS_getpgrp, "getpgrp", Getpid},
    {SYS_getpgid, "getpgid", Getpgid},
    {SYS_setpgid, "setpgid", Setpgid, Support::kPartial, "one process group"},
    {SYS_getsid, "getsid", Getpgid},
    {SYS_setsid, "setsid", Getpid, Support::kPartial, "one session"},
    {SYS_getpriority, "getpriority", Getpriority, Support::kPartial, "always the default"},
    {SYS_setpriority, "setpriority", Zero, Support::kPartial, "accepted, without effect"},
    {SYS_wait4, "wait4", Wait4, Support::kPartial, "there are no children"},
    {SYS_waitid, "waitid", Wait4, Support::kPartial, "there are no children"},
    {SYS_uname, "uname", Uname},
    {SYS_sysinfo, "sysinfo", Sysinfo, Support::kPartial, "memory and threads only"},
    {SYS_getrlimit, "getrlimit", Getrlimit},
    {SYS_setrlimit, "setrlimit", Setrlimit, Support::kPartial, kFixedLimits},
    {SYS_prlimit64, "prlimit64", Prlimit64, Support::kPartial, kFixedLimits},
    {SYS_arch_prctl, "arch_prctl", ArchPrctl},
    {SYS_prctl, "prctl", Prctl, Support::kPartial, "a few options"},
    {SYS_personality, "personality", Personality, Support::kPartial, "PER_LINUX only"},
};

// gettid's is that of the first thread; who runs another changes it in the machine.
constexpr FixedAnswer kFixedAnswers[] = {
    {SYS_getpid, Process::kPid},
    {SYS_gettid, Process::kPid},
    {SYS_getppid, 1},
    {SYS_getpgrp, Process::kPid},
    {SYS_getuid, 0},
    {SYS_geteuid, 0},
    {SYS_getgid, 0},
    {SYS_getegid, 0},
};

}  // namespace

std::span<const FixedAnswer> FixedAnswers() { return kFixedAnswers; }

std::span<const SyscallEntry> ProcessCalls() { return kCalls; }

}  // namespace waxvm::linux_abi
