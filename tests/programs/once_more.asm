; In front of a BIOS: TIMES times at each boot it resets the machine, after DELAY rounds of a loop;
; then the BIOS has its turn. How often it has done so stands in the CMOS, in a byte that nobody else
; uses.
;
;   nasm -f bin -DDELAY=5000000 -DTIMES=1 -o once_more.bin once_more.asm

NOTE    equ 0x7E

bits 16
    mov al, NOTE
    out 0x70, al
    in al, 0x71
    mov bl, al
    cmp al, TIMES
    mov al, 0
    jae .go_on
    mov ecx, DELAY
.wait:
    dec ecx
    jns .wait
    mov al, NOTE
    out 0x70, al
    mov al, bl
    inc al
    out 0x71, al
    mov al, 0xFE                        ; by the keyboard controller
    out 0x64, al
    jmp $
.go_on:
    out 0x71, al
    jmp 0xF000:0xE05B                   ; where every BIOS begins
