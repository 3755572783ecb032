# Where Open Firmware enters its client, in 32-bit mode: r5 is the client interface (IEEE 1275, the
# PowerPC binding, 8.2). And how the client calls the run-time abstraction services (PAPR, 7.2).
#
# SPDX-License-Identifier: MIT
    .section .start, "ax"
    .globl _start
_start:
    lis     %r1, stack_end@ha
    la      %r1, stack_end@l-16(%r1)
    mr      %r3, %r5
    bl      main
0:  b       0b

# void rtas(u32 arguments, u32 base, u32 entry)
    .globl rtas
rtas:
    mtctr   %r5
    bctr

    .bss
    .balign 16
    .space  0x4000
stack_end:
