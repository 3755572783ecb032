"""A cell as a shell script that needs no harness: the same QEMUs, done to them by hand.

The script is text made of a cell and its hosts; docs/reproduce.md says how to use it.
"""

from __future__ import annotations

import base64
import gzip
import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness import policies
from harness.cmdline import FlashWindow, Launch, qemu_argv
from harness.model import (
    Cell,
    Channel,
    Host,
    ResetBy,
    Step,
    StepKind,
    host_label,
    role_name,
)
from harness.nvram.layout import HEAD
from harness.policies import Swap

_KEYS = {ResetBy.CF9: "c", ResetBy.KEYBOARD: "k", ResetBy.TRIPLE_FAULT: "t"}
_STAGED = "staged.bin"
_FLASH = "flash.bin"
_WIDTH = 76


@dataclass
class _Process:
    """A QEMU of the script: its name there, its host, and whether a guest has come to it."""

    name: str
    host: int
    migrated: bool = False
    stub: bool = False  # its gdb stub has been started


@dataclass
class _Writer:
    """The guest's life, written down step by step; knows what a shell would have to find out."""

    cell: Cell
    hosts: Sequence[Host]
    lines: list[str] = field(default_factory=list)
    process: _Process | None = None
    launched: int = 0
    boots: int = 0
    nvram: int | None = None  # the host where the guest's nvram file is
    stamp: str = ""
    staged: bool = False
    rom_size: int = 0
    files: list[Host] = field(init=False)  # whose firmware each host has at the moment

    def __post_init__(self) -> None:
        self.mechanism = policies.mechanism(self.cell.policy)
        self.files = list(self.hosts)
        self.flashes = next((step.firmware_of for step in self.cell.scenario.steps
                             if step.kind is StepKind.GUEST_FLASH), None)
        self.long_post = any(step.during_post for step in self.cell.scenario.steps)

    def say(self, *lines: str) -> None:
        """Add lines to the script."""
        self.lines += lines

    # -- the steps -------------------------------------------------------------------------

    def step(self, number: int, step: Step, following: Step | None) -> None:
        """One step of the scenario."""
        self.say("", f"# ---- step {number}: {describe(step, self.hosts)}")
        moves_on = following is not None and following.during_post
        if step.kind is StepKind.START:
            assert step.host is not None
            self._start(step.host, moves_on)
        elif step.kind is StepKind.RESET:
            self._reset(step, moves_on)
        elif step.kind is StepKind.MIGRATE:
            self._migrate(step)
        elif step.kind is StepKind.SHUTDOWN:
            self.say(f"stop {self._running.name}")
            self.process = None
        elif step.kind is StepKind.UPGRADE_HOST:
            assert step.host is not None
            assert step.firmware_of is not None
            self.files[step.host] = self.hosts[step.firmware_of]
            role = role_name(step.host)
            self.say(
                "# As package managers do: a new file, renamed over the old one.",
                f'cp "${_variable(step.firmware_of)}_FIRMWARE" {role}/bios.new',
                f"mv {role}/bios.new {role}/bios.bin",
            )
        elif step.kind is StepKind.UPGRADE_NVRAM:
            assert step.firmware_of is not None
            self._stage(step.firmware_of)
        elif step.kind is StepKind.GUEST_FLASH:
            self.say(f"guest_flash {self._running.name}"
                     "  # with the file that it finds in fw_cfg")
        elif step.kind is StepKind.CLEAR_NVRAM:
            self.nvram, self.staged = None, False
            self.say("rm -f */nvram.bin " + _STAGED + "  # the next start initialises it again")
        else:
            self.say("mv disk.img disk.old.img", "probe_disk_b disk.img")

    @property
    def _running(self) -> _Process:
        assert self.process is not None, "scenarios.validate has let this through"
        return self.process

    def _start(self, host: int, moves_on: bool) -> None:
        if self.mechanism.nvram:
            self._nvram_for_start(host)
        self.process = self._launch(host, incoming=False)
        self._watch("start", moves_on)

    def _reset(self, step: Step, moves_on: bool) -> None:
        process = self._running
        image = self._image_at_reset(process)
        if image is not None:
            self._swap(process, image)
        self.say(f"mark {process.name}")
        if step.by is ResetBy.MONITOR:
            self.say(f"qmp {process.name} system_reset")
        else:
            self.say(
                f"type_at {process.name} {_KEYS[step.by]}"
                f"  # the probe guest resets itself: {step.by.value}"
            )
        self._watch("reset", moves_on)
        if image is not None:
            self.say(f"swapped {process.name}")

    def _migrate(self, step: Step) -> None:
        assert step.host is not None
        source = self._running
        if self.mechanism.nvram:
            role = role_name(step.host)
            self.say(f"blank_nvram {role}/nvram.bin {HEAD + self.rom_size}"
                     "  # the migration brings the content")
        target = self._launch(step.host, incoming=True)
        target.migrated = True
        names = f"{source.name} {target.name}"
        if step.during_post:
            self.say(f"mark {target.name}")
        self.say(f"migrate_{step.channel.value} {names}")
        self.say(f"stop {source.name}")
        self.process = target
        if self.mechanism.nvram:
            self.nvram = step.host
        if step.during_post:
            self._watch_end("migrate")
        else:
            self.say(f"ask {target.name}")

    def _stage(self, firmware_of: int) -> None:
        firmware = self.hosts[firmware_of].firmware
        if firmware.size != self.rom_size:
            self.say(f"finish 'refused: {firmware.name} has {firmware.size:#x} bytes, the nvram "
                     f"has {self.rom_size:#x}'")
            return
        self.staged = True
        self.say(f'cp "${_variable(firmware_of)}_FIRMWARE" {_STAGED}'
                 "  # it becomes the firmware at the next reset or start")

    # -- how they are done -----------------------------------------------------------------

    def _nvram_for_start(self, host: int) -> None:
        role, version = role_name(host), self.hosts[host].qemu.version
        if self.nvram is not None and self.mechanism.clears_on_move \
                and self.cell.machine == "default" and self.stamp != version:
            self.say(f"# Without -M the machine is another one in QEMU {version}: the nvram, "
                     f"stamped {self.stamp}, is cleared.")
            self.nvram, self.staged = None, False
        if self.nvram is None:
            self.nvram, self.stamp = host, version
            self.rom_size = self.files[host].firmware.size
            self.say(
                f"blank_nvram {role}/nvram.bin {HEAD + self.rom_size}",
                f"into_nvram {role}/bios.bin {role}/nvram.bin"
                "  # the guest's first start: its firmware becomes its own",
            )
        elif self.nvram != host:
            self.say(f"cp {role_name(self.nvram)}/nvram.bin {role}/nvram.bin"
                     "  # the nvram goes where the guest goes")
            self.nvram = host
        if self.staged:
            self._take_staged(role)

    def _take_staged(self, role: str) -> None:
        self.staged = False
        self.say(f"into_nvram {_STAGED} {role}/nvram.bin  # what the user staged")

    def _launch(self, host: int, *, incoming: bool) -> _Process:
        build = self.hosts[host].qemu
        role = role_name(host)
        self.launched += 1
        process = _Process(f"{self.launched}-{role}", host)
        firmware: str | FlashWindow = f"{role}/bios.bin"
        if self.mechanism.nvram:
            firmware = FlashWindow(f"{role}/nvram.bin", HEAD, self.rom_size)
        elif not incoming:
            self.rom_size = self.files[host].firmware.size
        argv = qemu_argv(Launch(
            binary=build.binary, machine=self.cell.machine, accel=self.cell.accel,
            disk=self.cell.disk, disk_file="disk.img", firmware=firmware,
            directory=process.name, incoming=incoming, long_post=self.long_post,
            arguments=build.arguments, label=host_label(host, build),
            flash_file=_FLASH if self.flashes is not None else "",
        ))  # fmt: skip
        by_hand = [
            word.replace(",server=off", ",server=on,wait=off")
            + (f",logfile={process.name}/console.log" if "id=console," in word else "")
            for word in argv[1 + len(build.arguments):]
        ]
        head = f"launch {process.name} {_variable(host)}"
        self.say(" \\\n    ".join([head, *_options(by_hand)]))
        if self.mechanism.swap is Swap.LAUNCHED and incoming:
            self.say(f"cp {role}/bios.bin {process.name}/image.bin"
                     "  # what this QEMU would have booted")
        return process

    def _image_at_reset(self, process: _Process) -> str | None:
        """The file that the policy wants in the ROM at a reset; None: QEMU leaves it alone."""
        if self.mechanism.swap is Swap.LAUNCHED and process.migrated:
            return f"{process.name}/image.bin"
        if self.mechanism.swap is Swap.FILE:
            return f"{role_name(process.host)}/bios.bin"
        if self.mechanism.swap is Swap.STAGED and self.staged:
            self._take_staged(role_name(process.host))
            return _STAGED
        return None

    def _swap(self, process: _Process, image: str) -> None:
        if not process.stub:
            self.say(f"gdb_stub {process.name}")
            process.stub = True
        self.say(f"arm_swap {process.name} {image} {self.rom_size}"
                 "  # gdb waits at the reset vector")

    def _watch(self, what: str, moves_on: bool) -> None:
        self.boots += 1
        process = self._running
        if moves_on:
            self.say(f"watch_banner {process.name}  # and on, while its firmware still runs")
            return
        self._watch_end(what)

    def _watch_end(self, what: str) -> None:
        process = self._running
        self.say(f"watch {self.boots} '{what} on {role_name(process.host)}' {process.name}")


