BOOT_SECONDS=${BOOT_SECONDS:-@SECONDS@}  # a guest that is not up by then is late
PATIENCE=${PATIENCE:-@PATIENCE@}  # one that is not up by then, either, hangs

# ---- the tools ------------------------------------------------------------------------------

declare -A PIDS=() MARKS=() FROM=()
HELPERS=()
ASKED=0

finish() {  # finish TEXT: the end, whatever it is
    echo "$1"
    echo "logs: $WORK"
    exit "${2:-0}"
}

end_all() {  # a QEMU that hangs does not end when it is asked to
    all() {
        local pid one=1
        for pid in "${PIDS[@]}" "${HELPERS[@]}"; do kill "$1" "$pid" 2>/dev/null && one=0; done
        return $one
    }
    none() { ! all -0; }
    all -TERM
    wait_for 5 none || all -KILL
    wait 2>/dev/null
}

wait_for() {  # wait_for SECONDS COMMAND...: until it succeeds; fails after so many seconds
    local end=$(( $(date +%s%N) / 1000000 + $1 * 1000 ))
    shift
    until "$@"; do
        [ $(( $(date +%s%N) / 1000000 )) -lt "$end" ] || return 1
        sleep 0.02
    done
}

alive() { kill -0 "${PIDS[$1]}" 2>/dev/null; }

launch() {  # launch PROCESS HOST OPTION...: start a QEMU, connect to its monitor and console
    local vm=$1 wire
    local -n qemu=$2
    shift 2
    mkdir "$vm"
    "${qemu[@]}" "$@" >"$vm/qemu.log" 2>&1 </dev/null &
    PIDS[$vm]=$!
    for wire in monitor console; do
        there() { [ -S "$vm/$wire.sock" ] || ! alive "$vm"; }
        wait_for 30 there
        alive "$vm" || { cat "$vm/qemu.log"; finish "$vm: QEMU refuses to start" 1; }
        mkfifo "$vm/$wire.in"
        # Opened for both (<>), the pipe has no end of file between two who write to it.
        socat - "UNIX-CONNECT:$vm/$wire.sock,retry=100,interval=0.05" \
            <>"$vm/$wire.in" >"$vm/$wire.out" 2>/dev/null &
        HELPERS+=($!)
    done
    MARKS[$vm]=0
    qmp "$vm" qmp_capabilities
    qmp "$vm" migrate-set-capabilities \
        '{"capabilities": [{"capability": "events", "state": true}]}'
}

qmp() {  # qmp PROCESS COMMAND [ARGUMENTS]: ask the monitor, wait for its answer
    local vm=$1 id=$((++ASKED)) arguments=${3:+", \"arguments\": $3"}
    printf '{"execute": "%s"%s, "id": %d}\n' "$2" "$arguments" "$id" >"$vm/monitor.in"
    answered() { grep -q "\"id\": $id[,}]" "$vm/monitor.out" || ! alive "$vm"; }
    wait_for 120 answered
    ANSWER=$(grep "\"id\": $id[,}]" "$vm/monitor.out")
    case $ANSWER in *'"error"'*) echo "$vm, $2: $ANSWER" ;; esac
}

mark() { MARKS[$1]=$(stat -c %s "$1/console.log"); }  # what follows is the next boot's

type_at() { printf %s "$2" >"$1/console.in"; }

said() {  # said PROCESS: its console since the mark, without escape sequences
    tail -c "+$((MARKS[$1] + 1))" "$1/console.log" 2>/dev/null |
        sed 's/\x1b\[[0-9;?]*[A-Za-z]//g; s/\x1b[A-Za-z]//g'
}

banners() { said "$1" | grep -aoE 'SeaBIOS \(version [^()]*\)|OpenSBI v[0-9]+\.[0-9]+'; }
has_banner() { banners "$1" | grep -q . || ! alive "$1"; }
line() {  # line PROCESS KIND: the guest's lines of a kind, without one that is not whole yet
    { said "$1"; echo; } | sed '$d' | grep -aE "^\s*BOOTMATRIX $2( |\s*$)" | tr -d '\r'
}
is_up() { line "$1" up | grep -q . || ! alive "$1"; }
is_here() { line "$1" here | grep -q . || ! alive "$1"; }
told() { line "$1" "$2" | grep .; }  # told PROCESS KIND: what the guest said of that kind
question() { type_at "$1" '?'; }

watch_banner() { wait_for "$PATIENCE" has_banner "$1"; EARLY=$(banners "$1"); }

