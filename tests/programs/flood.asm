; A guest that never comes up: it writes to COM1 for as long as it lives.
bits 16
org 0x7C00
    xor ax, ax
    mov ds, ax
again:
    mov si, text
next:
    lodsb
    test al, al
    jz again
    mov ah, al
    mov dx, 0x3FD
wait_for_room:
    in al, dx
    test al, 0x20
    jz wait_for_room
    mov al, ah
    mov dx, 0x3F8
    out dx, al
    jmp next
text db 'All work and no play makes the guest a dull one. ', 13, 10, 0
    times 510 - ($ - $$) db 0
    dw 0xAA55
