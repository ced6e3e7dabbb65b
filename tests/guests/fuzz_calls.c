/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_calls SEED STEPS THREADS: attacks the kernel below it with STEPS random steps in each of
 * THREADS threads: system calls with hostile registers, instructions that only a kernel may
 * execute, jumps to where a monitor may keep its own code, segment selectors, flags, stray bytes as
 * code. Everything follows from SEED. It catches what signals it can and goes on; where it dies,
 * that was its own doing. tests/fuzz/guest_fuzz.cc watches the host meanwhile.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "waxvm/abi/host_call.h"

enum {
  kThreadBytes = 1 << 16, /* state and alternate stack, aligned to this size */
  kScratchBytes = 1 << 16,
  kPaths = 32,
  kPathBytes = 128,
  kMaxThreads = 8,
};

/* Lies below the thread's alternate stack, so that a handler finds it when nothing else is left. */
struct thread {
  uint64_t random;
  uint64_t fs_base;
  uint64_t stack_pointer, frame_pointer;
  long steps;
  jmp_buf back;
};

static unsigned char* scratch; /* readable and writable; the page behind it is not mapped */
static unsigned char* code;    /* readable, writable and executable */
static unsigned char* locked;  /* PROT_NONE */
static uint64_t vdso;          /* or the top of the stack, where there is none */
static long step_limit;
static uint64_t odd_one_in;

static uint64_t draw(struct thread* t) {
  t->random ^= t->random << 13;
  t->random ^= t->random >> 7;
  t->random ^= t->random << 17;
  return t->random * 0x2545f4914f6cdd1du;
}

static uint64_t below(struct thread* t, uint64_t bound) { return (draw(t) >> 11) % bound; }

