/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "src/provider_process/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "src/provider_process/raw_syscall.h"

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

void wx_exit(int code) {
  for (;;) wx_syscall1(SYS_exit_group, code);
}

static void send_report(const struct wx_report* report, int descriptor) {
  struct iovec part = {(void*)(uintptr_t)report, sizeof *report};
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
  } control = {0};
  struct msghdr message = {0};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (descriptor >= 0) {
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof(int));
    *(int*)(void*)CMSG_DATA(&control.header) = descriptor;
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
  }
  wx_syscall3(SYS_sendmsg, WX_FD_CONTROL, (long)&message, MSG_NOSIGNAL);
}

void wx_report_failure(uint32_t step, long result, int item) {
  struct wx_report report = {0};
  report.kind = WX_FAILED;
  report.step = step;
  report.error = (int32_t)-result;
  report.item = item;
  send_report(&report, -1);
}

void wx_report_root(int root) {
  struct wx_report report = {0};
  report.kind = WX_ROOT;
  send_report(&report, root);
}

static int failed(uint32_t step, long result) {
  wx_report_failure(step, result, -1);
  return -1;
}

/* All sources move above every target first, so that no order of numbers can clobber one. */
long wx_place_descriptors(const struct wx_descriptors* descriptors) {
  static const int target[] = {0,
                               1,
                               2,
                               WX_FD_CONTROL,
                               WX_FD_PROGRAM,
                               WX_FD_EMBEDDER,
                               WX_FD_CGROUP,
                               WX_FD_STAGE,
                               WX_FD_HOST_CALL};
  const int source[] = {descriptors->input,   descriptors->output,  descriptors->error,
                        descriptors->control, descriptors->program, descriptors->embedder,
                        descriptors->cgroup,  descriptors->stage,   descriptors->host_call};
  enum { kCount = sizeof target / sizeof target[0] };
  int moved[kCount];
  struct rlimit open_files;
  wx_syscall4(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, (long)&open_files);
  open_files.rlim_cur = open_files.rlim_max;
  wx_syscall4(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)&open_files, 0);
  for (int i = 0; i < kCount; ++i) {
    moved[i] = -1;
    if (source[i] < 0) continue;
    const long fd = wx_syscall3(SYS_fcntl, source[i], F_DUPFD_CLOEXEC, WX_FD_HOST_CALL + 1);
    if (fd < 0) return fd;
    moved[i] = (int)fd;
  }
  wx_syscall3(SYS_close_range, WX_FD_CONTROL, WX_FD_HOST_CALL, 0);
  for (int i = 0; i < kCount; ++i) {
    if (moved[i] < 0) continue;
    /* Only the stage itself must not survive its own exec. */
    const long flags = target[i] == WX_FD_STAGE ? O_CLOEXEC : 0;
    const long fd = wx_syscall3(SYS_dup3, moved[i], target[i], flags);
    if (fd < 0) return fd;
  }
  const long result = wx_syscall3(SYS_close_range, WX_FD_HOST_CALL + 1, ~0U, 0);
  return result < 0 ? result : 0;
}

static size_t format_number(char* out, uint32_t value) {
  char digits[10];
  size_t count = 0;
  size_t at = 0;
  do {
    digits[count++] = (char)('0' + value % 10);
    value /= 10;
  } while (value != 0);
  while (count != 0) out[at++] = digits[--count];
  return at;
}

static long write_file(const char* path, const char* text, size_t bytes) {
  const long fd = wx_syscall4(SYS_openat, AT_FDCWD, (long)path, O_WRONLY | O_CLOEXEC, 0);
  if (fd < 0) return fd;
  const long written = wx_syscall3(SYS_write, fd, (long)text, (long)bytes);
  wx_syscall1(SYS_close, fd);
  if (written < 0) return written;
  return written == (long)bytes ? 0 : -EIO;
}

static long write_map(const char* path, uint32_t inside, uint32_t outside) {
  char line[32];
  size_t at = format_number(line, inside);
  line[at++] = ' ';
  at += format_number(line + at, outside);
  line[at++] = ' ';
  line[at++] = '1';
  line[at++] = '\n';
  return write_file(path, line, at);
}

/* An exec by an id other than 0 empties the capability sets unless they are ambient. */
long wx_keep_capabilities(void) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2];
  const uint32_t wanted = (1U << CAP_SYS_ADMIN) | (1U << CAP_SETPCAP);
  data[0].effective = data[0].permitted = data[0].inheritable = wanted;
  data[1].effective = data[1].permitted = data[1].inheritable = 0;
  long result = wx_syscall2(SYS_capset, (long)&header, (long)data);
  if (result == 0)
    result = wx_syscall5(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0);
  if (result == 0)
    result = wx_syscall5(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SETPCAP, 0, 0);
  return result;
}

