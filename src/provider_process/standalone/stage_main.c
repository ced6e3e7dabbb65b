/* SPDX-License-Identifier: Apache-2.0 */
/* The first program inside the new namespaces, and their pid 1. Freestanding: no library, no heap,
 * no state but the configuration it was sent. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>

#include "src/provider_process/raw_syscall.h"
#include "src/provider_process/sandbox.h"

void* memcpy(void* restrict to, const void* restrict from, size_t bytes) {
  void* start = to;
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
  return start;
}
void* memset(void* to, int value, size_t bytes) {
  void* start = to;
  __asm__ volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(value) : "memory");
  return start;
}

static union {
  struct wx_config config;
  char bytes[WX_MAX_CONFIG];
} g_config;

/* The two share memory until the exec; each has a stack of its own. */
static char g_program_stack[64 * 1024] __attribute__((aligned(16)));

static __attribute__((noreturn)) void run_program(char** arguments, char** environment) {
  if (wx_sandbox_enter(&g_config.config) == 0) {
    const long result = wx_syscall5(SYS_execveat, WX_FD_PROGRAM, (long)"", (long)arguments,
                                    (long)environment, AT_EMPTY_PATH);
    wx_report_failure(WX_STEP_EXEC, result, -1);
  }
  wx_exit(125);
}

/* clone on a new stack: the child must not return through this frame. */
static long start_program(char** arguments, char** environment) {
  char* const top = g_program_stack + sizeof g_program_stack;
  long result;
  register long r10 __asm__("r10") = 0;
  register long r8 __asm__("r8") = 0;
  register char** r12 __asm__("r12") = arguments;
  register char** r13 __asm__("r13") = environment;
  __asm__ volatile(
      "syscall\n\t"
      "test %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "xor %%ebp, %%ebp\n\t"
      "mov %%r12, %%rdi\n\t"
      "mov %%r13, %%rsi\n\t"
      "call *%[body]\n\t"
      "1:"
      : "=a"(result)
      : "a"(SYS_clone), "D"(CLONE_VM | SIGCHLD), "S"(top), "d"(0), "r"(r10), "r"(r8), "r"(r12),
        "r"(r13), [body] "r"(run_program)
      : "rcx", "r11", "memory");
  return result;
}

__attribute__((noreturn, used)) void stage_main(long* stack) {
  const long count = stack[0];
  char** const arguments = (char**)(stack + 1);
  char** const environment = arguments + count + 1;
  const long bytes = wx_syscall3(SYS_read, WX_FD_CONTROL, (long)&g_config, sizeof g_config);
  if (bytes < (long)sizeof(struct wx_config) || (long)g_config.config.bytes != bytes) {
    wx_report_failure(WX_STEP_CONFIG, bytes < 0 ? bytes : -22, -1);
    wx_exit(125);
  }
  if (wx_sandbox_init(&g_config.config) != 0) wx_exit(125);
  const long program = start_program(arguments, environment);
  if (program < 0) {
    wx_report_failure(WX_STEP_FORK, program, -1);
    wx_exit(125);
  }
  wx_sandbox_reap(program);
}

__asm__(
    ".globl _start\n"
    ".type _start, @function\n"
    "_start:\n"
    "  xor %ebp, %ebp\n"
    "  mov %rsp, %rdi\n"
    "  and $-16, %rsp\n"
    "  call stage_main\n"
    "  ud2\n");