watch() {  # watch N WHAT PROCESS: one boot, as it is seen on the serial console
    local seen begun=$SECONDS
    if ! wait_for "$BOOT_SECONDS" is_up "$3" && [ "$PATIENCE" -gt "$BOOT_SECONDS" ]; then
        echo "not up within $BOOT_SECONDS s; waiting up to $PATIENCE s"
        wait_for "$((PATIENCE - BOOT_SECONDS))" is_up "$3" &&
            echo "late: after about $((SECONDS - begun)) s"
    fi
    seen=$({ [ -z "${EARLY:-}" ] || echo "$EARLY"; banners "$3"; } | paste -sd ';')
    EARLY=
    echo "boot $1 ($2): ${seen:-no banner}"
    if told "$3" up; then return; fi
    alive "$3" || { cat "$3/qemu.log"; finish "QEMU has ended" 1; }
    finish "the guest does not come up in $PATIENCE s" 1
}

ask() {  # ask PROCESS: is the guest still there, and how many boots has it counted?
    mark "$1"
    question "$1"
    wait_for 5 is_here "$1"
    told "$1" here || finish "the guest no longer answers" 1
}

tell() {  # tell PROCESS KEY KIND: what the guest is to do, until its line of this kind
    mark "$1"
    type_at "$1" "$2"
    has_done() { line "$1" "$2" | grep -q . || ! alive "$1"; }
    wait_for 60 has_done "$1" "$3"
    line "$1" "$3" | grep . || finish "the guest was cut off before it said: $3" 1
}

has_event() {  # has_event PROCESS EVENT BYTES: has the monitor told of it, beyond so many bytes?
    tail -c "+$(($3 + 1))" "$1/monitor.out" | grep -q "\"event\": \"$2\"" || ! alive "$1"
}

fall_asleep() {  # fall_asleep PROCESS: to RAM, by the guest itself
    local before
    before=$(stat -c %s "$1/monitor.out")
    type_at "$1" z
    wait_for 60 has_event "$1" SUSPEND "$before" || finish "the guest does not suspend" 1
}

wake() {  # wake PROCESS
    local before
    before=$(stat -c %s "$1/monitor.out")
    qmp "$1" system_wakeup
    wait_for 60 has_event "$1" WAKEUP "$before" || finish "the guest does not wake up" 1
}

suspend() { fall_asleep "$1"; wake "$1"; }  # suspend PROCESS: and awake again

guest_shutdown() {  # guest_shutdown PROCESS: by the guest itself
    gone() { ! alive "$1"; }
    type_at "$1" s
    wait_for 60 gone "$1" || finish "the guest does not shut down" 1
    wait "${PIDS[$1]}" 2>/dev/null
    unset "PIDS[$1]"
}

stop() {  # stop PROCESS: end its QEMU
    qmp "$1" quit
    wait "${PIDS[$1]}" 2>/dev/null
    unset "PIDS[$1]"
}

begin_migration() {  # begin_migration PROCESS: at full speed, events counted from here on
    qmp "$1" migrate-set-parameters '{"max-bandwidth": 107374182400}'
    FROM[$1]=$(stat -c %s "$1/monitor.out")
}

ended_well() {  # ended_well PROCESS: has its side of the migration ended, and how?
    over() { tail -c "+$((FROM[$1] + 1))" "$1/monitor.out" |
        grep -qE '"MIGRATION".*"status": "(completed|failed)"' || ! alive "$1"; }
    wait_for 60 over "$1"
    tail -c "+$((FROM[$1] + 1))" "$1/monitor.out" | grep -q '"status": "completed"'
}

refused() {  # refused PROCESS...: the migration did not go through; QEMU says why
    local vm
    sleep 0.5  # for last words, which nothing announces
    for vm; do echo "-- $vm"; cat "$vm/qemu.log"; done
    finish "the migration was refused" 1
}

migrate_unix() {  # migrate_unix FROM TO
    begin_migration "$1"; begin_migration "$2"
    qmp "$2" migrate-incoming "{\"uri\": \"unix:$2/migration.sock\"}"
    qmp "$1" migrate "{\"uri\": \"unix:$2/migration.sock\"}"
    ended_well "$2" && ended_well "$1" || refused "$2" "$1"
}

in_mode() {  # in_mode CAPABILITIES PARAMETERS PROCESS...: what a mode takes, on each side
    local vm
    for vm in "${@:3}"; do
        qmp "$vm" migrate-set-capabilities "{\"capabilities\": $1}"
        qmp "$vm" migrate-set-parameters "$2"
    done
}