/* The only mapping that needs no privilege outside: one id, the embedder's own. */
static int take_identity(const struct wx_config* config) {
  /* An embedder that changed its ids is not dumpable, and neither is its fork; its /proc files
   * would not be its own. (The stage was executed: it is.) */
  wx_syscall5(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
  long result = write_map("/proc/self/uid_map", config->guest_uid, config->host_uid);
  if (result < 0) return failed(WX_STEP_UID_MAP, result);
  result = write_file("/proc/self/setgroups", "deny", 4);
  if (result < 0) return failed(WX_STEP_SETGROUPS, result);
  result = write_map("/proc/self/gid_map", config->guest_gid, config->host_gid);
  return result < 0 ? failed(WX_STEP_GID_MAP, result) : 0;
}

/* What the embedder ignores stays ignored through clone and exec: the program would inherit it, and
 * a pid 1 that ignores the end of its children would never learn of it. */
static void reset_signals(void) {
  const uint64_t by_default[4] = {0}; /* the kernel's sigaction: handler, flags, restorer, mask */
  for (int signal = 1; signal <= 64; ++signal)
    wx_syscall4(SYS_rt_sigaction, signal, (long)by_default, 0, sizeof(uint64_t));
}

int wx_sandbox_init(const struct wx_config* config) {
  reset_signals();
  if (take_identity(config) != 0) return -1;
  long result;
  if (wx_syscall3(SYS_fcntl, WX_FD_CGROUP, F_GETFD, 0) >= 0) {
    result = wx_syscall3(SYS_write, WX_FD_CGROUP, (long)"0", 1);
    if (result < 0) return failed(WX_STEP_CGROUP, result);
    wx_syscall1(SYS_close, WX_FD_CGROUP);
  }
  if (wx_build_root(config) != 0) return -1;
  result = wx_syscall2(SYS_sethostname, (long)"waxvm", 5);
  if (result < 0) return failed(WX_STEP_HOST_NAME, result);
  return wx_drop_privileges(config);
}

static long install_filter(const struct wx_config* config) {
  const struct sock_fprog program = {
      (unsigned short)config->filter_count,
      (struct sock_filter*)(void*)((char*)(uintptr_t)config + config->filter_offset)};
  if ((config->flags & WX_LISTENER) == 0)
    return wx_syscall3(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, (long)&program);
  const long result = wx_syscall3(
      SYS_seccomp, SECCOMP_SET_MODE_FILTER,
      SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, (long)&program);
  if (result != -EINVAL) return result;
  return wx_syscall3(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
                     (long)&program);
}

int wx_sandbox_enter(const struct wx_config* config) {
  wx_syscall3(SYS_fcntl, WX_FD_CONTROL, F_SETFD, FD_CLOEXEC);
  wx_syscall3(SYS_fcntl, WX_FD_PROGRAM, F_SETFD, FD_CLOEXEC);
  wx_syscall1(SYS_close, WX_FD_EMBEDDER);
  long result = wx_syscall0(SYS_setsid);
  if (result < 0) return failed(WX_STEP_SESSION, result);
  uint64_t no_signals = 0;
  wx_syscall4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&no_signals, 0, sizeof no_signals);

  const long listener = install_filter(config);
  if (listener < 0) return failed(WX_STEP_SECCOMP, listener);
  /* After the filter, whose listener needs a descriptor that the limit may not leave. */
  for (uint32_t i = 0; i < config->rlimit_count; ++i) {
    const struct rlimit limit = {config->rlimits[i].value, config->rlimits[i].value};
    result = wx_syscall4(SYS_prlimit64, 0, config->rlimits[i].resource, (long)&limit, 0);
    if (result < 0) return failed(WX_STEP_RLIMIT, result);
  }
  const int announced = (config->flags & WX_LISTENER) != 0;
  struct wx_report ready = {0};
  ready.kind = WX_READY;
  send_report(&ready, announced ? (int)listener : -1);
  if (announced) wx_syscall1(SYS_close, listener);
  char go;
  return wx_syscall3(SYS_read, WX_FD_CONTROL, (long)&go, 1) == 1 ? 0 : -1;
}

static uint64_t cpu_time(const struct rusage* usage) {
  const uint64_t seconds = (uint64_t)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec);
  const uint64_t micros = (uint64_t)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec);
  return seconds * 1000000000U + micros * 1000U;
}

/* Nothing may outlive the program: what is left is killed and waited for, so that the figures are
 * whole and every byte it wrote is in the pipes when the report leaves. */
static void finish(int status) {
  /* kill(-1) walks all processes of the host; without children there is nobody left to end. */
  if (wx_syscall4(SYS_wait4, -1, 0, WNOHANG | __WALL, 0) >= 0) {
    wx_syscall2(SYS_kill, -1, SIGKILL);
    while (wx_syscall4(SYS_wait4, -1, 0, __WALL, 0) >= 0) continue;
  }
  struct rusage usage;
  wx_syscall2(SYS_getrusage, RUSAGE_CHILDREN, (long)&usage);
  struct wx_report report = {0};
  report.kind = WX_EXITED;
  report.status = status;
  report.cpu_ns = cpu_time(&usage);
  report.peak_bytes = (uint64_t)usage.ru_maxrss * 1024U;
  send_report(&report, -1);
  wx_exit(0);
}

void wx_sandbox_reap(long program) {
  for (int fd = 0; fd < 3; ++fd) wx_syscall1(SYS_close, fd);
  wx_syscall1(SYS_close, WX_FD_PROGRAM);
  wx_syscall1(SYS_close, WX_FD_HOST_CALL);
  /* Every signal is blocked since before the clone. */
  const uint64_t child_ended = UINT64_C(1) << (SIGCHLD - 1);
  const long children =
      wx_syscall4(SYS_signalfd4, -1, (long)&child_ended, sizeof child_ended, O_NONBLOCK);
  /* The end of the embedder is seen through its pidfd, not PR_SET_PDEATHSIG: that one fires when
   * the thread that made the instance ends, although the embedder lives on. */
  struct pollfd watched[2] = {{(int)children, POLLIN, 0}, {WX_FD_EMBEDDER, POLLIN, 0}};
  for (;;) {
    int status = 0;
    long pid;
    while ((pid = wx_syscall4(SYS_wait4, -1, (long)&status, WNOHANG | __WALL, 0)) > 0) {
      if (pid == program) finish(status);
    }
    wx_syscall3(SYS_poll, (long)watched, 2, -1);
    if (watched[1].revents != 0) wx_exit(0);
    char drained[1024];
    wx_syscall3(SYS_read, children, (long)drained, sizeof drained);
  }
}
