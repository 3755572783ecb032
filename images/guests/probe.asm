; The BIOS probe guest: says on COM1 which boot this is, which firmware it found and which disk
; it came from, then beats until it is told to reset.
;
; SPDX-License-Identifier: MIT
;
;   nasm -f bin -DLABEL="'A'" -o probe.img probe.asm        (harness/guests.py pads the image)
;
; Lines, each ended by CR LF (harness/probe_line.py reads them); the first is also preceded by one:
;   BOOTMATRIX up boot=3 bios-vendor="SeaBIOS" bios-version="1.14.0-2" disk="A"
;   BOOTMATRIX beat boot=3 beat=17
;   BOOTMATRIX here boot=3 beat=17 bios-vendor="SeaBIOS" bios-version="1.14.0-2" disk="A"
;   BOOTMATRIX reset by=cf9|keyboard|triple-fault
;   BOOTMATRIX failed reading-disk
; Commands, one byte each, anything else is ignored:
;   ?  "here", from what this boot has in memory       c  reset by port 0xCF9
;   k  reset by the keyboard controller                t  reset by a triple fault
;
; After the sectors are loaded no BIOS service and no BIOS interrupt handler runs again: SeaBIOS
; with graphics=off would take the command bytes for key strokes at each of its timer ticks.

%ifndef LABEL
    %fatal define LABEL, the text the disk is known by
%endif

COM1            equ 0x3F8
IER             equ COM1 + 1
FCR             equ COM1 + 2
LCR             equ COM1 + 3
MCR             equ COM1 + 4
LSR             equ COM1 + 5
LSR_DR          equ 0x01                ; a byte was received
LSR_THRE        equ 0x20                ; the next byte can be given
LSR_TEMT        equ 0x40                ; all bytes are out

PIC1            equ 0x20
PIC2            equ 0xA0
PIC_EOI         equ 0x20
IRQ0_VECTOR     equ 0x08                ; where a BIOS puts IRQ 0 to 7
IRQ4_VECTOR     equ 0x0C
IRQ0_AND_IRQ4   equ 0x11

; Nobody else's: QEMU and SeaBIOS use nothing above 0x5F. Bit 7 of the index would mask the NMI.
CMOS_INDEX      equ 0x70
CMOS_DATA       equ 0x71
CMOS_MAGIC      equ 0x70                ; two bytes, then the boot counter's two
CMOS_BOOT       equ 0x72
MAGIC           equ 'BM'

TICKS_PER_BEAT  equ 9                   ; of 54.9 ms
STRING_SIZE     equ 64                  ; of a SMBIOS string, with its NUL
READ_ATTEMPTS   equ 4

%macro print 1
    mov si, %1
    call put_string
%endmacro

%macro cmos_read 1                      ; al = the byte at an index
    mov al, %1
    out CMOS_INDEX, al
    in al, CMOS_DATA
%endmacro

%macro cmos_write 2                     ; changes al
    mov al, %1
    out CMOS_INDEX, al
    mov al, %2
    out CMOS_DATA, al
%endmacro

%macro port_write 2                     ; changes al and dx
    mov dx, %1
    mov al, %2
    out dx, al
%endmacro

bits 16
org 0x7C00

; ---- The boot sector: dl is the BIOS drive ---------------------------------------------------

boot_sector:
    jmp 0:.start
.start:
    cli
    cld
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, boot_sector
    sti

    mov bp, READ_ATTEMPTS
.read:
    mov ax, 0x0200 | PAYLOAD_SECTORS    ; CHS 0/0/2 is on the first track in every geometry
    mov cx, 0x0002
    xor dh, dh
    mov bx, payload
    int 0x13
    jnc payload
    xor ah, ah
    int 0x13
    dec bp
    jnz .read

    cli
    call init_uart
    print text_disk_error
.stop:
    hlt
    jmp .stop

init_uart:                              ; 115200 8N1, FIFO on, no interrupts yet
    call drain_uart                     ; turning the FIFO on drops the firmware's last bytes
    port_write LCR, 0x80
    port_write COM1, 0x01
    port_write IER, 0x00
    port_write LCR, 0x03
    port_write IER, 0x00
    port_write FCR, 0x01
    port_write MCR, 0x0B                ; OUT2 lets the interrupt through
    ret

drain_uart:
    mov dx, LSR
.wait:
    in al, dx
    test al, LSR_TEMT
    jz .wait
    ret

put_char:                               ; al
    push dx
    push ax
    mov dx, LSR
.wait:
    in al, dx
    test al, LSR_THRE
    jz .wait
    pop ax
    mov dx, COM1
    out dx, al
    pop dx
    ret

put_string:                             ; si, ended by NUL
    lodsb
    test al, al
    jz .end
    call put_char
    jmp put_string
