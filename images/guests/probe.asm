; The BIOS probe guest: says on COM1 which boot this is, which firmware, which disk and which QEMU
; it found, then beats until it is told to reset, or to program its own flash.
;
; SPDX-License-Identifier: MIT
;
;   nasm -f bin -DLABEL="'A'" -o probe.img probe.asm        (harness/bootmatrix/guests/__init__.py pads the image)
;
; Lines, each ended by CR LF (harness/bootmatrix/witnesses/probe_line.py reads them); the first is also preceded by one:
;   BOOTMATRIX up boot=3 IDENTITY
;   BOOTMATRIX beat boot=3 beat=17
;   BOOTMATRIX here boot=3 beat=17 IDENTITY
;   BOOTMATRIX reset by=cf9|keyboard|triple-fault
;   BOOTMATRIX flashing at=65536
;   BOOTMATRIX flash size=262144 written=262144 result=ok
;   BOOTMATRIX failed reading-disk
; where IDENTITY is what this boot found in SMBIOS and on its disk, then what fw_cfg, the ACPI and
; SMBIOS tables, the firmware's map of memory (as it was at the boot: KiB that are free) and the CMOS
; (which boot it is there) say at this moment, and what is in the memory where this program lies, on
; one line:
;   bios-vendor="SeaBIOS" bios-version="1.14.0-2" disk="A"
;   fw-cfg="QEMU" features=3 host="11.1.3 debian-sid" acpi=0123cdef
;   smbios=0123cdef machine="pc-q35-5.2" memory=32127 cpus=1 cmos=3 program-sum=0123cdef
; Up to 16 digits before a command come back in the lines that answer it, behind their kind:
;   BOOTMATRIX here nonce=0123456789012345 boot=3 beat=17 IDENTITY
; Commands, one byte each, anything else is ignored, and makes it forget the digits:
;   ?  "here"                                          c  reset by port 0xCF9
;   k  reset by the keyboard controller                t  reset by a triple fault
;   f  program the flash with the fw_cfg file opt/bootmatrix/flash: "flashing" every 16 blocks,
;      then "flash". Its result is one of
;        ok        the flash holds the image: it runs from the next reset on, whoever asks for it
;        no-image  there is no such file, or no DMA to read it by
;        no-flash  no flash with Intel's commands lies below 4 GiB; nothing was changed
;        misfit    image and flash differ in size; nothing was changed
;        refused   the flash reported an error, "written" bytes from the image's first
;        mismatch  reading back gave something else
;
; After the sectors are loaded no BIOS service and no BIOS interrupt handler runs again: SeaBIOS
; with graphics=off would take the command bytes for key strokes at each of its timer ticks, and
; programming the flash puts another BIOS in the place of the one that started us.

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
PIC_ICW1        equ 0x11                ; edge triggered, cascade, ICW4 follows
PIC_CASCADE     equ 0x04                ; ICW3: the other controller is at IRQ 2
PIC_ICW4        equ 0x01                ; 8086 mode
IRQ0_VECTOR     equ 0x08                ; where a BIOS puts IRQ 0 to 7
IRQ4_VECTOR     equ 0x0C
IRQ0_AND_IRQ4   equ 0x11

; Nobody else's: QEMU and SeaBIOS use nothing above 0x5F. Bit 7 of the index would mask the NMI.
CMOS_INDEX      equ 0x70
CMOS_DATA       equ 0x71
CMOS_MAGIC      equ 0x70                ; two bytes, then the boot counter's two
CMOS_BOOT       equ 0x72
MAGIC           equ 'BM'

FW_CFG_SELECT   equ 0x510               ; docs/specs/fw_cfg of QEMU: "Register Locations"
FW_CFG_DATA     equ 0x511
FW_CFG_DMA      equ 0x518               ; the low half of the address; writing it starts
FW_CFG_KEY_SIGNATURE equ 0x00
FW_CFG_KEY_ID   equ 0x01
FW_CFG_KEY_DIRECTORY equ 0x19
FW_CFG_FEATURE_DMA equ 0x02
FW_CFG_DMA_READ equ 0x02
FW_CFG_DMA_SELECT equ 0x08
FW_CFG_MOST_FILES equ 0x4000
DMA_CHUNK       equ 0x10000