static long raw(long number, const uint64_t a[6]) {
  register uint64_t r10 __asm__("r10") = a[3];
  register uint64_t r8 __asm__("r8") = a[4];
  register uint64_t r9 __asm__("r9") = a[5];
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

/* The path in slot `index` of the scratch area. */
static const char* const kTexts[kPaths] = {
    "/data/file",
    "/data/new",
    "/data/folder",
    "/data/folder/up/x",
    "/data/out",
    "/data/canary",
    "/data/loop",
    "/data/../..",
    "/data/folder/../../canary",
    "/tmp/a",
    "/tmp/b",
    "/tmp",
    "/",
    "..",
    ".",
    "",
    "/dev/urandom",
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/tty",
    "/dev/fd/0",
    "/proc/self/exe",
    "/proc/self/maps",
    "/proc/self/fd/3",
    "/proc/self/mem",
    "/proc/1/root",
    "/data/fifo",
    "a/b/../c",
    "//data///file//",
    "/data/absolute/x",
    "\xff\xfe\n\x01",
};

static void fill_scratch(struct thread* t) {
  for (int i = 0; i < kPaths; i++) strcpy((char*)scratch + i * kPathBytes, kTexts[i]);
  /* A name longer than any system takes. */
  memset(scratch + kScratchBytes - 8192, 'a', 8192);
  for (int i = kPaths * kPathBytes; i < kScratchBytes - 8192; i += 8) {
    const uint64_t word = below(t, 4) == 0 ? draw(t) : below(t, 4096);
    memcpy(scratch + i, &word, sizeof word);
  }
}

static uint64_t address(struct thread* t) {
  switch (below(t, 16)) {
    case 0:
      return below(t, 0x10000); /* the machine's own pages */
    case 1:
      return 0x1000 * below(t, 17) + below(t, 2) * 0xff8;
    case 2:
      return 0x7ffffffff000 - below(t, 64) * 8; /* the end of the user half */
    case 3:
      return vdso + 0x1000 * below(t, 8) - 0x4000 + (below(t, 2) == 0 ? 0 : below(t, 0x1000));
    case 4:
      return 0x800000000000 + below(t, 1 << 20); /* not canonical */
    case 5:
      return 0xffff800000000000 + below(t, 1 << 30);
    case 6:
      return (uint64_t)(uintptr_t)locked + below(t, 4096);
    case 7:
      return (uint64_t)(uintptr_t)&address + below(t, 65536) - 32768; /* its own code and data */
    case 8:
      return (uint64_t)(uintptr_t)t + below(t, kThreadBytes);
    case 9:
      return (uint64_t)(uintptr_t)__builtin_frame_address(0) + below(t, 4096) - 1024;
    case 10:
      return (uint64_t)(uintptr_t)scratch + kScratchBytes - below(t, 64); /* across the end */
    default:
      return (uint64_t)(uintptr_t)scratch + 8 * below(t, kScratchBytes / 8);
  }
}

static uint64_t length(struct thread* t) {
  static const uint64_t kLengths[] = {0,
                                      1,
                                      7,
                                      8,
                                      16,
                                      64,
                                      4095,
                                      4096,
                                      4097,
                                      65536,
                                      1 << 20,
                                      1u << 31,
                                      0xffffffff,
                                      1ull << 32,
                                      1ull << 47,
                                      1ull << 62,
                                      1ull << 63,
                                      0x7fffffffffffffff,
                                      0xfffffffffffff000,
                                      ~0ull};
  return kLengths[below(t, sizeof kLengths / sizeof kLengths[0])];
}

static uint64_t argument(struct thread* t) {
  switch (below(t, 16)) {
    case 0:
    case 1:
    case 2:
      return address(t);
    case 3:
    case 4:
    case 5:
    case 6: /* a path */
      return (uint64_t)(uintptr_t)scratch + kPathBytes * below(t, kPaths);
    case 7:
    case 8:
      return length(t);
    case 9:
    case 10:
    case 11:
      return below(t, 40); /* descriptors, signals, small flags */
    case 12:
      return below(t, 2) == 0 ? (uint64_t)-100 /* AT_FDCWD */ : ~below(t, 4096);
    case 13:
      return 1ull << below(t, 64);
    case 14:
      return (1ull << below(t, 24)) | (1ull << below(t, 24)); /* flags */
    default:
      return draw(t);
  }
}

/* Calls that end the run or wait without an end are tried now and then only. */
static int is_rare(long number) {
  switch (number) {
    case SYS_exit:
    case SYS_exit_group:
    case SYS_pause:
    case SYS_rt_sigsuspend:
    case SYS_rt_sigreturn:
    case SYS_rt_sigtimedwait:
    case SYS_kill:
    case SYS_tgkill:
    case SYS_tkill:
    case SYS_munmap:
    case SYS_mprotect:
    case SYS_mremap:
    case SYS_nanosleep:
    case SYS_clock_nanosleep:
      return 1;
    default:
      return 0;
  }
}

static const short kFrequent[] = {
    SYS_read,
    SYS_write,
    SYS_open,
    SYS_close,
    SYS_mmap,
    SYS_mprotect,
    SYS_munmap,
    SYS_mremap,
    SYS_brk,
    SYS_madvise,
    SYS_futex,
    SYS_rt_sigaction,
    SYS_sigaltstack,
    SYS_rt_sigprocmask,
    SYS_openat,
    SYS_dup2,
    SYS_pipe2,
    SYS_fcntl,
    SYS_ftruncate,
    SYS_getdents64,
    SYS_renameat2,
    SYS_linkat,
    SYS_symlink,
    SYS_unlink,
    SYS_mkdir,
    SYS_preadv,
    SYS_pwritev2,
    SYS_sendfile,
    SYS_copy_file_range,
    SYS_epoll_ctl,
    SYS_epoll_wait,
    SYS_eventfd2,
    SYS_timerfd_create,
    SYS_timerfd_settime,
    SYS_signalfd4,
    SYS_socketpair,
    SYS_sendmsg,
    SYS_recvmsg,
    SYS_poll,
    SYS_select,
    SYS_clone,
    SYS_clone3,
    SYS_set_robust_list,
    SYS_arch_prctl,
    SYS_prctl,
    SYS_setitimer,
    SYS_timer_create,
    SYS_timer_settime,
    SYS_fallocate,
    SYS_statx,
    SYS_clock_gettime,
    SYS_getrandom,
};

static void call(struct thread* t) {
  uint64_t a[6];
  long number = (long)below(t, 462);
  const uint64_t kind = below(t, 64);
  if (kind < 24) number = kFrequent[below(t, sizeof kFrequent / sizeof kFrequent[0])];
  if (kind == 63) number = WAXVM_HOST_CALL_NUMBER;
  if (kind == 62) number = (long)draw(t);
  if (is_rare(number) && below(t, 16) != 0) return;
  for (int i = 0; i < 6; i++) a[i] = argument(t);
  raw(number, a);
}

/* A well-formed call of a host function, but for one word. */
static void host_call(struct thread* t) {
  struct waxvm_host_call c = {
      .version = WAXVM_HOST_CALL_VERSION,
      .name_bytes = 4,
      .name = (uint64_t)(uintptr_t) "echo",
      .request = (uint64_t)(uintptr_t)scratch,
      .request_bytes = below(t, kScratchBytes),
      .reply = (uint64_t)(uintptr_t)scratch,
      .reply_capacity = below(t, kScratchBytes),
  };
  uint64_t* word = (uint64_t*)&c + below(t, sizeof c / sizeof(uint64_t));
  if (below(t, 2) == 0) *word = argument(t);
  const uint64_t a[6] = {(uint64_t)(uintptr_t)&c};
  raw(WAXVM_HOST_CALL_NUMBER, a);
}

/* `int n; ret` for every n, four bytes each. */
__asm__(
    ".text\n.globl int_table\nint_table:\n.set n, 0\n.rept 256\n.byte 0xcd, n, 0xc3, 0x90\n"
    ".set n, n + 1\n.endr\n");
extern const unsigned char int_table[];

/* Instructions of a few bytes; rax, rcx, rdx, rsi and rdi are hostile when they run. */
static const struct {
  unsigned char bytes, text[7];
} kInstructions[] = {
    {1, {0xf4}},                               /* hlt */
    {1, {0xfa}},                               /* cli */
    {1, {0xfb}},                               /* sti */
    {1, {0xec}},                               /* in (%dx),%al */
    {1, {0xee}},                               /* out %al,(%dx) */
    {2, {0xe6, 0xf0}},                         /* out %al,$0xf0: the doorbells */
    {2, {0xe6, 0xf1}},                         /* out %al,$0xf1 */
    {2, {0xe7, 0xf0}},                         /* out %eax,$0xf0 */
    {2, {0xe4, 0xf0}},                         /* in $0xf0,%al */
    {2, {0xf3, 0x6e}},                         /* rep outsb */
    {2, {0xf3, 0x6c}},                         /* rep insb */
    {2, {0x0f, 0x05}},                         /* syscall */
    {2, {0x0f, 0x34}},                         /* sysenter */
    {2, {0x0f, 0x35}},                         /* sysexit */
    {3, {0x48, 0x0f, 0x07}},                   /* sysretq */
    {2, {0x0f, 0x07}},                         /* sysretl */
    {2, {0x48, 0xcf}},                         /* iretq */
    {1, {0xcf}},                               /* iret */
    {1, {0xcb}},                               /* lret */
    {2, {0x48, 0xcb}},                         /* lretq */
    {2, {0xff, 0x2e}},                         /* ljmp *(%rsi) */
    {3, {0x48, 0xff, 0x2e}},                   /* rex.w ljmp *(%rsi) */
    {2, {0xff, 0x1e}},                         /* lcall *(%rsi) */
    {2, {0x0f, 0x32}},                         /* rdmsr */
    {2, {0x0f, 0x30}},                         /* wrmsr */
    {2, {0x0f, 0x33}},                         /* rdpmc */
    {2, {0x0f, 0x31}},                         /* rdtsc */
    {3, {0x0f, 0x01, 0xf9}},                   /* rdtscp */
    {3, {0x0f, 0x01, 0xf8}},                   /* swapgs */
    {3, {0x0f, 0x01, 0xd0}},                   /* xgetbv */
    {3, {0x0f, 0x01, 0xd1}},                   /* xsetbv */
    {3, {0x0f, 0x01, 0xc1}},                   /* vmcall */
    {3, {0x0f, 0x01, 0xd9}},                   /* vmmcall */
    {3, {0x0f, 0x01, 0xc2}},                   /* vmlaunch */
    {3, {0x0f, 0x01, 0xd8}},                   /* vmrun */
    {3, {0x0f, 0x01, 0xc8}},                   /* monitor */
    {3, {0x0f, 0x01, 0xc9}},                   /* mwait */
    {3, {0x0f, 0x01, 0xca}},                   /* clac */
    {3, {0x0f, 0x01, 0xcb}},                   /* stac */
    {3, {0x0f, 0x01, 0xee}},                   /* rdpkru */
    {3, {0x0f, 0x01, 0xef}},                   /* wrpkru */
    {3, {0x0f, 0x01, 0x06}},                   /* sgdt (%rsi) */
    {3, {0x0f, 0x01, 0x0e}},                   /* sidt (%rsi) */
    {3, {0x0f, 0x01, 0x16}},                   /* lgdt (%rsi) */
    {3, {0x0f, 0x01, 0x1e}},                   /* lidt (%rsi) */
    {3, {0x0f, 0x01, 0x26}},                   /* smsw (%rsi) */
    {3, {0x0f, 0x01, 0x36}},                   /* lmsw (%rsi) */
    {3, {0x0f, 0x01, 0x3e}},                   /* invlpg (%rsi) */
    {3, {0x0f, 0x00, 0xc0}},                   /* sldt %eax */
    {3, {0x0f, 0x00, 0xc8}},                   /* str %eax */
    {3, {0x0f, 0x00, 0xd0}},                   /* lldt %ax */
    {3, {0x0f, 0x00, 0xd8}},                   /* ltr %ax */
    {3, {0x0f, 0x00, 0xe0}},                   /* verr %ax */
    {3, {0x0f, 0x02, 0xc1}},                   /* lar %cx,%eax */
    {3, {0x0f, 0x03, 0xc1}},                   /* lsl %cx,%eax */
    {2, {0x0f, 0x06}},                         /* clts */
    {2, {0x0f, 0x08}},                         /* invd */
    {2, {0x0f, 0x09}},                         /* wbinvd */
    {3, {0x0f, 0x20, 0xd8}},                   /* mov %cr3,%rax */
    {3, {0x0f, 0x22, 0xd8}},                   /* mov %rax,%cr3 */
    {3, {0x0f, 0x22, 0xc0}},                   /* mov %rax,%cr0 */
    {3, {0x0f, 0x22, 0xe0}},                   /* mov %rax,%cr4 */
    {4, {0x44, 0x0f, 0x22, 0xc0}},             /* mov %rax,%cr8 */
    {3, {0x0f, 0x21, 0xf8}},                   /* mov %dr7,%rax */
    {3, {0x0f, 0x23, 0xf8}},                   /* mov %rax,%dr7 */
    {2, {0x8e, 0xd8}},                         /* mov %eax,%ds */
    {2, {0x8e, 0xc0}},                         /* mov %eax,%es */
    {2, {0x8e, 0xe0}},                         /* mov %eax,%fs */
    {2, {0x8e, 0xe8}},                         /* mov %eax,%gs */
    {2, {0x8e, 0xd0}},                         /* mov %eax,%ss */
    {5, {0xf3, 0x48, 0x0f, 0xae, 0xd0}},       /* wrfsbase %rax */
    {5, {0xf3, 0x48, 0x0f, 0xae, 0xd8}},       /* wrgsbase %rax */
    {5, {0xf3, 0x48, 0x0f, 0xae, 0xc0}},       /* rdfsbase %rax */
    {2, {0x0f, 0xa2}},                         /* cpuid */
    {2, {0x0f, 0x0b}},                         /* ud2 */
    {1, {0xcc}},                               /* int3 */
    {1, {0xf1}},                               /* int1 */
    {3, {0x48, 0xf7, 0xf1}},                   /* div %rcx */
    {3, {0x0f, 0xae, 0x0e}},                   /* fxrstor (%rsi) */
    {3, {0x0f, 0xae, 0x2e}},                   /* xrstor (%rsi) */
    {3, {0x0f, 0xae, 0x26}},                   /* xsave (%rsi) */
    {3, {0x0f, 0xae, 0x16}},                   /* ldmxcsr (%rsi) */
    {4, {0x48, 0x0f, 0xc7, 0x0e}},             /* cmpxchg16b (%rsi) */
    {3, {0x0f, 0xc7, 0xf0}},                   /* rdrand %eax */
    {4, {0xc8, 0xff, 0xff, 0x1f}},             /* enter $-1,$31 */
    {1, {0xc9}},                               /* leave */
    {1, {0xfd}},                               /* std */
    {2, {0xf3, 0xa4}},                         /* rep movsb */
    {3, {0xf3, 0x48, 0xab}},                   /* rep stosq */
    {3, {0x0f, 0x18, 0x06}},                   /* prefetchnta (%rsi) */
    {6, {0xc7, 0xf8, 0x00, 0x00, 0x00, 0x00}}, /* xbegin */
    {5, {0x66, 0x0f, 0x38, 0x82, 0x06}},       /* invpcid (%rsi),%rax */
    {4, {0xf3, 0x0f, 0xc7, 0xf8}},             /* rdpid %rax */
    {4, {0xf3, 0x0f, 0x01, 0xe8}},             /* setssbsy */
};

static uint64_t flags(struct thread* t) {
  static const uint64_t kFlags[] = {0x100,   0x400,   0x4000,   0x40000, 0x10000,
                                    0x20000, 0x80000, 0x100000, 0x200,   0x3000};
  uint64_t value = 2;
  for (uint64_t n = below(t, 3); n > 0; n--)
    value |= kFlags[below(t, sizeof kFlags / sizeof kFlags[0])];
  return value;
}

/* Calls `target` with hostile registers and flags; takes back what it may have left behind. */
static void jump(struct thread* t, const void* target) {
  uint64_t a = argument(t), c = argument(t), d = argument(t), s = argument(t), i = argument(t);
  uint64_t rflags = below(t, 8) == 0 ? flags(t) : 2;
  if (below(t, 4) == 0) a = below(t, 2) == 0 ? below(t, 0x80) : 0xf000000000000000u;
  if (below(t, 4) == 0) d = below(t, 2) == 0 ? 0xf0 + below(t, 2) : below(t, 65536);
  __asm__ volatile(
      "mov %%rsp, %c[sp](%[t])\n\t"
      "mov %%rbp, %c[bp](%[t])\n\t"
      "sub $256, %%rsp\n\t"
      "push %[flags]\n\t"
      "popfq\n\t"
      "call *%[target]\n\t"
      "pushq $2\n\t"
      "popfq\n\t"
      "mov %c[sp](%[t]), %%rsp\n\t"
      "mov %c[bp](%[t]), %%rbp\n\t"
      : "+a"(a), "+c"(c), "+d"(d), "+S"(s), "+D"(i)
      : [t] "r"(t), [flags] "r"(rflags), [target] "r"(target),
        [sp] "i"(__builtin_offsetof(struct thread, stack_pointer)),
        [bp] "i"(__builtin_offsetof(struct thread, frame_pointer))
      : "memory", "cc", "r8", "r9", "r10", "r11");
}

static void instruction(struct thread* t) {
  unsigned char* at = code + 64 * below(t, 60);
  const uint64_t which = below(t, sizeof kInstructions / sizeof kInstructions[0]);
  memcpy(at, kInstructions[which].text, kInstructions[which].bytes);
  at[kInstructions[which].bytes] = 0xc3;
  jump(t, at);
}

static void stray_bytes(struct thread* t) {
  unsigned char* at = code + 64 * below(t, 60);
  for (int i = 0; i < 48; i += 8) {
    const uint64_t word = draw(t);
    memcpy(at + i, &word, sizeof word);
  }
  at[48] = 0xc3;
  jump(t, at);
}

static void restore_fs(const struct thread* t) {
  const uint64_t a[6] = {0x1002 /* ARCH_SET_FS */, t->fs_base};
  raw(SYS_arch_prctl, a);
}

/* What a system without signals ends the run for. */
static void odd_step(struct thread* t) {
  switch (below(t, 10)) {
    case 0:
      jump(t, int_table + 4 * below(t, 256));
      break;
    case 1:
      jump(t, (const void*)(uintptr_t)(0x2000 + below(t, 0x1000))); /* the stubs */
      break;
    case 2:
      jump(t, (const void*)(uintptr_t)address(t));
      break;
    case 3:
      stray_bytes(t);
      break;
    case 4: /* touch */
      *(volatile unsigned char*)(uintptr_t)address(t) = (unsigned char)draw(t);
      break;
    default:
      instruction(t);
  }
}

static void step(struct thread* t) {
  if (below(t, odd_one_in) == 0)
    odd_step(t);
  else if (below(t, 16) == 0)
    host_call(t);
  else if (below(t, 16) == 0)
    fill_scratch(t);
  else
    call(t);
  restore_fs(t);
}

static struct thread* thread_of(const void* stack_address) {
  return (struct thread*)((uintptr_t)stack_address & ~(uintptr_t)(kThreadBytes - 1));
}

/* On the alternate stack, which tells whose it is: fs may be anything here. */
static void on_fault(int signal, siginfo_t* info, void* context) {
  struct thread* t = thread_of(__builtin_frame_address(0));
  (void)signal, (void)info, (void)context;
  __asm__ volatile("cld");
  restore_fs(t);
  _longjmp(t->back, 1);
}

static void on_timer(int signal) { (void)signal; }

static void run(struct thread* t) {
  const stack_t alternate = {.ss_sp = t + 1, .ss_size = kThreadBytes - sizeof *t};
  sigaltstack(&alternate, NULL);
  syscall(SYS_arch_prctl, 0x1003 /* ARCH_GET_FS */, &t->fs_base);
  _setjmp(t->back);
  while (t->steps < step_limit) {
    t->steps++;
    step(t);
  }
}

static void* run_thread(void* argument) {
  run(argument);
  return NULL;
}

static void catch_signals(struct thread* t) {
  static const int kFaults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};
  static const int kOthers[] = {SIGALRM, SIGVTALRM, SIGPROF, SIGUSR1, SIGUSR2, SIGPIPE, SIGCHLD};
  struct sigaction fault = {.sa_sigaction = on_fault,
                            .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
  struct sigaction other = {.sa_handler = on_timer,
                            .sa_flags = below(t, 2) == 0 ? SA_RESTART | SA_ONSTACK : SA_ONSTACK};
  const struct itimerval often = {{0, 3000}, {0, 1000}};
  for (size_t i = 0; i < sizeof kFaults / sizeof kFaults[0]; i++)
    sigaction(kFaults[i], &fault, NULL);
  for (size_t i = 0; i < sizeof kOthers / sizeof kOthers[0]; i++)
    sigaction(kOthers[i], &other, NULL);
  if (below(t, 2) == 0) setitimer(ITIMER_REAL, &often, NULL);
}

static void* map(size_t bytes, int protection) {
  void* at = mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) _exit(3);
  return at;
}

