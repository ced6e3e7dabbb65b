/* SPDX-License-Identifier: Apache-2.0 */
/* The stage program as bytes inside the library; WAXVM_STAGE_PATH is set by the build. */
        .section .rodata
        .balign 4096
        .globl  waxvm_stage_image
        .hidden waxvm_stage_image
        .globl  waxvm_stage_image_end
        .hidden waxvm_stage_image_end
waxvm_stage_image:
        .incbin WAXVM_STAGE_PATH
waxvm_stage_image_end:
        .section .note.GNU-stack, "", @progbits
