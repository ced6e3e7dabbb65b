/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults become signals with their address, and the handler may mend, skip or leave: what garbage
 * collectors, stack-overflow guards and null checks of language runtimes do.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "step.h"

static sigjmp_buf back;
static siginfo_t info;
static volatile int faults;
static char* page;
static char alternate[64 << 10];
static volatile int on_stack;

static void leave(int signal, siginfo_t* told, void* context) {
  (void)context;
  info = *told;
  on_stack = (char*)&told >= alternate && (char*)&told < alternate + sizeof alternate;
  siglongjmp(back, signal);
}

static void mend(int signal, siginfo_t* told, void* context) {
  (void)context;
  (void)signal;
  info = *told;
  faults++;
  mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

/* The instruction is `ud2`, two bytes; another value is left in a register for the program. */
static void skip(int signal, siginfo_t* told, void* context) {
  ucontext_t* state = context;
  (void)signal;
  info = *told;
  state->uc_mcontext.gregs[REG_RIP] += 2;
  state->uc_mcontext.gregs[REG_RBX] = 0x1234;
}

static void install(int signal, void (*handler)(int, siginfo_t*, void*), int flags) {
  struct sigaction action = {0};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | flags;
  sigaction(signal, &action, NULL);
}

static void segv(void) {
  volatile uintptr_t low = 16;
  install(SIGSEGV, leave, 0);
  if (sigsetjmp(back, 1) == 0) *(volatile int*)low = 1;
  step("null pointer", info.si_code == SEGV_MAPERR && info.si_addr == (void*)16);
  page = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (sigsetjmp(back, 1) == 0) page[4097] = 1;
  step("read-only page", info.si_code == SEGV_ACCERR && info.si_addr == page + 4097);
  mprotect(page, 4096, PROT_NONE);
  if (sigsetjmp(back, 1) == 0) (void)*(volatile char*)page;
  step("guard page", info.si_code == SEGV_ACCERR && info.si_addr == page);
  if (sigsetjmp(back, 1) == 0) ((void (*)(void))(uintptr_t)(page + 4096))();
  step("not executable", info.si_code == SEGV_ACCERR && info.si_addr == page + 4096);
  if (sigsetjmp(back, 1) == 0) *(volatile int*)0x8000000000000000 = 1;
  step("no address at all", info.si_signo == SIGSEGV && info.si_code == SI_KERNEL);
  if (sigsetjmp(back, 1) == 0) __asm__ volatile("hlt");
  step("privileged", info.si_signo == SIGSEGV && info.si_code == SI_KERNEL);
  install(SIGSEGV, mend, 0);
  for (int i = 0; i < 100; i++) {
    mprotect(page, 4096, PROT_READ);
    page[i] = (char)i;
  }
  step("mended and gone on", faults == 100 && page[99] == 99 && info.si_addr == page + 99);
}

static void others(void) {
  int quotient = 0;
  install(SIGFPE, leave, 0);
  if (sigsetjmp(back, 1) == 0)
    __asm__ volatile(
        "xor %%edx, %%edx\n mov $1, %%eax\n xor %%ecx, %%ecx\n idiv %%ecx\n mov %%eax, %0"
        : "=m"(quotient)
        :
        : "eax", "ecx", "edx", "cc");
  step("division by zero", quotient == 0 && info.si_signo == SIGFPE && info.si_code == FPE_INTDIV);
  install(SIGILL, leave, 0);
  if (sigsetjmp(back, 1) == 0) __asm__ volatile("ud2");
  step("illegal instruction", info.si_signo == SIGILL && info.si_code == ILL_ILLOPN);
  install(SIGILL, skip, 0);
  uintptr_t value = 1;
  __asm__ volatile("mov $7, %%rbx\n ud2\n mov %%rbx, %0" : "=r"(value) : : "rbx", "memory");
  step("registers changed by the handler", value == 0x1234);
  install(SIGTRAP, leave, 0);
  if (sigsetjmp(back, 1) == 0) __asm__ volatile("int3");
  step("breakpoint", info.si_signo == SIGTRAP);
}

static void bus(const char* folder) {
  char name[256];
  snprintf(name, sizeof name, "%s/mapped", folder);
  const int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
  if (fd < 0 || write(fd, "short", 5) != 5) step("file", 0);
  char* file = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, fd, 0);
  step("mapped", file != MAP_FAILED && memcmp(file, "short", 6) == 0);
  install(SIGBUS, leave, 0);
  info.si_signo = 0;
  if (file != MAP_FAILED && sigsetjmp(back, 1) == 0) (void)*(volatile char*)(file + 4096);
  step("beyond the file",
       info.si_signo == SIGBUS && info.si_code == BUS_ADRERR && info.si_addr == file + 4096);
  close(fd);
  unlink(name);
}

__attribute__((noinline)) static int recurse(int depth) {
  volatile char frame[4096];
  frame[0] = (char)depth;
  return depth < 0 ? 0 : recurse(depth + 1) + frame[0];
}

static void* overflow(void* unused) {
  stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
  sigaltstack(&stack, NULL);
  install(SIGSEGV, leave, SA_ONSTACK);
  on_stack = 0;
  if (sigsetjmp(back, 1) == 0) recurse(0);
  step("caught on the other stack", on_stack == 1 && info.si_signo == SIGSEGV);
  stack.ss_flags = SS_DISABLE;
  sigaltstack(&stack, NULL);
  return unused;
}

int main(int argc, char** argv) {
  pthread_t thread;
  segv();
  others();
  bus(argc > 1 ? argv[1] : "/tmp");
  puts("the first thread's stack:");
  overflow(NULL);
  puts("another thread's:");
  step("thread", pthread_create(&thread, NULL, overflow, NULL) == 0);
  pthread_join(thread, NULL);
  return failed_steps;
}
