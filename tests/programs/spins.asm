; A firmware that does nothing: it jumps to where it is linked to, and spins there.
;
;   nasm -f elf32 -o spins.o spins.asm
;   ld.lld -m elf_i386 -Ttext 0xf0000 -e reset_vector -o spins.elf spins.o
;   llvm-objcopy -O binary spins.elf spins.bin

bits 16
global reset_vector, wait_for_a_device, said

section .text
        times 0x100 db 0xf4
said:
        cli
        jmp     wait_for_a_device
        times 0x1000 - ($ - $$) db 0xf4

wait_for_a_device:
        in      al, 0x80
        jmp     wait_for_a_device
.end:
        times 0xfff0 - ($ - $$) db 0xf4

reset_vector:
        db      0xea                    ; jmp far 0xf000:said
        dw      said - $$
        dw      0xf000
        times 0x10000 - ($ - $$) db 0
