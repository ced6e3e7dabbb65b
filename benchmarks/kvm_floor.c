/* SPDX-License-Identifier: Apache-2.0 */
#include "benchmarks/kvm_floor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
  kMemoryBytes = 2 << 20,
  kMaxCpuidEntries = 256,
  kPort = 0xf0,
  /* Where things are in guest memory. */
  kGdt = 0x1000,
  kPml4 = 0x2000,
  kPdpt = 0x3000,
  kPageDirectory = 0x4000,
  kTss = 0x5000,
  kCode = 0x6000,
  kSyscallCode = 0x6100,
  kSyscallEntry = 0x6200,
  kStackTop = 0x8000,
  /* The 64-bit TSS is 104 bytes long; the I/O bitmap behind it covers ports up to kPort. */
  kTssBytes = 0x68,
  kIoBitmapBytes = 0x60,
};

struct kvm_floor {
  int kvm;
  int run_bytes;
  /* What kvm_floor_start made; -1 and NULL before. */
  int vm;
  int vcpu;
  struct kvm_run* run;
  uint8_t* memory;
  struct kvm_cpuid2* cpuid;
  struct kvm_sregs sregs;
  struct kvm_regs regs;
};

static void put64(uint8_t* memory, uint64_t at, uint64_t value) {
  memcpy(memory + at, &value, sizeof value);
}

/* Identity-maps the memory for ring 3 and places `1: out %al, $kPort; jmp 1b` there. */
static void prepare_memory(uint8_t* memory) {
  static const uint8_t kOut[] = {0xe6, kPort, 0xeb, 0xfc};
  /* 1: syscall; dec %ebx; jnz 1b; out %al, $kPort. And where `syscall` goes: jmp *%rcx. */
  static const uint8_t kSyscalls[] = {0x0f, 0x05, 0xff, 0xcb, 0x75, 0xfa, 0xe6, kPort};
  static const uint8_t kEntry[] = {0xff, 0xe1};
  const uint64_t user_writable = 0x67; /* present, writable, user, accessed, dirty */
  put64(memory, kPml4, kPdpt | user_writable);
  put64(memory, kPdpt, kPageDirectory | user_writable);
  put64(memory, kPageDirectory, 0x80 | user_writable);
  put64(memory, kGdt + 8 * 4, 0x00cff3000000ffff); /* ring-3 data, selector 0x23 */
  put64(memory, kGdt + 8 * 5, 0x00affb000000ffff); /* ring-3 code, selector 0x2b */
  put64(memory, kGdt + 8 * 6,
        0x8b0000000000u | ((uint64_t)kTss << 16) | (kTssBytes + kIoBitmapBytes - 1));
  memory[kTss + 0x66] = kTssBytes; /* where the I/O bitmap starts */
  memset(memory + kTss + kTssBytes, 0xff, kIoBitmapBytes);
  memory[kTss + kTssBytes + kPort / 8] &= (uint8_t) ~(1u << (kPort % 8));
  memcpy(memory + kCode, kOut, sizeof kOut);
  memcpy(memory + kSyscallCode, kSyscalls, sizeof kSyscalls);
  memcpy(memory + kSyscallEntry, kEntry, sizeof kEntry);
}

/* 64-bit user mode. Paravirtual KVM lets ring 3 through by the I/O bitmap, an emulator that knows
 * no bitmap by the I/O privilege level: both are set. */
static void prepare_registers(struct kvm_floor* floor) {
  struct kvm_sregs* s = &floor->sregs;
  const struct kvm_segment code = {.limit = 0xffffffff,
                                   .selector = 0x2b,
                                   .type = 11,
                                   .present = 1,
                                   .dpl = 3,
                                   .s = 1,
                                   .l = 1,
                                   .g = 1};
  const struct kvm_segment data = {.limit = 0xffffffff,
                                   .selector = 0x23,
                                   .type = 3,
                                   .present = 1,
                                   .dpl = 3,
                                   .s = 1,
                                   .db = 1,
                                   .g = 1};
  s->cs = code;
  s->ds = s->es = s->fs = s->gs = s->ss = data;
  s->tr = (struct kvm_segment){.base = kTss,
                               .limit = kTssBytes + kIoBitmapBytes - 1,
                               .selector = 0x30,
                               .type = 11,
                               .present = 1};
  s->gdt.base = kGdt;
  s->gdt.limit = 8 * 8 - 1;
  s->cr0 = 0x80050033; /* PG AM WP NE ET MP PE */
  s->cr3 = kPml4;
  s->cr4 = 0x620;  /* PAE OSFXSR OSXMMEXCPT */
  s->efer = 0xd01; /* SCE LME LMA NXE */
  floor->regs = (struct kvm_regs){.rip = kCode, .rsp = kStackTop, .rflags = 0x3002};
}

/* The state of a fresh vCPU is taken once, so that the loop only sets it. */
static const char* read_sregs(struct kvm_floor* floor) {
  const char* failed = NULL;
  int vm = ioctl(floor->kvm, KVM_CREATE_VM, 0);
  if (vm < 0) return "KVM_CREATE_VM";
  int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
  if (vcpu < 0)
    failed = "KVM_CREATE_VCPU";
  else if (ioctl(vcpu, KVM_GET_SREGS, &floor->sregs) != 0)
    failed = "KVM_GET_SREGS";
  const int error = errno;
  if (vcpu >= 0) close(vcpu);
  close(vm);
  errno = error;
  return failed;
}

