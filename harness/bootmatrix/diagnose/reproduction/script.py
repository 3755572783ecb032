"""The guest's life as a shell script has it: what a shell would have to find out is known here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bootmatrix.arguments import machine_type
from bootmatrix.boards import Loader, host_label
from bootmatrix.cell import Cell
from bootmatrix.diagnose.reproduction.parts import variable
from bootmatrix.machines.qemu.command_line import (
    Base,
    Flash,
    FlashWindow,
    Kernel,
    Launch,
    qemu_argv,
)
from bootmatrix.machines.qemu.machine import rom_block_size
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.model import FirmwareBuild, Interface, role_name
from bootmatrix.modes import MODES, Way
from bootmatrix.nvram.layout import HEAD
from bootmatrix.policies.base import Swap
from bootmatrix.records.words import quoted
from bootmatrix.steps.base import Step
from bootmatrix.steps.guest_flash import flashed
from bootmatrix.steps.migrate import leaves_during_post
from bootmatrix.terminal import one_line
from bootmatrix.vm.translate import WRITABLE

STAGED = "staged.bin"
FLASH = "flash.bin"
TLS = "tls"
BASE = "base.img"
_WIDTH = 76
_IN_CELL = f"mem-path={WRITABLE}"  # shared memory; a QEMU of one's own has no such directory


@dataclass
class ScriptedQemu:
    """A QEMU of the script: its name there, its host, and whether a guest has come to it."""

    name: str
    host: int
    migrated: bool = False
    stub: bool = False  # its gdb stub has been started


@dataclass
class ShellScript:
    """The lines so far, and where the guest and its files are after them."""

    cell: Cell
    setup: GuestSetup
    lines: list[str] = field(default_factory=list)
    process: ScriptedQemu | None = None
    coming: ScriptedQemu | None = None  # to which a migration has begun
    launched: int = 0
    boots: int = 0
    nvram: int | None = None  # the host where the guest's nvram file is
    stamp: str = ""
    staged: bool = False
    image_size: int = 0  # of the firmware in the nvram
    rom_size: int = 0  # of the firmware's code in the guest's address space
    variables: dict[str, int] = field(default_factory=dict)  # bytes of each of the guest's stores
    _memory: str = ""  # the file of the guest's memory, if that lies in one
    files: list[FirmwareBuild] = field(init=False)  # that each host has at the moment

    def __post_init__(self) -> None:
        self.hosts = self.setup.hosts
        self.files = [host.firmware for host in self.hosts]
        self.mechanism = self.setup.mechanism
        self.flashes = flashed(self.cell.scenario.steps)

    def add(self, *lines: str) -> None:
        """Add lines."""
        self.lines += map(as_one, lines)

    def install(self, host: int, firmware_of: int) -> None:
        """Put the firmware of a host of the cell, with what belongs to it, on a host."""
        firmware, begins = self.hosts[firmware_of].firmware, variable(firmware_of)
        files = [("FIRMWARE", self._firmware_file(host))]
        if firmware.variables is not None:
            files.append(("VARIABLES", f"{role_name(host)}/template.fd"))
        if firmware.payload is not None:
            files.append(("PAYLOAD", f"{role_name(host)}/payload.bin"))
        self.add(*(f'cp "${begins}_{what}" {file}.new && mv {file}.new {file}'
                   for what, file in files))

    def _firmware_file(self, host: int) -> str:
        uefi = self.setup.interface is Interface.UEFI
        return f"{role_name(host)}/{'code.fd' if uefi else 'bios.bin'}"

    @property
    def running(self) -> ScriptedQemu:
        """The QEMU in which the guest runs."""
        assert self.process is not None, "bootmatrix.steps.library has let this through"
        return self.process

    # -- how they are done -----------------------------------------------------------------

    def nvram_for_start(self, host: int) -> None:
        """The nvram file has what a start on ``host`` needs, under a policy that keeps one."""
        role, version = role_name(host), self.hosts[host].qemu.version
        if self.nvram is not None and self.mechanism.clears_on_move \
                and machine_type(self.cell.machine) == "default" and self.stamp != version:
            self.add(f"# Without -M the machine is another one in QEMU {version}: the nvram, "
                     f"stamped {self.stamp}, is cleared.")
            self.nvram, self.staged = None, False
        if self.nvram is None:
            firmware = self.files[host]
            self.nvram, self.stamp = host, version
            self.image_size, self.rom_size = firmware.size, firmware.size - firmware.store_size
            self.variables["nvram"] = _size(firmware.variables)
            self.add(
                f"blank_nvram {role}/nvram.bin {self.nvram_size}",
                f"into_nvram {self._firmware_file(host)} {role}/nvram.bin"
                "  # the guest's first start: its firmware becomes its own",
            )
            if firmware.variables is not None:
                self.add(f"into_nvram {role}/template.fd {role}/nvram.bin {self.image_size}")
        elif self.nvram != host:
            self.add(f"cp {role_name(self.nvram)}/nvram.bin {role}/nvram.bin"
                     "  # the nvram goes where the guest goes")
            self.nvram = host
        if self.staged:
            self._take_staged(role)

    def _take_staged(self, role: str) -> None:
        self.staged = False
        self.add(f"into_nvram {STAGED} {role}/nvram.bin  # what the user staged")

    @property
    def nvram_size(self) -> int:
        """Bytes of the nvram file."""
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
            self.add(f"cp {origin} {store}  # this guest's own from now on")
        flash = FlashWindow(store, 0, self.variables[store])
        return (FlashWindow(file, 0, firmware.size, read_only=True), flash) if split else (flash,)

    def _base(self) -> Base | None:
        disk = self.setup.own_disk
        return None if disk is None else Base(BASE, disk.format)

    def _kernel(self, host: int) -> Kernel | None:
        if self.setup.kernel is not None:
            return Kernel("kernel", "initramfs", self.setup.kernel.command_line)
        payload = self.files[host].payload
        return Kernel(f"{role_name(host)}/payload.bin") if payload is not None else None

    def launch(self, host: int, *, incoming: bool) -> ScriptedQemu:
        """Start a QEMU; ``incoming``: to receive the guest."""
        build = self.hosts[host].qemu
        role = role_name(host)
        self.launched += 1
        process = ScriptedQemu(f"{self.launched}-{role}", host)
        firmware = self._firmware(host, incoming=incoming)
        mode = MODES[self.setup.migration]
        if not incoming:
            self._memory = f"{process.name}.memory"
        argv = qemu_argv(Launch(
            binary=build.binary, machine=self.cell.machine, board=self.setup.board,
            accel=self.cell.accel.on(host), disk=self.cell.disk, disk_file="disk.img",
            firmware=firmware, directory=process.name, incoming=incoming,
            post_ms=self.setup.post_ms, arguments=build.arguments, label=host_label(host, build),
            flash_file=FLASH if self.flashes is not None else "",
            memory_mib=self.setup.memory_mib, cpu=self.setup.cpu, smp=self.setup.smp,
            nic=self.cell.nic, rom_size=rom_block_size(self.setup, host),
            smm=self.hosts[host].firmware.needs_smm, kernel=self._kernel(host),
            memory=self.setup.memory_argument, words=self.setup.words_on(host),
            network=self.cell.guest.is_linux,
            mode=mode, disk_format=self.setup.disk_format,
            memory_file=self._memory,
            handover=f"{process.name}/cpr.sock" if mode.way is Way.CPR_TRANSFER else "",
            credentials=TLS,
            base=self._base(), has_console=self.setup.own is not None and (
                self.setup.own.has_console),
        ))  # fmt: skip
        by_hand = [
            word.replace(",server=off", ",server=on,wait=off").replace(_IN_CELL, "mem-path=.")
            + (f",logfile={process.name}/console.log" if "id=console," in word else "")
            for word in argv[1 + len(build.arguments):]
        ]
        head = f"launch {process.name} {variable(host)}"
        self.add(" \\\n    ".join([head, *_options(by_hand)]))
        if self.mechanism.swap is Swap.LAUNCHED and incoming:
            self.add(f"cp {self._firmware_file(host)} {process.name}/image.bin"
                     "  # what this QEMU would have booted")
        return process

    def image_at_reset(self, process: ScriptedQemu) -> str | None:
        """The file that the policy wants in the ROM at a reset; None: QEMU leaves it alone."""
        if self.mechanism.swap is Swap.LAUNCHED and process.migrated:
            return f"{process.name}/image.bin"
        if self.mechanism.swap is Swap.FILE:
            return self._firmware_file(process.host)
        if self.mechanism.swap is Swap.STAGED and self.staged:
            self._take_staged(role_name(process.host))
            return STAGED
        return None

    def swap(self, process: ScriptedQemu, image: str) -> None:
        """Have gdb wait for the reset, to write the image."""
        if not process.stub:
            self.add(f"gdb_stub {process.name}")
            process.stub = True
        self.add(f"arm_swap {process.name} {image} {self.rom_size}"
                 "  # gdb waits at the reset vector")

    def watch(self, what: str, following: Step | None) -> None:
        """Watch a boot: to its end, but where the guest moves on meanwhile."""
        self.boots += 1
        process = self.running
        if leaves_during_post(following):
            self.add(f"watch_banner {process.name}  # and on, while its firmware still runs")
            return
        self.watch_end(what)

    def watch_end(self, what: str) -> None:
        """Watch a boot to its end."""
        process = self.running
        self.add(f"watch {self.boots} '{what} on {role_name(process.host)}' {process.name}")


def as_one(line: str) -> str:
    """A line whose comment, if it is one, ends with it, whatever names stand in it."""
    return one_line(line) if line.startswith("#") else line


def _size(file: Path | None) -> int:
    return file.stat().st_size if file is not None else 0


def _options(words: Sequence[str]) -> Iterator[str]:
    """Lines of options, each with its value, as many to a line as fit."""
    line = ""
    at = 0
    while at < len(words):
        option = quoted(words[at])
        at += 1
        if at < len(words) and not words[at].startswith("-"):
            option += " " + quoted(words[at])
            at += 1
        if line and len(line) + len(option) >= _WIDTH:
            yield line
            line = ""
        line = f"{line} {option}".strip()
    yield line