def describe(step: Step, hosts: Sequence[Host]) -> str:
    """A step in words, with the builds behind the roles."""
    words = [step.kind.value]
    if step.host is not None:
        words.append({StepKind.MIGRATE: "to", StepKind.START: "on"}.get(step.kind, "of"))
        words.append(f"{role_name(step.host)} (QEMU {hosts[step.host].qemu.version})")
    if step.by is not ResetBy.MONITOR:
        words.append(f"by the guest: {step.by.value}")
    if step.kind is StepKind.MIGRATE and step.channel is not Channel.UNIX:
        words.append(f"through {step.channel.value}")
    if step.during_post:
        words.append("while the firmware runs")
    if step.firmware_of is not None:
        words.append(f"with {hosts[step.firmware_of].firmware.name}")
    return " ".join(words)


def script(cell: Cell, hosts: Sequence[Host], disks: Sequence[Path]) -> str:
    """The script. ``hosts`` are the cell's, built; ``disks`` probe disks A and B."""
    writer = _Writer(cell, hosts)
    steps = cell.scenario.steps
    for number, step in enumerate(steps, 1):
        writer.step(number, step, steps[number] if number < len(steps) else None)
    body = "\n".join(writer.lines)
    swaps = "arm_swap" in body
    tcp = any(step.channel is Channel.TCP for step in steps)
    parts = [
        "#!/bin/bash",
        *_head(cell, hosts, swaps),
        *(line for index, host in enumerate(hosts) for line in _host(index, host, tcp)),
        _LIBRARY.replace("@SECONDS@", str(math.ceil(cell.seconds))).replace("@HEAD@", str(HEAD)),
        *([_SWAP] if swaps else []),
        *_disk("probe_disk_a", disks[0]),
        *(_disk("probe_disk_b", disks[1]) if "probe_disk_b" in body else ()),
        _SETUP,
        *(f'mkdir -p {role_name(index)} && cp "${_variable(index)}_FIRMWARE" '
          f"{role_name(index)}/bios.bin" for index in range(len(hosts))),
        *([] if writer.flashes is None else
          [f'cp "${_variable(writer.flashes)}_FIRMWARE" {_FLASH}']),
        "probe_disk_a disk.img",
        body,
        "",
        "finish 'all steps done'",
    ]
    return "\n".join(parts) + "\n"


