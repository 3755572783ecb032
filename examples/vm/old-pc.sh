#!/bin/sh
# How this machine has been started since 2016.
DISK=/srv/images/server.img
ISO="/srv/iso/install disc.iso"
MAC=52:54:00:12:34:aa
exec kvm -M pc-i440fx-5.2 -enable-kvm \
    -m 512 -smp 2 \
    -cpu qemu64,+ssse3,-svm \
    -no-hpet \
    -usb -device usb-tablet \
    -device piix4-usb-uhci,id=uhci2 \
    -vga cirrus -vnc :3 -k de \
    -drive file=$DISK,if=ide,index=0,format=raw,cache=writeback \
    -cdrom "$ISO" \
    -net nic,model=e1000,macaddr=$MAC -net tap,ifname=$TAP,script=no \
    -balloon virtio -watchdog ib700 \
    -localtime -boot order=cd,menu=on \
    -smbios type=1,manufacturer=Example,product=Server \
    -fw_cfg name=opt/org.example/role,string=web \
    -fw_cfg name=opt/org.example/key,file=/srv/keys/web \
    -serial unix:/run/server.serial,server,nowait \
    -monitor unix:/run/server.monitor,server,nowait -daemonize -pidfile /run/server.pid