static const char* prepare(struct kvm_floor* floor) {
  floor->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (floor->kvm < 0) return "/dev/kvm";
  floor->run_bytes = ioctl(floor->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
  if (floor->run_bytes <= 0) return "KVM_GET_VCPU_MMAP_SIZE";
  floor->cpuid =
      calloc(1, sizeof *floor->cpuid + kMaxCpuidEntries * sizeof floor->cpuid->entries[0]);
  if (floor->cpuid == NULL) return "memory";
  floor->cpuid->nent = kMaxCpuidEntries;
  if (ioctl(floor->kvm, KVM_GET_SUPPORTED_CPUID, floor->cpuid) != 0)
    return "KVM_GET_SUPPORTED_CPUID";
  void* memory =
      mmap(NULL, kMemoryBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return "mmap";
  floor->memory = memory;
  prepare_memory(floor->memory);
  const char* failed = read_sregs(floor);
  if (failed == NULL) prepare_registers(floor);
  return failed;
}

struct kvm_floor* kvm_floor_open(const char** step) {
  struct kvm_floor* floor = calloc(1, sizeof *floor);
  *step = "memory";
  if (floor == NULL) return NULL;
  floor->kvm = floor->vm = floor->vcpu = -1;
  *step = prepare(floor);
  if (*step == NULL) return floor;
  const int error = errno;
  kvm_floor_close(floor);
  errno = error;
  return NULL;
}

/* Takes back what start_vm made, however far it came. */
static void stop_vm(struct kvm_floor* floor) {
  if (floor->run != NULL) munmap(floor->run, (size_t)floor->run_bytes);
  if (floor->vcpu >= 0) close(floor->vcpu);
  if (floor->vm >= 0) close(floor->vm);
  floor->run = NULL;
  floor->vm = floor->vcpu = -1;
}

void kvm_floor_close(struct kvm_floor* floor) {
  if (floor == NULL) return;
  stop_vm(floor);
  if (floor->memory != NULL) munmap(floor->memory, kMemoryBytes);
  if (floor->kvm >= 0) close(floor->kvm);
  free(floor->cpuid);
  free(floor);
}

static const char* start_vm(struct kvm_floor* floor) {
  const struct kvm_userspace_memory_region slot = {
      .memory_size = kMemoryBytes, .userspace_addr = (uint64_t)(uintptr_t)floor->memory};
  if ((floor->vm = ioctl(floor->kvm, KVM_CREATE_VM, 0)) < 0) return "KVM_CREATE_VM";
  if (ioctl(floor->vm, KVM_SET_USER_MEMORY_REGION, &slot) != 0) return "KVM_SET_USER_MEMORY_REGION";
  if ((floor->vcpu = ioctl(floor->vm, KVM_CREATE_VCPU, 0)) < 0) return "KVM_CREATE_VCPU";
  void* run =
      mmap(NULL, (size_t)floor->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, floor->vcpu, 0);
  if (run == MAP_FAILED) return "mmap of kvm_run";
  floor->run = run;
  if (ioctl(floor->vcpu, KVM_SET_CPUID2, floor->cpuid) != 0) return "KVM_SET_CPUID2";
  if (ioctl(floor->vcpu, KVM_SET_SREGS, &floor->sregs) != 0) return "KVM_SET_SREGS";
  if (ioctl(floor->vcpu, KVM_SET_REGS, &floor->regs) != 0) return "KVM_SET_REGS";
  return NULL;
}

const char* kvm_floor_exit(struct kvm_floor* floor) {
  if (ioctl(floor->vcpu, KVM_RUN, 0) != 0) return "KVM_RUN";
  if (floor->run->exit_reason != KVM_EXIT_IO || floor->run->io.port != kPort)
    return "the exit from ring 3";
  return NULL;
}

const char* kvm_floor_syscalls(struct kvm_floor* floor, unsigned count) {
  static const struct kvm_msr_entry kEntries[] = {
      {.index = 0xc0000081, .data = 0x001b000800000000}, /* STAR */
      {.index = 0xc0000082, .data = kSyscallEntry},      /* LSTAR */
      {.index = 0xc0000084, .data = 0x700},              /* SFMASK */
  };
  enum { kCount = sizeof kEntries / sizeof kEntries[0] };
  _Alignas(struct kvm_msrs) char buffer[sizeof(struct kvm_msrs) + sizeof kEntries];
  struct kvm_msrs* msrs = (struct kvm_msrs*)buffer;
  msrs->nmsrs = kCount;
  msrs->pad = 0;
  memcpy(msrs->entries, kEntries, sizeof kEntries);
  struct kvm_regs regs = floor->regs;
  regs.rip = kSyscallCode;
  regs.rbx = count;
  if (ioctl(floor->vcpu, KVM_SET_MSRS, msrs) != kCount) return "KVM_SET_MSRS";
  if (ioctl(floor->vcpu, KVM_SET_REGS, &regs) != 0) return "KVM_SET_REGS";
  return kvm_floor_exit(floor);
}

const char* kvm_floor_start(struct kvm_floor* floor) {
  const char* failed = start_vm(floor);
  return failed != NULL ? failed : kvm_floor_exit(floor);
}

const char* kvm_floor_run(struct kvm_floor* floor) {
  const char* failed = kvm_floor_start(floor);
  const int error = errno;
  stop_vm(floor);
  errno = error;
  return failed;
}