migrate_mapped() {  # migrate_mapped FROM TO: into a file of QEMU's own, and out of it
    begin_migration "$1"; begin_migration "$2"
    qmp "$1" migrate "{\"uri\": \"file:$2/migration.mapped\"}"
    ended_well "$1" || refused "$1"
    qmp "$2" migrate-incoming "{\"uri\": \"file:$2/migration.mapped\"}"
    ended_well "$2" || refused "$2"
}

migrate_postcopy() {  # migrate_postcopy FROM TO PASSES: the guest goes over after so many passes
    begin_migration "$1"; begin_migration "$2"
    # Else all is there before.
    qmp "$1" migrate-set-parameters '{"max-bandwidth": 524288, "downtime-limit": 1}'
    qmp "$2" migrate-incoming "{\"uri\": \"unix:$2/migration.sock\"}"
    qmp "$1" migrate "{\"uri\": \"unix:$2/migration.sock\"}"
    gone_over() {
        qmp "$1" query-migrate
        local left=$(sed -n 's/.*"remaining": \([0-9]*\).*/\1/p' <<<"$ANSWER")
        if [ "${left:-0}" -gt 0 ] && [ "$left" -le 262144 ]; then
            qmp "$1" migrate-set-parameters '{"max-bandwidth": 40960}'
            qmp "$1" query-migrate
        fi
        [ "$(sed -n 's/.*"dirty-sync-count": \([0-9]*\).*/\1/p' <<<"$ANSWER")" -gt "$2" ]
    }
    [ "$3" = 0 ] || wait_for 60 gone_over "$1" "$3" || finish "no pass over the memory ends" 1
    qmp "$1" migrate-start-postcopy
    ended_well "$2" && ended_well "$1" || refused "$2" "$1"
}

snapshot() {  # snapshot save|load PROCESS: in the guest's disk; a loaded guest goes on
    local job='{"job-id": "j", "tag": "bootmatrix", "vmstate": "disk", "devices": ["disk"]}'
    [ "$1" = load ] || qmp "$2" stop
    qmp "$2" "snapshot-$1" "$job"
    case $ANSWER in
    *CommandNotFound*)  # before QEMU 6.0
        qmp "$2" human-monitor-command "{\"command-line\": \"$1vm bootmatrix\"}"
        case $ANSWER in *Error*) refused "$2" ;; esac ;;
    *)
        over() { qmp "$2" query-jobs; grep -q '"status": "concluded"' <<<"$ANSWER" || ! alive "$2"; }
        wait_for 60 over "$1" "$2"
        case $ANSWER in *'"error"'*) echo "$ANSWER"; refused "$2" ;; esac ;;
    esac
    [ "$1" = save ] || qmp "$2" cont
}

migrate_tcp() {  # migrate_tcp FROM TO: to a port that the destination's kernel chooses
    begin_migration "$1"; begin_migration "$2"
    qmp "$2" migrate-incoming '{"uri": "tcp:127.0.0.1:0"}'
    qmp "$2" query-migrate
    qmp "$1" migrate "{\"uri\": \"tcp:127.0.0.1:$(
        sed 's/.*"port": "\([0-9]*\)".*/\1/' <<<"$ANSWER")\"}"
    ended_well "$2" && ended_well "$1" || refused "$2" "$1"
}

migrate_file() {  # migrate_file FROM TO: saved to a file, and the file fed to the destination
    begin_migration "$1"; begin_migration "$2"
    socat -u "UNIX-LISTEN:$1/migration.sock" "OPEN:$2/stream,creat" &
    local keeper=$!
    wait_for 5 test -S "$1/migration.sock"
    qmp "$1" migrate "{\"uri\": \"unix:$1/migration.sock\"}"
    ended_well "$1" || refused "$1"
    wait "$keeper"
    qmp "$2" migrate-incoming "{\"uri\": \"unix:$2/migration.sock\"}"
    socat -u "OPEN:$2/stream,rdonly" "UNIX-CONNECT:$2/migration.sock" 2>/dev/null &
    HELPERS+=($!)
    ended_well "$2" || refused "$2"
}

# The guest's firmware in a file: a header page of the harness's, empty here, and from @HEAD@ on
# the windows that QEMU maps as flash: the firmware, and its variables if they are apart. QEMU may
# have the file open: nothing may cut it off (notrunc).
blank_nvram() { rm -f "$1"; truncate -s "$2" "$1"; }
into_nvram() {  # into_nvram FILE NVRAM [BYTES]: to the beginning, or so far behind it
    dd if="$1" of="$2" bs=4096 seek=$(((@HEAD@ + ${3:-0}) / 4096)) conv=notrunc status=none
}
