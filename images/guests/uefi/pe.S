/* The PE32+ header of an EFI application, written by hand: LLVM 14 makes none for RISC-V.
 *
 * SPDX-License-Identifier: MIT
 *
 * Fields as in Microsoft's "PE Format"; image.lds gives the sizes. What follows is position
 * independent and has no relocations. Offsets in the file are offsets in memory.
 */
#if defined(__x86_64__)
#define MACHINE 0x8664
#elif defined(__aarch64__)
#define MACHINE 0xAA64
#elif defined(__riscv)
#define MACHINE 0x5064
#elif defined(__loongarch64)
#define MACHINE 0x6264
#endif

        .section .header, "a"
start:
        .ascii  "MZ"
        .org    start + 0x3C
        .long   pe - start
pe:
        .asciz  "PE\0"
        .short  MACHINE
        .short  2                       /* sections */
        .long   0                       /* time stamp */
        .long   0, 0                    /* symbols */
        .short  sections - optional
        .short  0x020E                  /* executable; no line numbers, no debug information */
optional:
        .short  0x020B                  /* PE32+ */
        .byte   0, 0
        .long   text_size
        .long   data_file_size
        .long   bss_size
        .long   entry_address
        .long   text_address
        .quad   0                       /* image base */
        .long   0x1000, 0x1000          /* alignment of sections in memory, in the file */
        .short  0, 0, 0, 0, 0, 0        /* versions */
        .long   0
        .long   image_size
        .long   text_address            /* size of headers */
        .long   0                       /* checksum */
        .short  10                      /* EFI application */
        .short  0x0100                  /* no page is both written to and executed */
        .quad   0, 0, 0, 0              /* stack and heap */
        .long   0
        .long   6                       /* directories, all empty: sbsign fills the fifth */
        .quad   0, 0, 0, 0, 0, 0
sections:
        .ascii  ".text\0\0\0"
        .long   text_size, text_address, text_size, text_address
        .long   0, 0, 0
        .long   0x60000020              /* code, executed, read */
        .ascii  ".data\0\0\0"
        .long   data_size, data_address, data_file_size, data_address
        .long   0, 0, 0
        .long   0xC0000040              /* data, read, written to */