FNV_BASIS       equ 0x811C9DC5          ; FNV-1a, 32 bits
FNV_PRIME       equ 0x01000193
ACPI_HEADER     equ 36                  ; bytes of a table's header
ACPI_LONGEST    equ 0x100000            ; what is longer is no table
MADT_FIRST      equ 44                  ; where its first structure stands
MADT_APIC       equ 0
MADT_X2APIC     equ 9
SMBIOS_HEADER   equ 4
SMBIOS_FIRMWARE equ 0                   ; types of structures
SMBIOS_SYSTEM   equ 1
SMBIOS_END      equ 127
E820_RAM        equ 1

IMAGE           equ 0x100000            ; where the flash's new content waits
IMAGE_LARGEST   equ 0x1000000
FLASH_TAIL      equ 0xFFFF0000          ; in every flash that ends at 4 GiB
FLASH_READ      equ 0xFF                ; Intel's command set, JESD68 (CFI) and JEP137
FLASH_QUERY     equ 0x98
FLASH_ERASE     equ 0x20
FLASH_BUFFER    equ 0xE8
FLASH_CONFIRM   equ 0xD0
FLASH_CLEAR     equ 0x50
FLASH_READY     equ 0x80                ; in its status
FLASH_FAILED    equ 0x3A                ; erase, program, voltage, lock
BUFFER_LARGEST  equ 0x100               ; its size less one has to fit into a byte
BLOCKS_A_LINE   equ 16

PCI_ADDRESS     equ 0xCF8
PCI_DATA        equ 0xCFC
I440FX          equ 0x12378086          ; vendor and device of 0:0.0, and its first PAM register
I440FX_PAM0     equ 0x59
Q35             equ 0x29C08086
Q35_PAM0        equ 0x90
PAM_REGISTERS   equ 7
PAM_HIGH        equ 0x30                ; reads and writes of the upper half go to RAM
PAM_BOTH        equ 0x33
SHADOW_SIZE     equ 0x40000             ; from 0xC0000 to 1 MiB

TICKS_PER_BEAT  equ 9                   ; of 54.9 ms
NONCE_SIZE      equ 16
STRING_SIZE     equ 64                  ; of a string that is printed, with its NUL
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
    call find_memory
    call count_boot
    call enter_flat
    call find_smbios
    call find_type_0
    call find_type_1
    call find_rsdt
    call leave_flat
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
    cmp al, 'f'
    je .flash
    cmp al, 'c'
    je .reset_cf9
    cmp al, 'k'
    je .reset_keyboard
    cmp al, 't'
    je .reset_triple_fault
    cmp al, '0'
    jb .forget
    cmp al, '9'
    ja .forget
    mov bx, [nonce_length]
    cmp bx, NONCE_SIZE
    jae main_loop
    mov [nonce + bx], al
    mov byte [nonce + bx + 1], 0
    inc word [nonce_length]
    jmp main_loop

.forget:
    mov word [nonce_length], 0
    mov byte [nonce], 0
    jmp main_loop

.here:
    print text_here
    call put_nonce
    call put_boot
    call put_beat
    call put_identity
    jmp .forget

.flash:
    call flash
    jmp .forget

; A reset that the machine refuses leads back to the main loop: the beats go on, and tell of it.

.reset_cf9:
    mov di, text_reset_cf9
    call put_reset
    port_write 0xCF9, 0x02
    port_write 0xCF9, 0x06
    jmp .forget

.reset_keyboard:
    mov di, text_reset_keyboard
    call put_reset
.keyboard_busy:
    in al, 0x64
    test al, 0x02
    jnz .keyboard_busy
    mov al, 0xFE
    out 0x64, al
    jmp .forget

.reset_triple_fault:
    mov di, text_reset_triple_fault
    call put_reset
    lidt [empty_idt]
    int3
    jmp .forget                         ; a KVM that emulates real mode ignores the limit

; ---- Lines -----------------------------------------------------------------------------------

put_nonce:
    cmp byte [nonce], 0
    je .end
    print text_nonce
    print nonce
.end:
    ret

