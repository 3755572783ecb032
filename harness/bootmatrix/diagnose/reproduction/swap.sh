# Another firmware at the reset, which QMP cannot write, but QEMU's gdb stub can: gdb waits at
# the x86 reset vector, writes the image below 4 GiB and its end below 1 MiB (the shadow that the
# old firmware left there, into which the reset vector jumps), and lets go.
gdb_stub() {  # gdb_stub PROCESS
    qmp "$1" human-monitor-command \
        "{\"command-line\": \"gdbserver unix:$1/gdb.sock,server=on,wait=off\"}"
}

arm_swap() {  # arm_swap PROCESS IMAGE SIZE: SIZE is the ROM's, as QEMU was started with
    local size before
    size=$(stat -c %s "$2")
    before=$(stat -c %s "$1/monitor.out")
    [ "$size" -eq "$3" ] || finish "refused: $2 has $size bytes, the ROM $3" 1
    gdb -nx -batch -ex "target remote $1/gdb.sock" -ex 'hbreak *0xfffffff0' -ex 'continue' \
        -ex "restore $2 binary $((0x100000000 - size))" \
        -ex "restore $2 binary $((0x100000 - size)) $((size > 0x40000 ? size - 0x40000 : 0))" \
        -ex 'delete' -ex 'detach' </dev/null >"$1/gdb.log" 2>&1 &
    SWAP=$!
    HELPERS+=("$SWAP")
    # QEMU stops the guest when gdb attaches, and tells when gdb lets it go on.
    resumed() { tail -c "+$((before + 1))" "$1/monitor.out" | grep -q '"event": "RESUME"'; }
    wait_for 30 resumed "$1" || { cat "$1/gdb.log"; finish 'gdb did not get hold of QEMU' 3; }
}

swapped() {  # swapped PROCESS: gdb must have written both by now
    wait_for 10 eval '! kill -0 "$SWAP" 2>/dev/null'
    [ "$(grep -c '^Restoring' "$1/gdb.log")" = 2 ] ||
        { cat "$1/gdb.log"; finish 'the swap failed' 3; }
}