def _head(cell: Cell, hosts: Sequence[Host], swaps: bool) -> Iterator[str]:
    yield f"# {cell.id}"
    yield "# by hand, without the harness (`bootmatrix repro` wrote this). It needs bash, socat" + (
        ", gdb" if swaps else ""
    ) + " and"
    yield "# the QEMUs and firmware files named below. QEMU gets the command lines that the harness"
    yield "# gives it, but that its sockets listen (server=on) and paths are relative."
    yield "#"
    facts = [policies.HostFacts(host.qemu.version, host.qemu.default_machine, host.firmware.name)
             for host in hosts]
    wanted = policies.plan(cell.policy, facts, cell.machine, cell.scenario.steps)
    yield f"# What policy {cell.policy.value} wants to be seen:"
    for number, expected in enumerate(wanted, 1):
        what = f"QEMU refuses it ({expected.refusal})" if expected.refusal else (
            f"{expected.firmware} boots" if expected.boots else
            f"{expected.firmware} runs on" if expected.firmware else "no process")
        yield f"#   step {number}, {expected.step.kind.value}: {what}"
    yield ""
    yield "set -u"


def _host(index: int, host: Host, tcp: bool) -> Iterator[str]:
    name, qemu, firmware = _variable(index), host.qemu, host.firmware
    packages = dict(qemu.packages)
    debian = f" of Debian's qemu-system-x86 {packages['qemu-system-x86']}" \
        if "qemu-system-x86" in packages else ""
    yield ""
    yield f"# {role_name(index)}: QEMU {qemu.version}{debian}, in the root file system"
    yield f"# that `bootmatrix images build {qemu.root_name or qemu.name}` makes and caches."
    yield f"# Your own: {name}_QEMU='/path/to/qemu-system-x86_64' {name}_FIRMWARE=/path bash THIS"
    yield f'if [ -n "${{{name}_QEMU:-}}" ]; then'
    yield f'    read -ra {name} <<<"${name}_QEMU"'
    yield "else"
    unshare = ["--unshare-user-try", "--unshare-pid", "--unshare-ipc"] if tcp else ["--unshare-all"]
    mounts = [word for directory, inside in qemu.mounts
              for word in ("--ro-bind", str(directory), inside)]
    sandbox = ["bwrap", "--ro-bind", str(qemu.root), "/", "--dev", "/dev", "--proc", "/proc"]
    yield f"    {name}=({shlex.join(sandbox)}"
    yield f"        --tmpfs /tmp {shlex.join(mounts)}".rstrip()
    yield '        --bind "${WORK:=$(mktemp -d)}" /cell --chdir /cell --setenv TMPDIR /cell'
    yield f"        {shlex.join(unshare)} --die-with-parent --"
    yield f"        {shlex.join([qemu.binary, *qemu.arguments])})"
    yield "fi"
    yield f"# {firmware.name}, sha256 {firmware.sha256}"
    yield f"{name}_FIRMWARE=${{{name}_FIRMWARE:-{shlex.quote(str(firmware.path))}}}"


