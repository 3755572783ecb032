#!/bin/bash
args=(
    -M microvm,x-option-roms=off,rtc=on,pit=off,acpi=on
    -enable-kvm -cpu host -m 256m -smp 1
    -nodefaults -no-user-config -nographic -no-reboot
    -serial stdio
    -object rng-builtin,id=rng0 -device virtio-rng-device,rng=rng0
    -drive id=root,file=rootfs.img,format=raw,if=none
    -device virtio-blk-device,drive=root
    -netdev tap,id=tap0,script=no,downscript=no
    -device virtio-net-device,netdev=tap0
)
qemu-system-x86_64 "${args[@]}"