.end:
    ret

text_disk_error db 13, 10, 'BOOTMATRIX failed reading-disk', 13, 10, 0

    times 0x1BE - ($ - $$) db 0
    times 64 db 0                       ; no partitions: QEMU takes the geometry from them
    dw 0xAA55

; ---- The payload -----------------------------------------------------------------------------

payload:
    cli
    call init_uart
    call count_boot
    call read_smbios
    call take_interrupts

    print text_up
    call put_boot
    call put_identity

main_loop:
    cli                                 ; until hlt: no wake-up is lost between look and sleep
    mov dx, LSR
    in al, dx
    test al, LSR_DR
    jnz .command
    cmp byte [ticks], TICKS_PER_BEAT
    jae .beat
    sti
    hlt                                 ; a lost serial interrupt costs one timer tick at most
    jmp main_loop

.beat:
    mov byte [ticks], 0
    inc dword [beats]
    print text_beat
    call put_boot
    call put_beat
    print text_end
    jmp main_loop

.command:
    mov dx, COM1
    in al, dx
    cmp al, '?'
    je .here
    cmp al, 'c'
    je .reset_cf9
    cmp al, 'k'
    je .reset_keyboard
    cmp al, 't'
    je .reset_triple_fault
    jmp main_loop

.here:
    print text_here
    call put_boot
    call put_beat
    call put_identity
    jmp main_loop

; A reset that the machine refuses leads back to the main loop: the beats go on, and tell of it.

.reset_cf9:
    print text_reset_cf9
    call drain_uart
    port_write 0xCF9, 0x02
    port_write 0xCF9, 0x06
    jmp main_loop

.reset_keyboard:
    print text_reset_keyboard
    call drain_uart
.keyboard_busy:
    in al, 0x64
    test al, 0x02
    jnz .keyboard_busy
    mov al, 0xFE
    out 0x64, al
    jmp main_loop

.reset_triple_fault:
    print text_reset_triple_fault
    call drain_uart
    lidt [empty_idt]
    int3
    jmp main_loop                       ; a KVM that emulates real mode ignores the limit

; ---- Lines -----------------------------------------------------------------------------------

put_boot:
    print text_boot
    movzx eax, word [boot]
    jmp put_decimal

put_beat:
    print text_beat_value
    mov eax, [beats]
    jmp put_decimal

put_identity:                           ; and the line's end
    print text_vendor
    print bios_vendor
    print text_version
    print bios_version
    print text_disk
    ret

put_decimal:                            ; eax; changes ebx and edx
    xor edx, edx
    mov ebx, 10
    div ebx
    push dx
    test eax, eax
    jz .digit
    call put_decimal
.digit:
    pop ax
    add al, '0'
    jmp put_char

; ---- Interrupts ------------------------------------------------------------------------------

take_interrupts:                        ; IRQ 0 and 4 are ours, all others are masked
    mov word [IRQ0_VECTOR * 4], on_timer
    mov word [IRQ0_VECTOR * 4 + 2], 0
    mov word [IRQ4_VECTOR * 4], on_serial
    mov word [IRQ4_VECTOR * 4 + 2], 0
    mov al, ~IRQ0_AND_IRQ4 & 0xFF
    out PIC1 + 1, al
    mov al, 0xFF
    out PIC2 + 1, al
    port_write IER, 0x01                ; received data
    ret

on_timer:
    inc byte [cs:ticks]
on_serial:                              ; the main loop reads the byte
    push ax
    mov al, PIC_EOI
    out PIC1, al
    pop ax
    iret

; ---- The boot counter ------------------------------------------------------------------------

count_boot:
    cmos_read CMOS_MAGIC
    mov ah, al
    cmos_read CMOS_MAGIC + 1
    xchg al, ah
    xor bx, bx
    cmp ax, MAGIC
    jne .count
    cmos_read CMOS_BOOT
    mov bl, al
    cmos_read CMOS_BOOT + 1
    mov bh, al
.count:
    inc bx
    mov [boot], bx
    cmos_write CMOS_MAGIC, MAGIC & 0xFF
    cmos_write CMOS_MAGIC + 1, MAGIC >> 8
    cmos_write CMOS_BOOT, bl
    cmos_write CMOS_BOOT + 1, bh
    cmos_read 0x0D                      ; park the index on a register that reading leaves alone
    ret

; ---- SMBIOS (DSP0134, 5.2 entry points, 6.1 structures, 7.1 type 0) --------------------------

; The table can lie above 1 MiB: look for it in protected mode, through a flat fs.
read_smbios:
    in al, 0x92                         ; A20 on; bit 0 would reset
    or al, 0x02
    and al, 0xFE
    out 0x92, al
    lgdt [gdt_pointer]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp GDT_CODE:.protected
