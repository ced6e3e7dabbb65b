// SPDX-License-Identifier: Apache-2.0
#include "src/provider_process/syscall_policy.h"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "absl/strings/str_format.h"
#include "src/provider_process/filter_program.h"

namespace waxvm::process {
namespace {

// Calls that act on the program's own memory, descriptors, files, threads and children only.
constexpr int kAllowed[] = {
    // memory
    SYS_brk, SYS_mmap, SYS_munmap, SYS_mprotect, SYS_mremap, SYS_madvise, SYS_msync, SYS_mincore,
    SYS_mlock, SYS_mlock2, SYS_munlock, SYS_mlockall, SYS_munlockall, SYS_membarrier, SYS_rseq,
    SYS_pkey_alloc, SYS_pkey_free, SYS_pkey_mprotect,
    // descriptors
    SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_pwrite64, SYS_preadv, SYS_pwritev,
    SYS_preadv2, SYS_pwritev2, SYS_lseek, SYS_close, SYS_close_range, SYS_dup2, SYS_dup3,
    SYS_sendfile, SYS_splice, SYS_tee, SYS_vmsplice, SYS_copy_file_range, SYS_fsync, SYS_fdatasync,
    SYS_sync_file_range, SYS_readahead, SYS_fadvise64, SYS_fallocate, SYS_flock, SYS_poll,
    SYS_ppoll, SYS_select, SYS_pselect6, SYS_epoll_ctl, SYS_epoll_wait, SYS_epoll_pwait,
    SYS_epoll_pwait2, SYS_timerfd_settime, SYS_timerfd_gettime, SYS_inotify_add_watch,
    SYS_inotify_rm_watch,
    // the streams and sockets it already has
    SYS_sendto, SYS_sendmsg, SYS_sendmmsg, SYS_recvfrom, SYS_recvmsg, SYS_recvmmsg, SYS_shutdown,
    SYS_getsockname, SYS_getpeername, SYS_getsockopt,
    // files
    SYS_stat, SYS_lstat, SYS_fstat, SYS_newfstatat, SYS_statx, SYS_statfs, SYS_fstatfs, SYS_access,
    SYS_faccessat, SYS_faccessat2, SYS_getcwd, SYS_chdir, SYS_fchdir, SYS_getdents, SYS_getdents64,
    SYS_readlink, SYS_readlinkat, SYS_rename, SYS_renameat, SYS_renameat2, SYS_mkdir, SYS_mkdirat,
    SYS_rmdir, SYS_unlink, SYS_unlinkat, SYS_link, SYS_linkat, SYS_symlink, SYS_symlinkat,
    SYS_chmod, SYS_fchmod, SYS_fchmodat, SYS_chown, SYS_fchown, SYS_lchown, SYS_fchownat,
    SYS_truncate, SYS_ftruncate, SYS_utime, SYS_utimes, SYS_futimesat, SYS_utimensat, SYS_umask,
    SYS_getxattr, SYS_lgetxattr, SYS_fgetxattr, SYS_listxattr, SYS_llistxattr, SYS_flistxattr,
    SYS_setxattr, SYS_lsetxattr, SYS_fsetxattr, SYS_removexattr, SYS_lremovexattr, SYS_fremovexattr,
    SYS_sync, SYS_syncfs,
    // threads, processes, signals
    SYS_exit, SYS_exit_group, SYS_execve, SYS_execveat, SYS_wait4, SYS_waitid, SYS_futex,
    SYS_futex_waitv, SYS_set_tid_address, SYS_set_robust_list, SYS_get_robust_list, SYS_sched_yield,
    SYS_sched_getaffinity, SYS_sched_setaffinity, SYS_sched_getparam, SYS_sched_getscheduler,
    SYS_sched_get_priority_max, SYS_sched_get_priority_min, SYS_sched_rr_get_interval,
    SYS_sched_getattr, SYS_getpriority, SYS_setpriority, SYS_getcpu, SYS_arch_prctl, SYS_kill,
    SYS_tkill, SYS_tgkill, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn,
    SYS_rt_sigpending, SYS_rt_sigtimedwait, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo,
    SYS_rt_sigsuspend, SYS_sigaltstack, SYS_pause, SYS_restart_syscall, SYS_pidfd_send_signal,
    SYS_getpid, SYS_getppid, SYS_gettid, SYS_getpgrp, SYS_getpgid, SYS_setpgid, SYS_getsid,
    SYS_setsid, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid, SYS_getresuid, SYS_getresgid,
    SYS_getgroups, SYS_setuid, SYS_setgid, SYS_setreuid, SYS_setregid, SYS_setresuid, SYS_setresgid,
    SYS_setfsuid, SYS_setfsgid, SYS_capget, SYS_capset, SYS_getrlimit, SYS_setrlimit, SYS_getrusage,
    SYS_times, SYS_uname, SYS_sysinfo,
    // time: the vDSO gives it away in any case
    SYS_time, SYS_gettimeofday, SYS_clock_gettime, SYS_clock_getres, SYS_clock_nanosleep,
    SYS_nanosleep, SYS_alarm, SYS_getitimer, SYS_setitimer, SYS_timer_create, SYS_timer_settime,
    SYS_timer_gettime, SYS_timer_getoverrun, SYS_timer_delete};

// Allowed, and announced where descriptors are counted.
constexpr int kOpening[] = {
    SYS_open,         SYS_openat,        SYS_creat,          SYS_dup,
    SYS_pipe,         SYS_pipe2,         SYS_eventfd,        SYS_eventfd2,
    SYS_epoll_create, SYS_epoll_create1, SYS_timerfd_create, SYS_signalfd,
    SYS_signalfd4,    SYS_inotify_init,  SYS_inotify_init1,  SYS_pidfd_open};

// Absent rather than forbidden: programs probe for them and have another way.
constexpr int kAbsent[] = {
    SYS_openat2,  // its mode is behind a pointer, which a filter cannot check
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_userfaultfd,
    SYS_memfd_secret,
    SYS_msgget,
    SYS_semget,
    SYS_shmget,
    SYS_msgctl,
    SYS_semctl,
    SYS_shmctl,
    SYS_shmat,
    SYS_shmdt,
    SYS_semop,
    SYS_semtimedop,
    SYS_msgsnd,
    SYS_msgrcv,
    SYS_mq_open,
    SYS_seccomp,
    SYS_landlock_create_ruleset};

// ioctl requests that only read, or change the program's own descriptor. Setting a terminal's
// modes, or pushing input into it (TIOCSTI), would act on the embedder's.
constexpr unsigned kIoctls[] = {TCGETS,  TIOCGWINSZ, TIOCGPGRP, FIONREAD, FIONBIO,
                                FIOCLEX, FIONCLEX,   FIOASYNC,  FIOQSIZE};

// fcntl commands without the ones that duplicate, and without leases, which make the host's own
// opens of a granted file wait.
constexpr unsigned kFcntls[] = {F_GETFD,  F_SETFD,      F_GETFL,      F_SETFL,     F_GETLK,
                                F_SETLK,  F_SETLKW,     F_OFD_GETLK,  F_OFD_SETLK, F_OFD_SETLKW,
                                F_GETOWN, F_SETPIPE_SZ, F_GETPIPE_SZ, F_ADD_SEALS, F_GET_SEALS};

constexpr int kPrctls[] = {PR_SET_NAME,
                           PR_GET_NAME,
                           PR_SET_PDEATHSIG,
                           PR_GET_PDEATHSIG,
                           PR_GET_DUMPABLE,
                           PR_SET_DUMPABLE,
                           PR_GET_NO_NEW_PRIVS,
                           PR_SET_NO_NEW_PRIVS,
                           PR_CAPBSET_READ,
                           PR_GET_SECUREBITS,
                           PR_GET_KEEPCAPS,
                           PR_SET_TIMERSLACK,
                           PR_GET_TIMERSLACK,
                           PR_SET_CHILD_SUBREAPER,
                           PR_GET_CHILD_SUBREAPER,
                           PR_GET_TID_ADDRESS,
                           PR_SET_VMA,
                           PR_SET_THP_DISABLE,
                           PR_GET_THP_DISABLE,
                           PR_GET_SECCOMP};

constexpr std::uint32_t kNewNamespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS |
                                         CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;

constexpr unsigned kSocketKind = 0xf;
constexpr int kFirstUnknownCall = 451;

// The argument that holds the mode of a file. Through a folder granted for writing a set-user-ID
// file would be the embedder's own on the host, for everybody there to run.
struct ModeArgument {
  int number;
  unsigned argument;
};
constexpr int kFchmodat2 = 452;  // newer than Debian 12's kernel headers
constexpr ModeArgument kModes[] = {{SYS_chmod, 1},  {SYS_fchmod, 1}, {SYS_fchmodat, 2},
                                   {kFchmodat2, 2}, {SYS_creat, 1},  {SYS_open, 2},
                                   {SYS_openat, 3}, {SYS_mkdir, 1},  {SYS_mkdirat, 2},
                                   {SYS_mknod, 1},  {SYS_mknodat, 2}};
constexpr std::uint32_t kSetId = S_ISUID | S_ISGID;

void RefuseSetIdModes(FilterTable& table) {
  for (const ModeArgument& mode : kModes) {
    const auto allowed = table.allowed.find(mode.number);
    if (allowed != table.allowed.end())
      allowed->second.push_back({.argument = mode.argument, .values = {0}, .mask = kSetId});
  }
}

void AllowOpening(FilterTable& table) {
  for (const int number : kOpening) table.allowed[number];
  std::vector<std::uint32_t>& commands = table.allowed[SYS_fcntl][0].values;
  commands.insert(commands.end(), {F_DUPFD, F_DUPFD_CLOEXEC});
  table.allowed[SYS_socketpair] = {{.argument = 0, .values = {AF_UNIX}},
                                   {1, {SOCK_STREAM, SOCK_SEQPACKET}, kSocketKind}};
}

void AllowForks(FilterTable& table) {
  table.allowed[SYS_fork];
  table.allowed[SYS_vfork];
  table.allowed[SYS_clone] = {{0, {0}, kNewNamespaces}};
}

template <typename Values>
ArgumentTest IsOneOf(unsigned argument, const Values& values) {
  ArgumentTest test{.argument = argument, .values = {}};
  for (const auto value : values) test.values.push_back(static_cast<std::uint32_t>(value));
  return test;
}

void AllowByArgument(FilterTable& table) {
  table.allowed[SYS_ioctl] = {IsOneOf(1, kIoctls)};
  table.allowed[SYS_fcntl] = {IsOneOf(1, kFcntls)};
  table.allowed[SYS_prctl] = {IsOneOf(0, kPrctls)};
  table.allowed[SYS_personality] = {{.argument = 0, .values = {0, 0xffffffff, ADDR_NO_RANDOMIZE}}};
  table.allowed[SYS_mknod] = {{1, {S_IFREG, S_IFIFO, 0}, S_IFMT}};
  table.allowed[SYS_mknodat] = {{2, {S_IFREG, S_IFIFO, 0}, S_IFMT}};
  // Its own limits only: pid 1 runs under the same id.
  table.allowed[SYS_prlimit64] = {{.argument = 0, .values = {0}}};
}

template <typename Table>
bool Contains(const Table& table, int number) {
  return std::find(std::begin(table), std::end(table), number) != std::end(table);
}

}  // namespace

absl::StatusOr<std::vector<sock_filter>> BuildFilter(const PolicyOptions& options) {
  FilterTable table;
  // Every other entry into the kernel (int 0x80, x32) has no calls at all. The reserved number of
  // host calls is one of these.
  table.unknown = SECCOMP_RET_ERRNO | ENOSYS;
  table.refuse = options.notify ? SECCOMP_RET_USER_NOTIF : table.unknown;
  for (const int number : kAllowed) table.allowed[number];
  table.allowed[kFchmodat2];
  AllowByArgument(table);
  // clone3 hides its flags behind a pointer, which a filter cannot check; C libraries fall back to
  // clone, so it is not worth a line in the report.
  table.absent = {SYS_clone3};
  if (!options.announce_opens) {
    AllowOpening(table);
    if (!options.deny_memory_files) table.allowed[SYS_memfd_create];
  }
  if (!options.notify) AllowForks(table);
  if (options.random) table.allowed[SYS_getrandom];
  RefuseSetIdModes(table);
  return CompileFilter(table);
}

bool IsFork(int number, std::uint64_t flags) {
  if (number == SYS_fork || number == SYS_vfork) return true;
  return number == SYS_clone && (flags & kNewNamespaces) == 0;
}

bool SetsId(int number, std::span<const __u64, 6> arguments) {
  for (const ModeArgument& mode : kModes)
    if (mode.number == number) return (arguments[mode.argument] & kSetId) != 0;
  return false;
}

int DescriptorsOpened(int number, std::uint64_t first, std::uint64_t second) {
  const auto command = static_cast<unsigned>(second);
  if (number == SYS_fcntl) return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? 1 : 0;
  if (number == SYS_socketpair) {
    const unsigned kind = command & kSocketKind;
    const bool allowed =
        static_cast<unsigned>(first) == AF_UNIX && (kind == SOCK_STREAM || kind == SOCK_SEQPACKET);
    return allowed ? 2 : 0;
  }
  if (number == SYS_pipe || number == SYS_pipe2) return 2;
  return Contains(kOpening, number) || number == SYS_memfd_create ? 1 : 0;
}

int RefusalErrno(int number) {
  switch (number) {
    case SYS_socket:
    case SYS_socketpair:
      return EACCES;
    case SYS_ioctl:
      return ENOTTY;
    case SYS_prctl:
    case SYS_fcntl:
    case SYS_personality:
      return EINVAL;
    default:
      break;
  }
  const bool known = number >= 0 && number < kFirstUnknownCall;
  return known && !Contains(kAbsent, number) ? EPERM : ENOSYS;
}

std::string SystemCallName(int number) {
  const std::unique_ptr<char, decltype(&std::free)> name(
      seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, number), &std::free);
  return name != nullptr ? std::string(name.get()) : absl::StrFormat("syscall_%d", number);
}

}  // namespace waxvm::process
