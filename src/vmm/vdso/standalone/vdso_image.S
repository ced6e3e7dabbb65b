/* SPDX-License-Identifier: Apache-2.0 */
/* The vDSO as bytes inside the library; WAXVM_VDSO_PATH is set by the build. */
        .section .rodata
        .balign 4096
        .globl  waxvm_vdso_image
        .hidden waxvm_vdso_image
        .globl  waxvm_vdso_image_end
        .hidden waxvm_vdso_image_end
waxvm_vdso_image:
        .incbin WAXVM_VDSO_PATH
waxvm_vdso_image_end:
        .section .note.GNU-stack, "", @progbits
