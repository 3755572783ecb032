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
from harness.boards import Loader
from harness.cmdline import Flash, FlashWindow, Kernel, Launch, qemu_argv
from harness.guest_files import GuestSetup
from harness.model import (
    Cell,
    Channel,
    FirmwareBuild,
    Host,
    Interface,
    ResetBy,
    ShutdownBy,
    Step,
    StepKind,
    host_label,
    role_name,
)
from harness.nvram.layout import HEAD
from harness.policies import Swap
from harness.scenario import memory_mib, rom_block_size

_KEYS = {
    ResetBy.CF9: "c", ResetBy.KEYBOARD: "k", ResetBy.TRIPLE_FAULT: "t", ResetBy.ACPI: "a",
    ResetBy.EFI_COLD: "e", ResetBy.EFI_WARM: "w",
}  # fmt: skip
_EMBEDDED = 256 << 10  # bytes of a disk, compressed, that a script holds itself
_STAGED = "staged.bin"
_FLASH = "flash.bin"
_PACKAGES = frozenset(
    f"qemu-system-{name}" for name in ("x86", "arm", "misc", "riscv"))
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
    setup: GuestSetup
    lines: list[str] = field(default_factory=list)
    process: _Process | None = None
    launched: int = 0
    boots: int = 0
    nvram: int | None = None  # the host where the guest's nvram file is
    stamp: str = ""
    staged: bool = False
    image_size: int = 0  # of the firmware in the nvram
    rom_size: int = 0  # of the firmware's code in the guest's address space
    variables: dict[str, int] = field(default_factory=dict)  # bytes of each of the guest's stores
    files: list[FirmwareBuild] = field(init=False)  # that each host has at the moment

    def __post_init__(self) -> None:
        self.hosts = self.setup.hosts
        self.files = [host.firmware for host in self.hosts]
        self.mechanism = policies.mechanism(
            self.cell.policy, self.setup.board.loader(self.files[0]))
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
            how = "stop" if step.shutdown_by is ShutdownBy.MONITOR else "guest_shutdown"
            self.say(f"{how} {self._running.name}")
            self.process = None
        elif step.kind is StepKind.SUSPEND:
            self.say(f"suspend {self._running.name}", f"ask {self._running.name}")
        elif step.kind is StepKind.WRITE_VARIABLE:
            self._tell("v written")
        elif step.kind is StepKind.FILL_VARIABLES:
            self._tell("x filled")
        elif step.kind is StepKind.UPGRADE_HOST:
            assert step.host is not None
            assert step.firmware_of is not None
            self.files[step.host] = self.hosts[step.firmware_of].firmware
            self.say("# As package managers do: a new file, renamed over the old one.")
            self.install(step.host, step.firmware_of)
        elif step.kind is StepKind.UPGRADE_NVRAM:
            assert step.firmware_of is not None
            self._stage(step.firmware_of)
        elif step.kind is StepKind.GUEST_FLASH:
            self.say(f"tell {self._running.name} f flash"
                     "  # the guest programs its own flash, with the file that it finds in fw_cfg")
        elif step.kind is StepKind.CLEAR_NVRAM:
            self.nvram, self.staged = None, False
            self.say("rm -f */nvram.bin " + _STAGED + "  # the next start initialises it again")
        else:
            self.say("mv disk.img disk.old.img", "disk_b disk.img")

    def install(self, host: int, firmware_of: int) -> None:
        """Put the firmware of a host of the cell, with what belongs to it, on a host."""
        firmware, variable = self.hosts[firmware_of].firmware, _variable(firmware_of)
        files = [("FIRMWARE", self._firmware_file(host))]
        if firmware.variables is not None:
            files.append(("VARIABLES", f"{role_name(host)}/template.fd"))
        if firmware.payload is not None:
            files.append(("PAYLOAD", f"{role_name(host)}/payload.bin"))
        self.say(*(f'cp "${variable}_{what}" {file}.new && mv {file}.new {file}'
                   for what, file in files))

    def _firmware_file(self, host: int) -> str:
        uefi = self.setup.interface is Interface.UEFI
        return f"{role_name(host)}/{'code.fd' if uefi else 'bios.bin'}"

    def _tell(self, what: str) -> None:
        self.say(f"tell {self._running.name} {what}", f"ask {self._running.name}")

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
            self.say(f"blank_nvram {role}/nvram.bin {self._nvram_size()}"
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
        if firmware.size != self.image_size:
            self.say(f"finish 'refused: {firmware.name} has {firmware.size:#x} bytes, the nvram "
                     f"has {self.image_size:#x}'")
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
            firmware = self.files[host]
            self.nvram, self.stamp = host, version
            self.image_size, self.rom_size = firmware.size, firmware.size - firmware.store_size
            self.variables["nvram"] = _size(firmware.variables)
            self.say(
                f"blank_nvram {role}/nvram.bin {self._nvram_size()}",
                f"into_nvram {self._firmware_file(host)} {role}/nvram.bin"
                "  # the guest's first start: its firmware becomes its own",
            )
            if firmware.variables is not None:
                self.say(f"into_nvram {role}/template.fd {role}/nvram.bin {self.image_size}")
        elif self.nvram != host:
            self.say(f"cp {role_name(self.nvram)}/nvram.bin {role}/nvram.bin"
                     "  # the nvram goes where the guest goes")
            self.nvram = host
        if self.staged:
            self._take_staged(role)

    def _take_staged(self, role: str) -> None:
        self.staged = False
        self.say(f"into_nvram {_STAGED} {role}/nvram.bin  # what the user staged")

    def _nvram_size(self) -> int:
        return HEAD + self.image_size + self.variables["nvram"]

    def _firmware(self, host: int, *, incoming: bool) -> str | Flash:
        """What QEMU is given; this guest's own store is made where it is the first on a host."""
        role, file, firmware = role_name(host), self._firmware_file(host), self.files[host]
        if self.mechanism.nvram:
            nvram = f"{role}/nvram.bin"
            windows = [FlashWindow(nvram, HEAD, self.image_size)]
            if size := self.variables["nvram"]:
                windows.append(FlashWindow(nvram, HEAD + self.image_size, size))
            return tuple(windows)
        if not incoming:
            self.rom_size = firmware.size - firmware.store_size
        loader = self.setup.board.loader(firmware)
        if not loader.has_store:
            return file
        split = loader is Loader.FLASH
        store, origin = (f"{role}/vars.fd", f"{role}/template.fd") if split else (
            f"{role}/flash.fd", file)
        if store not in self.variables:
            self.variables[store] = _size(firmware.variables) if split else firmware.size
            self.say(f"cp {origin} {store}  # this guest's own from now on")
        flash = FlashWindow(store, 0, self.variables[store])
        return (FlashWindow(file, 0, firmware.size, read_only=True), flash) if split else (flash,)

    def _kernel(self, host: int) -> Kernel | None:
        if self.setup.kernel is not None:
            return Kernel("kernel", "initramfs", self.setup.kernel.command_line)
        payload = self.files[host].payload
        return Kernel(f"{role_name(host)}/payload.bin") if payload is not None else None

    def _launch(self, host: int, *, incoming: bool) -> _Process:
        build = self.hosts[host].qemu
        role = role_name(host)
        self.launched += 1
        process = _Process(f"{self.launched}-{role}", host)
        firmware = self._firmware(host, incoming=incoming)
        argv = qemu_argv(Launch(
            binary=build.binary, machine=self.cell.machine, accel=self.cell.accel,
            disk=self.cell.disk, disk_file="disk.img", firmware=firmware,
            directory=process.name, incoming=incoming, long_post=self.long_post,
            arguments=build.arguments, label=host_label(host, build),
            flash_file=_FLASH if self.flashes is not None else "", arch=build.arch,
            memory_mib=memory_mib(self.setup), cpu=self.cell.cpu, smp=self.cell.smp,
            nic=self.cell.nic, rom_size=rom_block_size(self.setup, host),
            smm=self.hosts[host].firmware.needs_smm, kernel=self._kernel(host),
        ))  # fmt: skip
        by_hand = [
            word.replace(",server=off", ",server=on,wait=off")
            + (f",logfile={process.name}/console.log" if "id=console," in word else "")
            for word in argv[1 + len(build.arguments):]
        ]
        head = f"launch {process.name} {_variable(host)}"
        self.say(" \\\n    ".join([head, *_options(by_hand)]))
        if self.mechanism.swap is Swap.LAUNCHED and incoming:
            self.say(f"cp {self._firmware_file(host)} {process.name}/image.bin"
                     "  # what this QEMU would have booted")
        return process

    def _image_at_reset(self, process: _Process) -> str | None:
        """The file that the policy wants in the ROM at a reset; None: QEMU leaves it alone."""
        if self.mechanism.swap is Swap.LAUNCHED and process.migrated:
            return f"{process.name}/image.bin"
        if self.mechanism.swap is Swap.FILE:
            return self._firmware_file(process.host)
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
    if ShutdownBy.GUEST is step.shutdown_by:
        words.append("by the guest")
    if step.by is not ResetBy.MONITOR:
        words.append(f"by the guest: {step.by.value}")
    if step.kind is StepKind.MIGRATE and step.channel is not Channel.UNIX:
        words.append(f"through {step.channel.value}")
    if step.during_post:
        words.append("while the firmware runs")
    if step.firmware_of is not None:
        words.append(f"with {hosts[step.firmware_of].firmware.name}")
    return " ".join(words)


def script(cell: Cell, setup: GuestSetup) -> str:
    """The script. ``setup`` is what the cell's guest is made of."""
    hosts = setup.hosts
    writer = _Writer(cell, setup)
    for index in range(len(hosts)):
        writer.say(f"mkdir -p {role_name(index)}")
        writer.install(index, index)
    if writer.flashes is not None:
        writer.say(f'cp "${_variable(writer.flashes)}_FIRMWARE" {_FLASH}')
    if setup.kernel is not None:
        writer.say('cp "$KERNEL" kernel && cp "$INITRAMFS" initramfs')
    writer.say("disk_a disk.img")
    steps = cell.scenario.steps
    for number, step in enumerate(steps, 1):
        writer.step(number, step, steps[number] if number < len(steps) else None)
    body = "\n".join(writer.lines)
    swaps = "arm_swap" in body
    tcp = any(step.channel is Channel.TCP for step in steps)
    parts = [
        "#!/bin/bash",
        *_head(cell, setup, swaps),
        *(line for index, host in enumerate(hosts) for line in _host(index, host, tcp)),
        _LIBRARY.replace("@SECONDS@", str(math.ceil(cell.seconds))).replace("@HEAD@", str(HEAD)),
        *([_SWAP] if swaps else []),
        *_kernel(setup),
        *_disk("disk_a", setup.disks[0]),
        *(_disk("disk_b", setup.disks[1]) if "disk_b" in body else ()),
        _SETUP,
        body,
        "",
        "finish 'all steps done'",
    ]
    return "\n".join(parts) + "\n"


def _head(cell: Cell, setup: GuestSetup, swaps: bool) -> Iterator[str]:
    yield f"# {cell.id}"
    yield "# by hand, without the harness (`bootmatrix repro` wrote this). It needs bash, socat" + (
        ", gdb" if swaps else ""
    ) + " and"
    yield "# the QEMUs and firmware files named below. QEMU gets the command lines that the harness"
    yield "# gives it, but that its sockets listen (server=on) and paths are relative."
    yield "#"
    facts = [policies.HostFacts(host.qemu.version, host.qemu.default_machine, host.firmware.name,
                                loader=setup.board.loader(host.firmware))
             for host in setup.hosts]
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
    package = _PACKAGES.intersection(packages)
    debian = "".join(f" of Debian's {one} {packages[one]}" for one in package)
    yield ""
    yield f"# {role_name(index)}: QEMU {qemu.version}{debian}, in the root file system"
    yield f"# that `bootmatrix images build {qemu.root_name or qemu.name}` makes and caches."
    program = f"/path/to/qemu-system-{qemu.arch}"
    yield f"# Your own: {name}_QEMU='{program}' {name}_FIRMWARE=/path bash THIS"
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
    yield _default(f"{name}_FIRMWARE", firmware.path)
    if firmware.variables is not None:
        yield _default(f"{name}_VARIABLES", firmware.variables)
    if firmware.payload is not None:
        yield _default(f"{name}_PAYLOAD", firmware.payload)


def _default(variable: str, file: Path) -> str:
    return f"{variable}=${{{variable}:-{shlex.quote(str(file))}}}"


def _kernel(setup: GuestSetup) -> Iterator[str]:
    if setup.kernel is not None:
        yield ""
        yield "# What -kernel and -initrd boot; your own: KERNEL=/path INITRAMFS=/path"
        yield _default("KERNEL", setup.kernel.kernel)
        yield _default("INITRAMFS", setup.kernel.initramfs)


def _size(file: Path | None) -> int:
    return file.stat().st_size if file is not None else 0


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
    data = image.read_bytes()
    # Sparse: only what is not zero at its end is told.
    packed = gzip.compress(data.rstrip(b"\0"), mtime=0)
    yield ""
    if len(packed) > _EMBEDDED:
        yield "# The guest's disk, where bootmatrix has made it (images/guests/); your own: "\
              f"{name.upper()}=/path"
        yield f'{name}() {{ cp "${{{name.upper()}:-{shlex.quote(str(image))}}}" "$1"; }}'
        return
    text = base64.b64encode(packed).decode()
    yield f"{name}() {{  # {name} FILE: the guest's disk (images/guests/)"
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

banners() { said "$1" | grep -aoE 'SeaBIOS \(version [^()]*\)|OpenSBI v[0-9]+\.[0-9]+'; }
has_banner() { banners "$1" | grep -q . || ! alive "$1"; }
line() {  # line PROCESS KIND: the guest's lines of a kind, without one that is not whole yet
    { said "$1"; echo; } | sed '$d' | grep -aE "^\s*BOOTMATRIX $2( |\s*$)" | tr -d '\r'
}
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

suspend() {  # suspend PROCESS: to RAM, by the guest itself; and awake again
    local before
    before=$(stat -c %s "$1/monitor.out")
    type_at "$1" z
    wait_for 60 has_event "$1" SUSPEND "$before" || finish "the guest does not suspend" 1
    qmp "$1" system_wakeup
    wait_for 60 has_event "$1" WAKEUP "$before" || finish "the guest does not wake up" 1
}

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
}"""

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