.protected:
    mov ax, GDT_FLAT
    mov fs, ax
    call find_type_0
    mov eax, cr0
    and al, 0xFE
    mov cr0, eax
    jmp 0:.real
.real:
    xor ax, ax
    mov fs, ax
    ret

find_type_0:                            ; fills bios_vendor and bios_version if it can
    mov esi, 0xF0000
.candidate:
    cmp dword [fs:esi], '_SM_'
    je .entry_point_2
    cmp dword [fs:esi], '_SM3'
    jne .next_candidate
    cmp byte [fs:esi + 4], '_'
    jne .next_candidate
    cmp dword [fs:esi + 0x14], 0        ; above 4 GiB: out of reach
    jne .next_candidate
    movzx ecx, byte [fs:esi + 0x06]
    mov edi, [fs:esi + 0x0C]
    mov ebx, [fs:esi + 0x10]
    jmp .checksum
.entry_point_2:
    movzx ecx, byte [fs:esi + 0x05]
    movzx edi, word [fs:esi + 0x16]
    mov ebx, [fs:esi + 0x18]
.checksum:                              ; ecx bytes from esi add up to 0
    xor al, al
    jecxz .next_candidate
.add:
    add al, [fs:esi + ecx - 1]
    dec ecx
    jnz .add
    test al, al
    jz .table
.next_candidate:
    add esi, 16
    cmp esi, 0x100000
    jb .candidate
    ret

.table:                                 ; ebx = a structure, edi = the end of all
    add edi, ebx
.structure:
    lea eax, [ebx + 6]                  ; a header and its strings' end
    cmp eax, edi
    ja .end
    movzx ecx, byte [fs:ebx + 1]
    cmp cl, 4
    jb .end
    cmp byte [fs:ebx], 0
    je .type_0
    add ebx, ecx
.skip_strings:
    lea eax, [ebx + 2]
    cmp eax, edi
    ja .end
    inc ebx
    cmp word [fs:ebx - 1], 0
    jne .skip_strings
    inc ebx
    jmp .structure

.type_0:
    lea esi, [ebx + ecx]
    mov al, [fs:ebx + 4]
    mov di, bios_vendor
    call copy_string
    mov al, [fs:ebx + 5]
    mov di, bios_version
    call copy_string
.end:
    ret

copy_string:                            ; al = its number, from 1; fs:esi = the first; di = to
    push esi
    test al, al
    jz .end
.seek:
    dec al
    jz .copy
    cmp byte [fs:esi], 0                ; there are fewer strings than that
    je .end
.skip:
    inc esi
    cmp byte [fs:esi - 1], 0
    jne .skip
    jmp .seek
.copy:
    mov cx, STRING_SIZE - 1
.char:
    mov al, [fs:esi]
    inc esi
    test al, al
    jz .end
    cmp al, '"'
    je .replace
    cmp al, ' '
    jb .replace
    cmp al, '~'
    jbe .store
.replace:
    mov al, '?'
.store:
    mov [di], al
    inc di
    loop .char
.end:
    mov byte [di], 0
    pop esi
    ret

; ---- Data ------------------------------------------------------------------------------------

text_up                 db 13, 10, 'BOOTMATRIX up', 0
text_beat               db 'BOOTMATRIX beat', 0
text_here               db 'BOOTMATRIX here', 0
text_reset_cf9          db 'BOOTMATRIX reset by=cf9', 13, 10, 0
text_reset_keyboard     db 'BOOTMATRIX reset by=keyboard', 13, 10, 0
text_reset_triple_fault db 'BOOTMATRIX reset by=triple-fault', 13, 10, 0
text_boot               db ' boot=', 0
text_beat_value         db ' beat=', 0
text_vendor             db ' bios-vendor="', 0
text_version            db '" bios-version="', 0
text_disk               db '" disk="', LABEL, '"'
text_end                db 13, 10, 0

align 8
gdt                     dq 0
GDT_CODE                equ $ - gdt
                        dq 0x00009B000000FFFF   ; code, 16 bit, 64 KiB from 0
GDT_FLAT                equ $ - gdt
                        dq 0x00CF93000000FFFF   ; data, 4 GiB from 0
gdt_pointer             dw $ - gdt - 1
                        dd gdt
empty_idt               dw 0
                        dd 0

beats                   dd 0
boot                    dw 0
ticks                   db 0
bios_vendor             times STRING_SIZE db 0
bios_version            times STRING_SIZE db 0

PAYLOAD_SECTORS         equ ($ - payload + 511) / 512
                        times PAYLOAD_SECTORS * 512 - ($ - payload) db 0
