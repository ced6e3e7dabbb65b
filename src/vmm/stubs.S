/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All the code that a guest's ring 0 ever runs: one page, copied into every virtual machine at
 * WAXVM_STUB_ADDRESS. The doorbell is `out` to port 0xf0 (a system
 * call) or 0xf1 (an exception, told by the address of the stub).
 *
 * On paravirtual KVM `syscall` enters the stub in ring 3, where port 0xf0 is opened by the TSS and
 * the way back is a jump; r11 is free there. On hardware it is ring 0, and port 0xf0 stays closed
 * to ring 3.
 */
#include "src/vmm/stubs.h"

        .section .rodata.waxvm_stubs, "a"
        .code64
        .globl  waxvm_stub_start, waxvm_stub_end
        .globl  waxvm_stub_syscall_paravirtual, waxvm_stub_syscall_hardware
        .globl  waxvm_stub_flush_syscall, waxvm_stub_flush_exception, waxvm_stub_flush_exception_code
        .globl  waxvm_stub_load_extended, waxvm_stub_load_extended_end
        .globl  waxvm_stub_saved_rax, waxvm_stub_exceptions, waxvm_stub_answers
        .hidden waxvm_stub_start, waxvm_stub_end
        .hidden waxvm_stub_syscall_paravirtual, waxvm_stub_syscall_hardware
        .hidden waxvm_stub_flush_syscall, waxvm_stub_flush_exception, waxvm_stub_flush_exception_code
        .hidden waxvm_stub_load_extended, waxvm_stub_load_extended_end
        .hidden waxvm_stub_saved_rax, waxvm_stub_exceptions, waxvm_stub_answers

        .balign 4096
waxvm_stub_start:

/* System calls whose answer never changes are looked up; arch_prctl(ARCH_SET_FS) with an address
 * in the user half is done in place. Everything else leaves. */
waxvm_stub_syscall_paravirtual:
        cmp     $512, %rax
        jae     1f
        lea     waxvm_stub_answers(%rip), %r11
        movslq  (%r11,%rax,4), %r11
        cmp     $-4096, %r11d
        je      1f
        cmp     $-4097, %r11d
        je      2f
        mov     %r11, %rax
        jmp     *%rcx
2:      cmp     $0x1002, %rdi
        jne     1f
        mov     %rsi, %r11
        shr     $47, %r11
        jnz     1f
        wrfsbase %rsi
        xor     %eax, %eax
        jmp     *%rcx
/* The number waits in r11: most results are 0, and cost the host no access to registers so. */
1:      mov     %rax, %r11
        mov     $0, %eax
        out     %al, $0xf0
        jmp     *%rcx

/* No register is free here: rcx and r11 hold the way back, and a kernel keeps the others. So the
 * answer is looked at in place, at the address where the page always lies, before it takes the
 * place of its number. There is no -4097 here. */
        .balign 16
waxvm_stub_syscall_hardware:
        cmp     $512, %rax
        jae     1f
        cmpl    $-4096, WAXVM_STUB_ADDRESS + (waxvm_stub_answers - waxvm_stub_start)(,%rax,4)
        je      1f
        movslq  WAXVM_STUB_ADDRESS + (waxvm_stub_answers - waxvm_stub_start)(,%rax,4), %rax
        sysretq
1:      out     %al, $0xf0
        sysretq

/* The way back from a system call whose vector registers are those of an image (paravirtual): rcx
 * holds where to, r11, which is free as above, what goes into rax. */
        .balign 16
waxvm_stub_load_extended:
        mov     $-1, %eax
        mov     %eax, %edx
        xrstor64 WAXVM_EXTENDED_ADDRESS
        mov     WAXVM_EXTENDED_ADDRESS + WAXVM_EXTENDED_RDX, %rdx
        mov     %r11, %rax
        jmp     *%rcx
waxvm_stub_load_extended_end:

/* The way back after rights were taken away: drop what the TLB holds. rax waits in memory. */
        .balign 16
waxvm_stub_flush_syscall:
        mov     %cr3, %rax
        mov     %rax, %cr3
        mov     waxvm_stub_saved_rax(%rip), %rax
        sysretq
        .balign 16
waxvm_stub_flush_exception_code:
        add     $8, %rsp
waxvm_stub_flush_exception:
        mov     %cr3, %rax
        mov     %rax, %cr3
        mov     waxvm_stub_saved_rax(%rip), %rax
        iretq
        .balign 8
waxvm_stub_saved_rax:
        .quad   0

/* One stub of 16 bytes for each of the 32 exceptions. Those that push an error code drop it. */
        .balign 16
waxvm_stub_exceptions:
        .set    vector, 0
        .rept   32
        .balign 16
        out     %al, $0xf1
        .if (1 << vector) & 0x60227d00
        add     $8, %rsp
        .endif
        iretq
        .set    vector, vector + 1
        .endr

/* 512 answers: a value, -4096 (leave), or -4097 (arch_prctl). */
        .balign 64
waxvm_stub_answers:
        .fill   512, 4, -4096
        .org    waxvm_stub_start + 4096     /* an error if the stubs do not fit into one page */
waxvm_stub_end:
        .section .note.GNU-stack, "", @progbits