def _variable(index: int) -> str:
    return role_name(index).upper().replace("-", "_")


def _options(words: Sequence[str]) -> Iterator[str]:
    """Lines of options, each with its value, as many to a line as fit."""
    line = ""
    at = 0
    while at < len(words):
        option = words[at]
        at += 1
        if at < len(words) and not words[at].startswith("-"):
            option = shlex.join([option, words[at]])
            at += 1
        if line and len(line) + len(option) >= _WIDTH:
            yield line
            line = ""
        line = f"{line} {option}".strip()
    yield line


def _disk(name: str, image: Path) -> Iterator[str]:
    # Sparse: only what is not zero at its end is told.
    data = image.read_bytes()
    text = base64.b64encode(gzip.compress(data.rstrip(b"\0"), mtime=0)).decode()
    yield ""
    yield f"{name}() {{  # {name} FILE: the probe guest's disk (images/guests/probe.asm)"
    yield "    base64 -d <<'END' | gzip -d >\"$1\""
    yield from (text[at:at + _WIDTH] for at in range(0, len(text), _WIDTH))
    yield "END"
    yield f'    truncate -s {len(data)} "$1"'
    yield "}"


_LIBRARY = r"""
BOOT_SECONDS=${BOOT_SECONDS:-@SECONDS@}  # a guest that says nothing for so long is silent

# ---- the tools ------------------------------------------------------------------------------

declare -A PIDS=() MARKS=() FROM=()
HELPERS=()
ASKED=0

finish() {  # finish TEXT: the end, whatever it is
    echo "$1"
    echo "logs: $WORK"
    exit "${2:-0}"
}

end_all() {
    local pid
    for pid in "${PIDS[@]}" "${HELPERS[@]}"; do kill "$pid" 2>/dev/null; done
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
    wait_for 30 answered
    ANSWER=$(grep "\"id\": $id[,}]" "$vm/monitor.out")
    case $ANSWER in *'"error"'*) echo "$vm, $2: $ANSWER" ;; esac
}

mark() { MARKS[$1]=$(stat -c %s "$1/console.log"); }  # what follows is the next boot's

type_at() { printf %s "$2" >"$1/console.in"; }

said() {  # said PROCESS: its console since the mark, without escape sequences
    tail -c "+$((MARKS[$1] + 1))" "$1/console.log" 2>/dev/null |
        sed 's/\x1b\[[0-9;?]*[A-Za-z]//g; s/\x1b[A-Za-z]//g'
}

banners() { said "$1" | grep -ao 'SeaBIOS (version [^()]*)'; }
has_banner() { banners "$1" | grep -q . || ! alive "$1"; }
line() { said "$1" | grep -a "^BOOTMATRIX $2 .*"$'\r$' | tr -d '\r'; }  # only when it is whole
is_up() { line "$1" up | grep -q . || ! alive "$1"; }
is_here() { line "$1" here | grep -q . || ! alive "$1"; }

watch_banner() { wait_for "$BOOT_SECONDS" has_banner "$1"; EARLY=$(banners "$1"); }

watch() {  # watch N WHAT PROCESS: one boot, as it is seen on the serial console
    local seen
    wait_for "$BOOT_SECONDS" is_up "$3"
    seen=$({ [ -z "${EARLY:-}" ] || echo "$EARLY"; banners "$3"; } | paste -sd ';')
    EARLY=
    echo "boot $1 ($2): ${seen:-no banner}"
    if line "$3" up | grep .; then return; fi
    alive "$3" || { cat "$3/qemu.log"; finish "QEMU has ended" 1; }
    finish "the guest does not come up within $BOOT_SECONDS s" 1
}

ask() {  # ask PROCESS: is the guest still there, and how many boots has it counted?
    mark "$1"
    type_at "$1" '?'
    wait_for 5 is_here "$1"
    line "$1" here | grep . || finish "the guest no longer answers" 1
}

guest_flash() {  # guest_flash PROCESS: the probe guest programs its own flash
    mark "$1"
    type_at "$1" f
    has_flashed() { line "$1" flash | grep -q . || ! alive "$1"; }
    wait_for 60 has_flashed "$1"
    line "$1" flash | grep . || finish "the guest was cut off while it flashed" 1
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

# The guest's firmware in a file: a header page of the harness's, empty here, and at @HEAD@ the
# window that QEMU maps as flash. QEMU may have the file open: nothing may cut it off (notrunc).
blank_nvram() { rm -f "$1"; truncate -s "$2" "$1"; }
into_nvram() { dd if="$1" of="$2" bs=4096 seek=$((@HEAD@ / 4096)) conv=notrunc status=none; }"""

_SWAP = r"""
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
}"""

_SETUP = """
# ---- the guest ------------------------------------------------------------------------------

: "${WORK:=$(mktemp -d)}"
cd "$WORK" || exit 3
trap end_all EXIT"""