put_reset:                              ; di = how; the line is out when it returns
    print text_reset
    call put_nonce
    mov si, di
    call put_string
    jmp drain_uart

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
    call read_fw_cfg
    print fw_cfg_signature
    print text_features
    mov eax, [fw_cfg_features]
    call put_decimal
    print text_host
    print fw_cfg_host
    print text_acpi
    call enter_flat
    call sum_acpi
    call leave_flat
    call put_hexadecimal
    print text_smbios
    call enter_flat
    call sum_smbios
    call leave_flat
    call put_hexadecimal
    print text_machine
    print machine
    print text_memory
    mov eax, [memory]
    call put_decimal
    print text_cpus
    call enter_flat
    call count_cpus
    call leave_flat
    call put_decimal
    print text_cmos
    call read_count
    movzx eax, bx
    call put_decimal
    print text_program_sum
    call enter_flat
    mov eax, FNV_BASIS
    mov ebx, boot_sector
    mov ecx, constants_end - boot_sector
    call sum_fnv
    call leave_flat
    call put_hexadecimal
    print text_end
    ret

put_hexadecimal:                        ; eax; changes cx
    mov cx, 8
.digit:
    rol eax, 4
    push ax
    and al, 0x0F
    cmp al, 10
    jb .put
    add al, 'a' - '0' - 10
.put:
    add al, '0'
    call put_char
    pop ax
    loop .digit
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
    mov al, PIC_ICW1                    ; a BIOS built without hardware interrupts, as that of
    out PIC1, al                        ; microvm is, leaves the controllers as a reset does
    mov al, IRQ0_VECTOR
    out PIC1 + 1, al
    mov al, PIC_CASCADE
    out PIC1 + 1, al
    mov al, PIC_ICW4
    out PIC1 + 1, al
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

read_count:                             ; bx = what the CMOS says; changes ax
    cmos_read CMOS_MAGIC
    mov ah, al
    cmos_read CMOS_MAGIC + 1
    xchg al, ah
    xor bx, bx
    cmp ax, MAGIC
    jne .end
    cmos_read CMOS_BOOT
    mov bl, al
    cmos_read CMOS_BOOT + 1
    mov bh, al
.end:
    ret

count_boot:
    call read_count
    inc bx
    mov [boot], bx
    cmos_write CMOS_MAGIC, MAGIC & 0xFF
    cmos_write CMOS_MAGIC + 1, MAGIC >> 8
    cmos_write CMOS_BOOT, bl
    cmos_write CMOS_BOOT + 1, bh
    cmos_read 0x0D                      ; park the index on a register that reading leaves alone
    ret

; ---- How much memory there is (ACPI 15.1: INT 15h, E820h) ------------------------------------

find_memory:                            ; KiB that are free, in memory; it uses the BIOS
    xor ebx, ebx
.next:
    mov eax, 0xE820
    mov edx, 0x534D4150                 ; 'SMAP'
    mov ecx, RANGE_SIZE
    mov di, range
    int 0x15
    jc .end
    cmp eax, 0x534D4150
    jne .end
    cmp dword [range_kind], E820_RAM
    jne .skip
    mov eax, [range_length]
    mov edx, [range_length + 4]
    shrd eax, edx, 10
    add [memory], eax
.skip:
    test ebx, ebx
    jnz .next
.end:
    ret

; ---- Memory above 1 MiB ----------------------------------------------------------------------

; Protected mode, with a flat fs and everything else as it was. Interrupts have to be off. TCG
; leaves a stack segment of real mode with privilege 3, which a QEMU to which the guest is migrated
; here takes for the CPU's: so the stack gets one of protected mode, too.
enter_flat:                             ; changes al and bx
    in al, 0x92                         ; A20 on; bit 0 would reset
    or al, 0x02
    and al, 0xFE
    out 0x92, al
    lgdt [gdt_pointer]
    mov ebx, cr0
    or bl, 1
    mov cr0, ebx
    jmp GDT_CODE:.protected
.protected:
    mov bx, GDT_FLAT
    mov fs, bx
    mov bx, GDT_STACK
    mov ss, bx
    ret

leave_flat:                             ; changes bx
    mov ebx, cr0
    and bl, 0xFE
    mov cr0, ebx
    jmp 0:.real
.real:
    xor bx, bx
    mov fs, bx
    mov ss, bx
    ret

sum_bytes:                              ; al = the sum of ecx bytes (not 0) from fs:esi
    xor al, al
