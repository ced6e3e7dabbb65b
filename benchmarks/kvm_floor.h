/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The physical floor of a microVM's life: the ioctls without which no code runs in ring 3, and
 * nothing else. C, because the kernel's headers give some KVM structures another size in C++.
 */
#ifndef WAXVM_BENCHMARKS_KVM_FLOOR_H_
#define WAXVM_BENCHMARKS_KVM_FLOOR_H_

#ifdef __cplusplus
extern "C" {
#endif

/* What is prepared once and is not part of the floor: /dev/kvm, the CPUID table, the guest's 2 MiB
 * with its page tables and its loop of `out`, the register values. */
struct kvm_floor;

/* NULL, with errno set, where KVM does not work; `*step` then names what failed. */
struct kvm_floor* kvm_floor_open(const char** step);

/* Makes a VM with one memory slot and one vCPU, runs it to its first exit from ring 3 and frees
 * everything. Returns NULL, or what failed, with errno set. */
const char* kvm_floor_run(struct kvm_floor* floor);

/* Makes the VM and the vCPU that kvm_floor_exit goes on with, and keeps them until the floor is
 * closed. Returns as kvm_floor_run. */
const char* kvm_floor_start(struct kvm_floor* floor);

/* One KVM_RUN of a started floor: into ring 3, and out again by its `out`. */
const char* kvm_floor_exit(struct kvm_floor* floor);

/* On a started floor: `count` times `syscall` in ring 3, answered by a jump back (the least that an
 * answer inside the guest can be where `syscall` stays in ring 3, as on paravirtual KVM), then one
 * exit. kvm_floor_exit must not follow. */
const char* kvm_floor_syscalls(struct kvm_floor* floor, unsigned count);

/* NULL is allowed. */
void kvm_floor_close(struct kvm_floor* floor);

#ifdef __cplusplus
}
#endif

#endif /* WAXVM_BENCHMARKS_KVM_FLOOR_H_ */
