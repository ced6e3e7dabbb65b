/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>

#include "src/provider_process/raw_syscall.h"
#include "src/provider_process/sandbox.h"

struct clone_request {
  uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
};

/* Runs in the embedder's memory while the calling thread is suspended: raw calls only, every
 * signal blocked, every handler already reset by CLONE_CLEAR_SIGHAND. */
static __attribute__((noreturn)) void child(struct wx_spawn* spawn) {
  spawn->failed_step = WX_STEP_CAPABILITIES;
  long result = wx_keep_capabilities();
  if (result == 0) {
    spawn->failed_step = WX_STEP_DESCRIPTORS;
    result = wx_place_descriptors(&spawn->descriptors);
  }
  if (result == 0) {
    spawn->failed_step = WX_STEP_STAGE;
    /* Undone when the exec succeeds. */
    result = wx_syscall5(SYS_execveat, WX_FD_STAGE, (long)"", (long)spawn->arguments,
                         (long)spawn->environment, AT_EMPTY_PATH);
  }
  spawn->failed_errno = (int32_t)-result;
  wx_exit(125);
}

/* CLONE_VM | CLONE_VFORK: the page tables of a large embedder are not copied. */
static long clone_child(struct wx_spawn* spawn, int32_t* pidfd, char* stack, size_t stack_bytes) {
  struct clone_request request = {0};
  request.flags = WX_NAMESPACES | CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_CLEAR_SIGHAND;
  request.pidfd = (uint64_t)(uintptr_t)pidfd;
  request.exit_signal = SIGCHLD;
  request.stack = (uint64_t)(uintptr_t)stack;
  request.stack_size = stack_bytes;
  long result;
  register struct wx_spawn* r12 __asm__("r12") = spawn;
  __asm__ volatile(
      "syscall\n\t"
      "test %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "xor %%ebp, %%ebp\n\t"
      "mov %%r12, %%rdi\n\t"
      "call *%[body]\n\t"
      "1:"
      : "=a"(result)
      : "a"(SYS_clone3), "D"(&request), "S"(sizeof request), "r"(r12), [body] "r"(child)
      : "rcx", "r11", "memory");
  return result;
}

long wx_spawn_stage(struct wx_spawn* spawn, int32_t* pidfd) {
  char stack[16 * 1024] __attribute__((aligned(16)));
  spawn->failed_step = WX_STEP_NONE;
  spawn->failed_errno = 0;
  uint64_t all = ~UINT64_C(0);
  uint64_t before = 0;
  wx_syscall4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&before, sizeof all);
  const long pid = clone_child(spawn, pidfd, stack, sizeof stack);
  wx_syscall4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&before, 0, sizeof before);
  if (spawn->failed_errno == 0) spawn->failed_step = WX_STEP_NONE;
  return pid;
}

long wx_clone_native(int32_t* pidfd) {
  struct clone_request request = {0};
  request.flags = WX_NAMESPACES | CLONE_PARENT | CLONE_PIDFD | CLONE_CLEAR_SIGHAND;
  request.pidfd = (uint64_t)(uintptr_t)pidfd;
  return wx_syscall2(SYS_clone3, (long)&request, sizeof request);
}