.add:
    add al, [fs:esi + ecx - 1]
    dec ecx
    jnz .add
    test al, al
    ret

; ---- SMBIOS (DSP0134, 5.2 entry points, 6.1 structures, 7.1 and 7.2 their types 0, 1) --------------------------

; Where the firmware put the table is found at the boot: programming the flash overwrites the
; pointer to it.
find_smbios:                            ; fills smbios and smbios_end if it can
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
.checksum:
    jecxz .next_candidate
    call sum_bytes
    jz .table
.next_candidate:
    add esi, 16
    cmp esi, 0x100000
    jb .candidate
    ret
.table:
    add edi, ebx
    mov [smbios], ebx
    mov [smbios_end], edi
    ret

measure_structure:                      ; ebx = a structure, edi = the end of all; ecx = the length
    lea eax, [ebx + SMBIOS_HEADER + 2]  ; without its strings, edx = its end; or carry: there is
    cmp edi, eax                        ; none. Changes eax
    jb .none
    movzx ecx, byte [fs:ebx + 1]
    cmp cl, SMBIOS_HEADER
    jb .none
    lea edx, [ebx + ecx]
.strings:
    lea eax, [edx + 2]
    cmp edi, eax
    jb .none
    inc edx
    cmp word [fs:edx - 1], 0
    jne .strings
    inc edx
.none:
    ret

find_type:                              ; al = a type; ebx = the first of it, esi = its strings; or
    mov ebx, [smbios]                   ; carry: there is none
    mov edi, [smbios_end]
    mov ah, al
.structure:
    push ax
    call measure_structure
    pop ax
    jc .end
    cmp [fs:ebx], ah
    je .found
    mov ebx, edx
    jmp .structure
.found:
    lea esi, [ebx + ecx]
    clc
.end:
    ret

find_type_0:                            ; fills bios_vendor and bios_version if it can
    mov al, SMBIOS_FIRMWARE
    call find_type
    jc find_type_1.none
    mov al, [fs:ebx + 4]
    mov di, bios_vendor
    call copy_string
    mov al, [fs:ebx + 5]
    mov di, bios_version
    jmp copy_string

find_type_1:                            ; fills machine if it can
    mov al, SMBIOS_SYSTEM
    call find_type
    jc .none
    mov al, [fs:ebx + 6]
    mov di, machine
    jmp copy_string
.none:
    ret

; Over all structures but the firmware's own, without their handles, which are the firmware's, too.
sum_smbios:                             ; eax = FNV-1a of them; 0: there are none
    mov ebx, [smbios]
    mov edi, [smbios_end]
    xor ebp, ebp
.structure:
    call measure_structure
    jc .end
    cmp byte [fs:ebx], SMBIOS_FIRMWARE
    je .next
    cmp byte [fs:ebx], SMBIOS_END
    je .next
    test ebp, ebp
    jnz .sum
    mov ebp, FNV_BASIS
.sum:
    mov eax, ebp
    mov ecx, 2                          ; type and length
    call sum_fnv
    add ebx, 2
    mov ecx, edx
    sub ecx, ebx
    call sum_fnv
    mov ebp, eax
.next:
    mov ebx, edx
    jmp .structure
.end:
    mov eax, ebp
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
    call make_printable
    stosb
    loop .char
.end:
    mov byte [di], 0
    pop esi
    ret

make_printable:                         ; al
    cmp al, '"'
    je .replace
    cmp al, ' '
    jb .replace
    cmp al, '~'
    jbe .end
.replace:
    mov al, '?'
.end:
    ret

; ---- ACPI (5.2: RSDP, headers, RSDT, FADT) ---------------------------------------------------

; The firmware copies QEMU's tables to RAM at each boot. Where it put them is found at the boot:
; programming the flash overwrites the pointer to them.
find_rsdt:
    mov esi, 0xE0000
.candidate:
    cmp dword [fs:esi], 'RSD '
    jne .next_candidate
    cmp dword [fs:esi + 4], 'PTR '
    jne .next_candidate
    mov ecx, 20                         ; bytes of revision 0
    call sum_bytes
    jz .found
.next_candidate:
    add esi, 16
    cmp esi, 0x100000
    jb .candidate
    ret
.found:
    mov eax, [fs:esi + 16]
    mov [rsdt], eax
    ret