int main(int argc, char** argv) {
  pthread_t id[kMaxThreads];
  if (argc != 4) return 2;
  const uint64_t seed = strtoull(argv[1], NULL, 10);
  const int threads = atoi(argv[3]);
  if (threads < 1 || threads > kMaxThreads) return 2;
  step_limit = atol(argv[2]);
  vdso = getauxval(AT_SYSINFO_EHDR);
  if (vdso == 0) vdso = (uint64_t)(uintptr_t)argv;
  scratch = map(kScratchBytes + 4096, PROT_READ | PROT_WRITE);
  munmap(scratch + kScratchBytes, 4096);
  code = map(4096, PROT_READ | PROT_WRITE | PROT_EXEC);
  locked = map(4096, PROT_NONE);
  unsigned char* states = map((size_t)(threads + 1) * kThreadBytes, PROT_READ | PROT_WRITE);
  states = (unsigned char*)thread_of(states + kThreadBytes - 1);
  for (int i = 0; i < threads; i++)
    ((struct thread*)(states + i * kThreadBytes))->random = (seed + (uint64_t)i) * 2 + 1;
  struct thread* first = (struct thread*)states;
  odd_one_in = (uint64_t[]){3, 20, 100, 100000}[below(first, 4)];
  fill_scratch(first);
  open("/data/file", O_RDWR | O_CREAT, 0644);
  open("/data", O_RDONLY | O_DIRECTORY);
  open("/tmp/a", O_RDWR | O_CREAT, 0644);
  catch_signals(first);
  for (int i = 1; i < threads; i++)
    if (pthread_create(&id[i], NULL, run_thread, states + i * kThreadBytes) != 0) break;
  run(first);
  _exit(0);
}
