"""The files that one guest lives from: firmware on each host, variables, nvram, disk, kernel.

They lie in the cell's directory, which the sandboxes see as /cell:

    source/bios.bin or code.fd   the firmware that is installed on the host
    source/template.fd           the variable store that comes with it
    source/vars.fd               this guest's variables there, if its firmware is split
    source/flash.fd              this guest's flash there, if its firmware is one image with them
    source/nvram.bin             this guest's nvram there, under a policy that keeps one
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import guests
from harness.boards import Board, Loader, board_of
from harness.cmdline import Flash, FlashWindow, Kernel
from harness.engines.confinement import CELL
from harness.errors import UserError
from harness.guests import LinuxKernel
from harness.model import (
    DEFAULT_MACHINE,
    Accel,
    Arch,
    Cell,
    Disk,
    FirmwareBuild,
    GuestKind,
    Host,
    Interface,
    Nic,
    Policy,
    StepKind,
    role_name,
)
from harness.nvram import UNSYNCED, ChangedBy, Nvram
from harness.policies import FIRST_DISK, SECOND_DISK, Mechanism, mechanism

FLASH_FILE = "flash.bin"


@dataclass
class GuestSetup:
    """What a guest is made of.

    ``seconds`` bounds each boot; ``disks`` are disks A and B. ``long_post`` makes the firmware
    wait for a key, so that there is time to migrate the guest during it. ``flash`` is what the
    guest finds in fw_cfg to program its flash with, ``kernel`` what ``-kernel`` boots.
    """

    hosts: Sequence[Host]
    machine: str
    policy: Policy
    disks: Sequence[Path]
    disk: Disk = Disk.AHCI
    accel: Accel = Accel.TCG
    seconds: float = 5.0
    long_post: bool = False
    flash: FirmwareBuild | None = None
    guest: GuestKind = GuestKind.PROBE
    cpu: str = ""
    smp: int = 1
    nic: Nic = Nic.NONE
    kernel: LinuxKernel | None = None

    @property
    def arch(self) -> Arch:
        """What its QEMUs emulate."""
        return self.hosts[0].qemu.arch

    @property
    def board(self) -> Board:
        """The board it runs on. Raises UserError for one that is not known."""
        board = board_of(self.machine, self.arch)
        if board is None:
            raise UserError(f"no guest of ours boots on machine {self.machine} ({self.arch})")
        return board

    @property
    def mechanism(self) -> Mechanism:
        """How QEMU is made to follow the policy on this board."""
        return mechanism(self.policy, self.board.loader(self.hosts[0].firmware))

    @property
    def interface(self) -> Interface:
        """The interface of its firmware, the same on all hosts."""
        return self.hosts[0].firmware.interface


def setup_of(cell: Cell, hosts: Sequence[Host], cache: Path) -> GuestSetup:
    """What the guest of a cell is made of; its disks are built first if ``cache`` lacks them."""
    steps = cell.scenario.steps
    flashed = (
        hosts[step.firmware_of].firmware for step in steps
        if step.kind is StepKind.GUEST_FLASH and step.firmware_of is not None
    )
    return GuestSetup(
        hosts, cell.machine, cell.policy,
        [_disk(cell, hosts[0].firmware, label, cache) for label in (FIRST_DISK, SECOND_DISK)],
        cell.disk, cell.accel, cell.seconds,
        long_post=any(step.during_post for step in steps),
        flash=next(flashed, None),  # all such steps of a scenario say the same
        guest=cell.guest, cpu=cell.cpu, smp=cell.smp, nic=cell.nic,
        kernel=guests.linux_kernel(cache, cell.arch)
        if cell.guest is GuestKind.LINUX_KERNEL else None,
    )  # fmt: skip


def _disk(cell: Cell, firmware: FirmwareBuild, label: str, cache: Path) -> Path:
    if cell.guest.is_linux:
        return guests.linux_disk(label, cache, cell.arch)
    # U-Boot has no interface but UEFI's to a program on a disk.
    if firmware.interface is Interface.UEFI or cell.arch is not Arch.X86_64:
        return guests.uefi_disk(label, cache, cell.arch, signing=firmware.signing)
    return guests.probe_disk(label, cache)


@dataclass(frozen=True)
class Prepared:
    """What a QEMU is to be launched with.

    ``firmware`` is for the command line. ``image`` is image(P): the code of the host's firmware
    at this moment. ``rom_size`` is how many bytes of firmware are in the guest's address space,
    without variables.
    """

    firmware: str | Flash
    image: bytes
    rom_size: int
    nvram: Nvram | None = None


class GuestFiles:
    """The files of one guest in ``directory``. Closing it lets go of its nvram."""

    def __init__(self, setup: GuestSetup, directory: Path) -> None:
        self._setup = setup
        self._board = setup.board
        self._mechanism = setup.mechanism
        self._stack = contextlib.ExitStack()
        self._installed: dict[int, FirmwareBuild] = {}
        self._store_size = setup.hosts[0].firmware.store_size  # of the image in the nvram
        self.directory = directory
        self.nvram: Nvram | None = None
        self.disk = directory / "disk.img"
        for index, host in enumerate(setup.hosts):
            self._host_dir(index).mkdir()
            self.install(index, host.firmware)
        if setup.flash is not None:
            shutil.copyfile(setup.flash.path, directory / FLASH_FILE)
        if setup.kernel is not None:
            shutil.copyfile(setup.kernel.kernel, directory / "kernel")
            shutil.copyfile(setup.kernel.initramfs, directory / "initramfs")
        self.install_disk(0)

    def close(self) -> None:
        """Let go of them; what is on the disk stays."""
        self._stack.close()

    # -- what users and package managers do --------------------------------------------------

    def install(self, host: int, firmware: FirmwareBuild) -> None:
        """Install a firmware on a host, as package managers do: a new file, renamed over."""
        self._installed[host] = firmware
        _replace(firmware.path, self._firmware_file(host))
        if firmware.variables is not None:
            _replace(firmware.variables, self._host_dir(host) / "template.fd")
        if firmware.payload is not None:
            _replace(firmware.payload, self._host_dir(host) / "payload.bin")

    def install_disk(self, which: int) -> None:
        """Put disk A (0) or B (1) where the guest's is."""
        shutil.copyfile(self._setup.disks[which], self.disk)

    def replace_disk(self) -> None:
        """Rename the disk away, and put the other in its place."""
        self.disk.rename(self.directory / "disk.old.img")
        self.install_disk(1)

    # -- what a QEMU is launched with -----------------------------------------------------------

    def prepare(self, host: int, *, incoming: bool) -> Prepared:
        """Make the files ready for a process on ``host``. ``incoming``: it receives the guest."""
        code = self.code(host)
        if self._mechanism.nvram:
            nvram = self._nvram_for(host, incoming=incoming)
            file = self._inside(nvram.path)
            windows = tuple(
                FlashWindow(file, window.offset, window.size) for window in nvram.header.windows
            )
            return Prepared(windows, code, nvram.size - self._store_size, nvram)
        file = self._inside(self._firmware_file(host))
        loader = self._board.loader(self._installed[host])
        if loader is Loader.FLASH:
            variables = self._host_dir(host) / "vars.fd"
            if not variables.exists():
                shutil.copyfile(self._host_dir(host) / "template.fd", variables)
            firmware: str | Flash = (
                FlashWindow(file, 0, len(code), read_only=True),
                FlashWindow(self._inside(variables), 0, variables.stat().st_size),
            )
        elif loader is Loader.WRITABLE_FLASH:
            flash = self._host_dir(host) / "flash.fd"
            if not flash.exists():
                shutil.copyfile(self._firmware_file(host), flash)
            firmware = (FlashWindow(self._inside(flash), 0, flash.stat().st_size),)
        else:
            firmware = file
        return Prepared(firmware, code, len(code))

    def code(self, host: int) -> bytes:
        """The code of the firmware that is installed on a host now, without variables."""
        return self._installed[host].code_of(self._firmware_file(host).read_bytes())

    def kernel(self, host: int) -> Kernel | None:
        """What ``-kernel`` starts behind the firmware on a host, if anything."""
        setup = self._setup
        if setup.kernel is not None:
            return Kernel(f"{CELL}/kernel", f"{CELL}/initramfs", setup.kernel.command_line)
        if self._installed[host].payload is not None:
            return Kernel(self._inside(self._host_dir(host) / "payload.bin"))
        return None

    @property
    def disk_inside(self) -> str:
        """The disk's path as QEMU sees it."""
        return self._inside(self.disk)

    @property
    def flash_inside(self) -> str:
        """That of the image which the guest can flash, "" where there is none."""
        return f"{CELL}/{FLASH_FILE}" if self._setup.flash else ""

    @property
    def staged(self) -> bool:
        """Whether an upgrade waits in the nvram."""
        return self.nvram is not None and self.nvram.staged

    def take_staged(self) -> bytes | None:
        """Make the staged upgrade the nvram's firmware; its code, None if there is none."""
        image = self.nvram.take_staged() if self.nvram is not None else None
        return None if image is None else image[self._store_size :]

    # -- a guest that is kept, and resumed by others ---------------------------------------------

    def keep(self, host: int, directory: Path) -> None:
        """Copy what belongs to the guest on ``host`` into a new directory."""
        shutil.copytree(self._host_dir(host), directory)

    def take_up(self, host: int, directory: Path) -> int:
        """Be the guest that was kept in ``directory``; returns the bytes of its firmware."""
        shutil.copytree(directory, self._host_dir(host), dirs_exist_ok=True)
        if self._mechanism.nvram:
            self.nvram = self._opened_nvram(host)
            return self.nvram.size - self._store_size
        return len(self.code(host))

    # -- how it is done --------------------------------------------------------------------------

    def _host_dir(self, host: int) -> Path:
        return self.directory / role_name(host)

    def _firmware_file(self, host: int) -> Path:
        uefi = self._setup.hosts[host].firmware.interface is Interface.UEFI
        return self._host_dir(host) / ("code.fd" if uefi else "bios.bin")

    def _inside(self, path: Path) -> str:
        return f"{CELL}/{path.relative_to(self.directory)}"

    def _nvram_for(self, host: int, *, incoming: bool) -> Nvram:
        """The nvram that a process on ``host`` maps, made ready for it."""
        version, role = self._setup.hosts[host].qemu.version, role_name(host)
        if incoming:
            assert self.nvram is not None
            nvram = Nvram.expecting(
                self._nvram_file(host), self.nvram, qemu=version, role=role
            )
            self._stack.callback(nvram.close)
            return nvram
        nvram = self.nvram or self._opened_nvram(host)
        if nvram.path != self._nvram_file(host):
            nvram = nvram.move_to(self._nvram_file(host))
            self._stack.callback(nvram.close)
        moved_without_machine = self._setup.machine == DEFAULT_MACHINE and (
            nvram.initialised and nvram.stamp != version
        )
        if self._mechanism.clears_on_move and moved_without_machine:
            nvram.clear(ChangedBy.HARNESS)
        if not nvram.initialised:
            self._store_size = self._installed[host].store_size
            template = self._host_dir(host) / "template.fd"
            split = self._installed[host].variables is not None
            nvram.initialise(
                self._firmware_file(host).read_bytes(), qemu=version,
                machine=self._setup.machine, policy=self._setup.policy.value,
                variables=template.read_bytes() if split else b"",
            )  # fmt: skip
        nvram.take_staged()
        nvram.lend(version, role)
        self.nvram = nvram
        return nvram

    def _nvram_file(self, host: int) -> Path:
        return self._host_dir(host) / "nvram.bin"

    def _opened_nvram(self, host: int) -> Nvram:
        # A cell's files do not outlive a loss of power.
        nvram = Nvram(self._nvram_file(host), system=UNSYNCED)
        self._stack.callback(nvram.close)
        return nvram


def _replace(source: Path, target: Path) -> None:
    new = target.with_suffix(".new")
    shutil.copyfile(source, new)
    new.replace(target)