; The tables that the RSDT names.
first_table:                            ; esi = the first pointer to one, edi = the end of them;
    mov esi, [rsdt]                     ; carry: there are none
    test esi, esi
    jz .none
    mov edi, [fs:esi + 4]
    cmp edi, ACPI_LONGEST
    ja .none
    add edi, esi
    add esi, ACPI_HEADER
    clc
    ret
.none:
    stc
    ret

next_table:                             ; ebx = the table at esi, which goes on; carry: no more
    lea edx, [esi + 4]
    cmp edi, edx
    jb .end
    mov ebx, [fs:esi]
    mov esi, edx
.end:
    ret

; Over the DSDT and all that the RSDT names but the FADT, which like the RSDT holds addresses that
; depend on the firmware, and not on QEMU.
sum_acpi:                               ; eax = FNV-1a of the tables; 0: there are none
    xor eax, eax
    call first_table
    jc .end
    mov eax, FNV_BASIS
.table:
    call next_table
    jc .end
    cmp dword [fs:ebx], 'FACP'
    jne .sum
    mov ebx, [fs:ebx + 40]              ; the DSDT
.sum:
    mov ecx, [fs:ebx + 4]
    cmp ecx, ACPI_LONGEST
    ja .table
    call sum_fnv
    jmp .table
.end:
    ret

sum_fnv:                                ; eax = FNV-1a going on over ecx bytes from fs:ebx, which is
    jecxz .end                          ; then behind them
    xor al, [fs:ebx]
    imul eax, eax, FNV_PRIME
    inc ebx
    dec ecx
    jmp sum_fnv
.end:
    ret

; By the MADT (5.2.12): the local APICs that are enabled. Without ACPI by the MP table.
count_cpus:                             ; eax = how many; 0: nothing tells
    xor eax, eax
    cmp [rsdt], eax
    je count_mp_cpus
    call first_table
    jc .end
.table:
    call next_table
    jc .end
    cmp dword [fs:ebx], 'APIC'
    jne .table
    mov edi, [fs:ebx + 4]
    cmp edi, ACPI_LONGEST
    ja .end
    add edi, ebx
    add ebx, MADT_FIRST
.structure:
    lea edx, [ebx + 2]
    cmp edx, edi
    ja .end
    movzx ecx, byte [fs:ebx + 1]
    jecxz .end
    mov edx, [fs:ebx + 4]               ; its flags
    cmp byte [fs:ebx], MADT_APIC
    je .flags
    mov edx, [fs:ebx + 8]
    cmp byte [fs:ebx], MADT_X2APIC
    jne .next
.flags:
    and edx, 1
    add eax, edx
.next:
    add ebx, ecx
    jmp .structure
.end:
    ret

; Intel's MultiProcessor Specification 1.4, chapter 4: processors come first in it.
count_mp_cpus:                          ; eax = 0; how many of them are enabled
    mov esi, 0xF0000
.candidate:
    cmp dword [fs:esi], '_MP_'
    je .found
    add esi, 16
    cmp esi, 0x100000
    jb .candidate
    ret
.found:
    mov esi, [fs:esi + 4]
    cmp dword [fs:esi], 'PCMP'
    jne .end
    movzx ecx, word [fs:esi + 34]
    add esi, 44
.entry:
    jecxz .end
    cmp byte [fs:esi], 0
    jne .end
    movzx edx, byte [fs:esi + 3]
    and edx, 1
    add eax, edx
    add esi, 20
    dec ecx
    jmp .entry
.end:
    ret

; ---- fw_cfg (docs/specs/fw_cfg of QEMU) ------------------------------------------------------

; Nothing of it is kept: after a migration it is another QEMU's.
read_fw_cfg:                            ; fills fw_cfg_signature, fw_cfg_features and fw_cfg_host
    xor eax, eax
    mov [fw_cfg_signature], eax
    mov [fw_cfg_features], eax
    mov [fw_cfg_host], al
    mov ax, FW_CFG_KEY_SIGNATURE
    call select_fw_cfg
    mov di, fw_cfg_entry
    mov cx, 4
    rep insb
    mov eax, [fw_cfg_entry]
    cmp eax, 'QEMU'
    jne .end                            ; nothing there
    mov [fw_cfg_signature], eax
    mov ax, FW_CFG_KEY_ID
    call select_fw_cfg
    mov di, fw_cfg_features
    mov cx, 4
    rep insb
    mov si, name_host
    call find_fw_cfg_file
    jc .end
    call select_fw_cfg
    mov di, fw_cfg_host
    cmp ecx, STRING_SIZE - 1
    jbe .read
    mov ecx, STRING_SIZE - 1
