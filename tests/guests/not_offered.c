/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a microVM does not offer must fail cleanly, with an errno that libraries know what to do
 * with. Each line says whether the call works or is refused with one of the errnos that mean "not
 * here"; where it works, that is as good.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "step.h"

static void works_or_refused(const char* name, long result) {
  step(name, result >= 0 || errno == ENOSYS || errno == EPERM || errno == EAFNOSUPPORT ||
                 errno == EACCES || errno == EAGAIN);
}

int main(void) {
  works_or_refused("inotify_init1", syscall(SYS_inotify_init1, 0));
  works_or_refused("fanotify_init", syscall(SYS_fanotify_init, 0, 0));
  works_or_refused("socket", socket(AF_INET, SOCK_STREAM, 0));
  works_or_refused("netlink", socket(AF_NETLINK, SOCK_RAW, 0));
  works_or_refused("io_uring_setup", syscall(425, 1, NULL) >= 0 || errno == EFAULT ? 0 : -1);
  works_or_refused(
      "bpf", syscall(SYS_bpf, 0, NULL, 0) >= 0 || errno == EINVAL || errno == EFAULT ? 0 : -1);
  works_or_refused(
      "perf_event_open",
      syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0) >= 0 || errno == EFAULT ? 0 : -1);
  works_or_refused("keyctl", syscall(SYS_keyctl, 0, -3, 0) >= 0 || errno == ENOKEY ? 0 : -1);
  works_or_refused("userfaultfd", syscall(SYS_userfaultfd, 1));
  works_or_refused("pidfd_open", syscall(434, getpid(), 0));
  works_or_refused("memfd_secret", syscall(447, 0));
  works_or_refused("membarrier", syscall(SYS_membarrier, 0, 0));
  works_or_refused("clone3", syscall(435, NULL, 0) >= 0 || errno == EINVAL ? 0 : -1);
  refused("no such call", syscall(1000), ENOSYS);
  refused("nor this", syscall(-5), ENOSYS);
  refused("no children", waitpid(-1, NULL, WNOHANG), ECHILD);
  return failed_steps;
}