.read:
    jecxz .end
.char:
    in al, dx
    call make_printable
    stosb
    loop .char
    mov [di], cl
.end:
    ret

select_fw_cfg:                          ; ax = a key; dx = the port to read from
    mov dx, FW_CFG_SELECT
    out dx, ax
    inc dx
    ret

find_fw_cfg_file:                       ; si = its name; ax = its key, ecx = its size; or carry
    mov ax, FW_CFG_KEY_DIRECTORY
    call select_fw_cfg
    mov di, fw_cfg_entry
    mov cx, 4
    rep insb
    mov ebp, [fw_cfg_entry]
    bswap ebp
    cmp ebp, FW_CFG_MOST_FILES
    ja .none
.next:
    sub ebp, 1
    jc .none
    mov di, fw_cfg_entry
    mov cx, FW_CFG_ENTRY_SIZE
    rep insb
    mov di, fw_cfg_name
    mov bx, si
.char:
    mov al, [bx]
    inc bx
    scasb
    jne .next
    test al, al
    jnz .char
    mov ecx, [fw_cfg_size]
    bswap ecx
    mov ax, [fw_cfg_key]
    xchg al, ah
    clc
    ret
.none:
    stc
    ret

read_image:                             ; ax = a file's key, ecx = its size; carry: it failed
    shl eax, 16
    mov ax, FW_CFG_DMA_SELECT | FW_CFG_DMA_READ
    mov edi, IMAGE
.chunk:
    mov ebp, DMA_CHUNK
    cmp ebp, ecx
    jbe .start
    mov ebp, ecx
.start:
    sub ecx, ebp
    bswap eax
    mov [dma_control], eax
    mov eax, edi
    bswap eax
    mov [dma_address + 4], eax
    mov eax, ebp
    bswap eax
    mov [dma_length], eax
    mov eax, dma
    bswap eax
    mov dx, FW_CFG_DMA
    out dx, eax                         ; QEMU has done it when this returns
    cmp dword [dma_control], 0
    jne .failed
    add edi, ebp
    mov eax, FW_CFG_DMA_READ
    test ecx, ecx
    jnz .chunk
    ret
.failed:
    stc
    ret

; ---- The flash -------------------------------------------------------------------------------

flash:
    xor eax, eax
    mov [image_size], eax
    mov [written], eax
    call read_fw_cfg
    mov word [result], text_no_image
    test byte [fw_cfg_features], FW_CFG_FEATURE_DMA
    jz .tell
    mov si, name_flash
    call find_fw_cfg_file
    jc .tell
    mov [image_size], ecx
    jecxz .tell
    mov word [result], text_misfit
    cmp ecx, IMAGE_LARGEST
    ja .tell
    mov word [result], text_no_image
    call read_image
    jc .tell
    call enter_flat
    call flash_image
    call leave_flat
.tell:
    print text_flash
    call put_nonce
    print text_size
    mov eax, [image_size]
    call put_decimal
    print text_written
    mov eax, [written]
    call put_decimal
    print text_result
    mov si, [result]
    call put_string
    print text_end
    ret

flash_image:                            ; from IMAGE; sets result
    mov word [result], text_no_flash
    call find_flash
    jc .end
    mov word [result], text_misfit
    mov eax, [image_size]
    cmp eax, [flash_size]
    jne .end
    mov word [result], text_refused
    call program_flash
    jc .end
    mov word [result], text_mismatch
    mov esi, IMAGE
    mov ecx, [image_size]
    mov edi, ecx
    neg edi
.compare:
    mov eax, [fs:esi]
    cmp eax, [fs:edi]
    jne .end
    add esi, 4
    add edi, 4
    jnz .compare
    mov word [result], text_ok
    call replace_shadow
.end:
    ret

find_flash:                             ; fills flash_size, flash_block, flash_buffer; or carry
    mov edi, FLASH_TAIL
    mov ah, [fs:edi + 0x55]
    mov byte [fs:edi + 0x55], FLASH_QUERY
    cmp byte [fs:edi + 0x10], 'Q'
    jne .none
    cmp byte [fs:edi + 0x11], 'R'
    jne .none
    cmp byte [fs:edi + 0x12], 'Y'
    jne .none
    cmp byte [fs:edi + 0x13], 0x01      ; Intel's commands
    jne .other
    xor eax, eax
    inc eax
    mov cl, [fs:edi + 0x27]
    shl eax, cl
    mov [flash_size], eax
    xor eax, eax
    inc eax
    mov cl, [fs:edi + 0x2A]
    shl eax, cl
    cmp eax, BUFFER_LARGEST
    jbe .buffer
    mov eax, BUFFER_LARGEST
.buffer:
    mov [flash_buffer], eax
    xor eax, eax
    mov al, [fs:edi + 0x2F]
    mov ah, [fs:edi + 0x30]
    shl eax, 8
    mov [flash_block], eax
    mov byte [fs:edi], FLASH_READ
    clc
    ret
.other:
    mov byte [fs:edi], FLASH_READ
    stc
    ret
.none:
    mov [fs:edi + 0x55], ah             ; it might be RAM
    stc
    ret

program_flash:                          ; carry: it reported an error
    mov esi, IMAGE
    mov edi, [image_size]
    neg edi                             ; up to 4 GiB
    xor bp, bp
.block:
    test bp, bp
    jnz .erase
    mov bp, BLOCKS_A_LINE
    push esi
    print text_flashing
    call put_nonce
    print text_at
    mov eax, [written]
    call put_decimal
    print text_end
    pop esi
.erase:
    mov byte [fs:edi], FLASH_ERASE
    mov byte [fs:edi], FLASH_CONFIRM
    call wait_flash
    jnz .failed
.buffer:
    mov byte [fs:edi], FLASH_BUFFER
    call wait_flash
    jnz .failed
    mov ecx, [flash_buffer]
    mov eax, ecx
    dec eax
    mov [fs:edi], al
.byte:
    mov al, [fs:esi]
    mov [fs:edi], al
    inc esi
    inc edi
    dec ecx
    jnz .byte
    mov byte [fs:edi - 1], FLASH_CONFIRM
    dec edi
    call wait_flash
    jnz .failed
    inc edi
    mov eax, [flash_buffer]
    add [written], eax
    mov ebx, [flash_block]
    dec ebx
    test edi, ebx
    jnz .buffer
    dec bp
    test edi, edi
    jnz .block
    mov byte [fs:dword FLASH_TAIL], FLASH_READ
    clc
    ret
.failed:
    mov byte [fs:edi], FLASH_CLEAR
    mov byte [fs:edi], FLASH_READ
    stc
    ret

wait_flash:                             ; edi is in it; not zero: it failed
    mov al, [fs:edi]
    test al, FLASH_READY
    jz wait_flash
    test al, FLASH_FAILED
    ret

; QEMU maps the flash below 1 MiB neither at a reset nor when it is programmed. The old firmware's
; copy of itself stays there, and the new one's reset vector would jump into it. Where the image
; is padding, option ROMs may lie: one of them, kvmvapic, is looked for after a migration.
replace_shadow:
    xor cl, cl
    call select_pci
    in eax, dx
    mov cl, I440FX_PAM0
    cmp eax, I440FX
    je .unlock
    mov cl, Q35_PAM0
    cmp eax, Q35
    jne .end
.unlock:
    mov bx, PAM_HIGH << 8 | PAM_REGISTERS
.register:
    call select_pci
    mov al, bh
    out dx, al
    mov bh, PAM_BOTH
    inc cl
    dec bl
    jnz .register
    mov ecx, [image_size]
    cmp ecx, SHADOW_SIZE
    jbe .copy
    mov ecx, SHADOW_SIZE
.copy:
    mov esi, ecx
    neg esi
    mov edi, 0x100000
    sub edi, ecx
.padding:
    cmp dword [fs:esi], 0
    jne .dword
    add edi, 4
    add esi, 4
    jnz .padding
    ret
.dword:
    mov eax, [fs:esi]
    mov [fs:edi], eax
    add edi, 4
    add esi, 4
    jnz .dword
.end:
    ret

select_pci:                             ; cl = a register of 0:0.0; dx = its port
    movzx eax, cl
    and al, 0xFC
    or eax, 0x80000000
    mov dx, PCI_ADDRESS
    out dx, eax
    mov al, cl
    and al, 0x03
    mov dx, PCI_DATA
    or dl, al
    ret

; ---- Data ------------------------------------------------------------------------------------

text_up                 db 13, 10, 'BOOTMATRIX up', 0
text_beat               db 'BOOTMATRIX beat', 0
text_here               db 'BOOTMATRIX here', 0
text_nonce              db ' nonce=', 0
text_reset              db 'BOOTMATRIX reset', 0
text_reset_cf9          db ' by=cf9', 13, 10, 0
text_reset_keyboard     db ' by=keyboard', 13, 10, 0
text_reset_triple_fault db ' by=triple-fault', 13, 10, 0
text_boot               db ' boot=', 0
text_beat_value         db ' beat=', 0
text_vendor             db ' bios-vendor="', 0
text_version            db '" bios-version="', 0
text_disk               db '" disk="', LABEL, '" fw-cfg="', 0
text_features           db '" features=', 0
text_host               db ' host="', 0
text_acpi               db '" acpi=', 0
text_smbios             db ' smbios=', 0
text_machine            db ' machine="', 0
text_memory             db '" memory=', 0
text_cpus               db ' cpus=', 0
text_cmos               db ' cmos=', 0
text_program_sum        db ' program-sum=', 0
text_flashing           db 'BOOTMATRIX flashing', 0
text_at                 db ' at=', 0
text_flash              db 'BOOTMATRIX flash', 0
text_size               db ' size=', 0
text_written            db ' written=', 0
text_result             db ' result=', 0
text_ok                 db 'ok', 0
text_no_image           db 'no-image', 0
text_no_flash           db 'no-flash', 0
text_misfit             db 'misfit', 0
text_refused            db 'refused', 0
text_mismatch           db 'mismatch', 0
text_end                db 13, 10, 0

name_host               db 'opt/bootmatrix/host', 0
name_flash              db 'opt/bootmatrix/flash', 0

align 8
gdt                     dq 0
GDT_CODE                equ $ - gdt
                        dq 0x00009B000000FFFF   ; code, 16 bit, 64 KiB from 0
GDT_FLAT                equ $ - gdt
                        dq 0x00CF93000000FFFF   ; data, 4 GiB from 0
GDT_STACK               equ $ - gdt
                        dq 0x000093000000FFFF   ; data, 16 bit, 64 KiB from 0
gdt_pointer             dw $ - gdt - 1
                        dd gdt
empty_idt               dw 0
                        dd 0

constants_end:
dma:                                    ; FWCfgDmaAccess, big-endian
dma_control             dd 0
dma_length              dd 0
dma_address             dq 0

fw_cfg_entry:                           ; FWCfgFile, big-endian
fw_cfg_size             dd 0
fw_cfg_key              dw 0
                        dw 0
fw_cfg_name             times 56 db 0
FW_CFG_ENTRY_SIZE       equ $ - fw_cfg_entry

fw_cfg_signature        times 5 db 0
fw_cfg_features         dd 0
fw_cfg_host             times STRING_SIZE db 0

range:                                  ; of E820
                        dq 0            ; its start
range_length            dq 0
range_kind              dd 0
RANGE_SIZE              equ $ - range
memory                  dd 0

smbios                  dd 0
smbios_end              dd 0
rsdt                    dd 0
image_size              dd 0
written                 dd 0
flash_size              dd 0
flash_block             dd 0
flash_buffer            dd 0
result                  dw 0

nonce_length            dw 0
nonce                   times NONCE_SIZE + 1 db 0
beats                   dd 0
boot                    dw 0
ticks                   db 0
bios_vendor             times STRING_SIZE db 0
bios_version            times STRING_SIZE db 0
machine                 times STRING_SIZE db 0

PAYLOAD_SECTORS         equ ($ - payload + 511) / 512
                        times PAYLOAD_SECTORS * 512 - ($ - payload) db 0

%if PAYLOAD_SECTORS > 17
    %fatal the payload does not fit into the first track of a floppy
%endif
