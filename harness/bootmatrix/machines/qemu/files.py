"""The files that one guest lives from: firmware on each host, variables, nvram, disk, kernel.

What QEMU only reads lies where no sandbox can change it (SHOWN inside):

    source/bios.bin or code.fd   the firmware that is installed on the host
    source/template.fd           the variable store that comes with it
    source/tls/                  what a QEMU there shows another, in a mode that encrypts

and what it writes in the cell's directory (/cell), where anything may have become of it:

    source/vars.fd               this guest's variables there, if its firmware is split
    source/flash.fd              this guest's flash there, if its firmware is one image with them
    source/nvram.bin             this guest's nvram there, under a policy that keeps one
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bootmatrix.arguments import machine_type
from bootmatrix.boards import Loader
from bootmatrix.engines.confinement import CELL, SHOWN, file_bytes
from bootmatrix.engines.scratch import Scratch
from bootmatrix.errors import CellError
from bootmatrix.files.cell_files import CellDir
from bootmatrix.machines.qemu.command_line import Base, Flash, FlashWindow, Kernel
from bootmatrix.machines.qemu.migration import credentials
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.model import (
    DEFAULT_MACHINE,
    FirmwareBuild,
    Interface,
    role_name,
)
from bootmatrix.modes import MODES
from bootmatrix.nvram import ChangedBy, Nvram, System
from bootmatrix.witnesses.refusal import limit_text

FLASH_FILE = "flash.bin"
BASE_FILE = "base.img"
DISK_FILE, OLD_DISK_FILE = "disk.img", "disk.old.img"
_CREDENTIALS = "tls"
_CLUSTER = 64 << 10  # of an overlay, which grows by as much
VARIABLES_FILE, COMBINED_FILE, NVRAM_FILE = "vars.fd", "flash.fd", "nvram.bin"


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
    """The files of one guest in a scratch directory. Closing it lets go of its nvram."""

    def __init__(self, setup: GuestSetup, scratch: Scratch) -> None:
        self._setup = setup
        self._board = setup.board
        self._mechanism = setup.mechanism
        self._stack = contextlib.ExitStack()
        self._installed: dict[int, FirmwareBuild] = {}
        self._store_size = setup.hosts[0].firmware.store_size  # of the image in the nvram
        self._cell = scratch.cell
        self._shown = [scratch.shown(host.qemu) / role_name(index)
                       for index, host in enumerate(setup.hosts)]
        self._stores: set[str] = set()  # those that this guest has on its hosts
        self.nvram: Nvram | None = None
        for index, host in enumerate(setup.hosts):
            self._cell.mkdir(role_name(index))
            self._shown[index].mkdir()
            self.install(index, host.firmware)
            if setup.flash is not None:
                _show(setup.flash.path, self._shown[index] / FLASH_FILE)
            if setup.kernel is not None:
                _show(setup.kernel.kernel, self._shown[index] / "kernel")
                _show(setup.kernel.initramfs, self._shown[index] / "initramfs")
            if (kind := MODES[setup.migration].credentials) is not None:
                (self._shown[index] / _CREDENTIALS).mkdir()
                for name, content in credentials.files(kind).items():
                    _put(content, self._shown[index] / _CREDENTIALS / name)
            if setup.own_disk is not None:
                _show_large(setup.own_disk.path, self._shown[index] / BASE_FILE,
                            self._shown[0] / BASE_FILE)
        self.install_disk(0)

    def close(self) -> None:
        """Let go of them; what is on the disk stays."""
        self._stack.close()

    # -- what users and package managers do --------------------------------------------------

    def install(self, host: int, firmware: FirmwareBuild) -> None:
        """Install a firmware on a host, as package managers do: a new file, renamed over."""
        self._installed[host] = firmware
        _show(firmware.path, self._firmware_file(host))
        if firmware.variables is not None:
            _show(firmware.variables, self._template(host))
        if firmware.payload is not None:
            _show(firmware.payload, self._shown[host] / "payload.bin")

    def install_disk(self, which: int) -> None:
        """Put disk A (0) or B (1) where the guest's is."""
        self._cell.copy_in(self._setup.disks[which], DISK_FILE)

    def replace_disk(self) -> None:
        """Rename the disk away, and put the other in its place."""
        self._cell.rename(DISK_FILE, OLD_DISK_FILE)
        self.install_disk(1)

    # -- what a QEMU is launched with -----------------------------------------------------------

    def prepare(self, host: int, *, incoming: bool) -> Prepared:
        """Make the files ready for a process on ``host``. ``incoming``: it receives the guest."""
        code = self.code(host)
        if self._mechanism.nvram:
            nvram = self._nvram_for(host, incoming=incoming)
            file = f"{CELL}/{nvram.path.relative_to(self._cell.path)}"
            windows = tuple(
                FlashWindow(file, window.offset, window.size) for window in nvram.header.windows
            )
            return Prepared(windows, code, nvram.size - self._store_size, nvram)
        file = self._inside(self._firmware_file(host))
        loader = self._board.loader(self._installed[host])
        if loader is Loader.FLASH:
            firmware: str | Flash = (
                FlashWindow(file, 0, len(code), read_only=True),
                self._store(host, VARIABLES_FILE, self._template(host)),
            )
        elif loader is Loader.WRITABLE_FLASH:
            firmware = (self._store(host, COMBINED_FILE, self._firmware_file(host)),)
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
            kernel, initramfs = (self._inside(self._shown[host] / name)
                                 for name in ("kernel", "initramfs"))
            return Kernel(kernel, initramfs, setup.kernel.command_line)
        if self._installed[host].payload is not None:
            return Kernel(self._inside(self._shown[host] / "payload.bin"))
        return None

    @property
    def disk_inside(self) -> str:
        """The disk's path as QEMU sees it."""
        return f"{CELL}/{DISK_FILE}"

    def base(self, host: int) -> Base | None:
        """What the guest's disk is an overlay of, as QEMU sees it; None: it is none."""
        disk, file = self._setup.own_disk, self._inside(self._shown[host] / BASE_FILE)
        return None if disk is None else Base(file, disk.format)

    def disk_full(self) -> str | None:
        """What is to be said of an overlay that is as large as a file can be; None: nothing.

        QEMU gives its guest an error for each write then, and says nothing itself.
        """
        if self._setup.own_disk is None:
            return None
        with contextlib.suppress(FileNotFoundError, CellError):
            if self._cell.lstat(DISK_FILE).st_size + _CLUSTER > file_bytes(self._setup.limits):
                return ("what the guest wrote to its disk fills its sandbox's "
                        f"{limit_text(self._setup.limits, 'file')}; limits: {{file: N}} in the "
                        "matrix file is another")
        return None

    def flash_inside(self, host: int) -> str:
        """That of the image which the guest can flash, "" where there is none."""
        return self._inside(self._shown[host] / FLASH_FILE) if self._setup.flash else ""

    def credentials_inside(self, host: int) -> str:
        """That of the directory of what a QEMU shows another in a migration."""
        return self._inside(self._shown[host] / _CREDENTIALS)

    @property
    def staged(self) -> bool:
        """Whether an upgrade waits in the nvram."""
        return self.nvram is not None and self.nvram.staged

    def take_staged(self) -> bytes | None:
        """Make the staged upgrade the nvram's firmware; its code, None if there is none."""
        image = self.nvram.take_staged() if self.nvram is not None else None
        return None if image is None else image[self._store_size :]

    def arrived(self, nvram: Nvram | None, *, alive: bool) -> bool | None:
        """The guest has come to another host, and its nvram to this one.

        Whether that is equal to what it was; None for a guest without one.
        """
        if self.nvram is None or nvram is None:
            return None
        equal = nvram.same_windows_as(self.nvram)
        if equal or alive:  # else it is lost there, and not here
            nvram.received_from(self.nvram)
            self.nvram = nvram
        return equal

    # -- a guest that is kept, and resumed by others ---------------------------------------------

    def keep(self, host: int, directory: Path) -> None:
        """Copy what belongs to the guest on ``host`` into a new directory."""
        directory.mkdir(parents=True)
        for name in _SAVED:
            with contextlib.suppress(FileNotFoundError):
                self._cell.copy_out(f"{role_name(host)}/{name}", directory / name)

    def take_up(self, host: int, directory: Path) -> int:
        """Be the guest that was kept in ``directory``; returns the bytes of its firmware."""
        for file in directory.iterdir():
            name = f"{role_name(host)}/{file.name}"
            self._cell.copy_in(file, name)
            self._stores.add(name)
        if self._mechanism.nvram:
            self.nvram = self._opened_nvram(host)
            return self.nvram.size - self._store_size
        return len(self.code(host))

    # -- how it is done --------------------------------------------------------------------------

    def _firmware_file(self, host: int) -> Path:
        uefi = self._setup.hosts[host].firmware.interface is Interface.UEFI
        return self._shown[host] / ("code.fd" if uefi else "bios.bin")

    def _template(self, host: int) -> Path:
        return self._shown[host] / "template.fd"

    @staticmethod
    def _inside(shown: Path) -> str:
        """The name in its sandbox of a file that a host's QEMU only reads."""
        return f"{SHOWN}/{shown.parent.name}/{shown.name}"

    def _store(self, host: int, name: str, template: Path) -> FlashWindow:
        """A flash of the guest's own on a host, made at its first start there."""
        name = f"{role_name(host)}/{name}"
        if name not in self._stores:
            self._cell.copy_in(template, name)
            self._stores.add(name)
        return FlashWindow(f"{CELL}/{name}", 0, self._cell.lstat(name).st_size)

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
        moved_without_machine = machine_type(self._setup.machine) == DEFAULT_MACHINE and (
            nvram.initialised and nvram.stamp != version
        )
        if self._mechanism.clears_on_move and moved_without_machine:
            nvram.clear(ChangedBy.HARNESS)
        if not nvram.initialised:
            self._store_size = self._installed[host].store_size
            split = self._installed[host].variables is not None
            nvram.initialise(
                self._firmware_file(host).read_bytes(), qemu=version,
                machine=self._setup.machine, policy=self._setup.policy.value,
                variables=self._template(host).read_bytes() if split else b"",
            )  # fmt: skip
        nvram.take_staged()
        nvram.lend(version, role)
        self.nvram = nvram
        return nvram

    def _nvram_file(self, host: int) -> Path:
        return self._cell.path / role_name(host) / NVRAM_FILE

    def _opened_nvram(self, host: int) -> Nvram:
        nvram = Nvram(self._nvram_file(host), system=cell_system(self._cell))
        self._stack.callback(nvram.close)
        return nvram


_SAVED = (VARIABLES_FILE, COMBINED_FILE, NVRAM_FILE)


def cell_system(cell: CellDir) -> System:
    """The system calls for an nvram file in a cell, by its path; none outlives a loss of power."""
    def name(path: Path) -> str:
        return str(path.relative_to(cell.path))

    return System(
        sync=lambda fd: None,
        rename=lambda old, new: cell.rename(name(old), name(new)),
        unlink=lambda path: cell.unlink(name(path)),
        open=lambda path, flags: cell.open(name(path), flags),
        stat=lambda path: cell.lstat(name(path)),
    )


def _show_large(source: Path, target: Path, other: Path) -> None:
    """The same for what is large: not twice where it is there already, and sparse as it was."""
    if other != target and other.exists():
        target.hardlink_to(other)
        return
    subprocess.run(["cp", "--reflink=auto", "--sparse=auto", "--", str(source), str(target)],
                   check=True, capture_output=True)
    target.chmod(0o644)


def _put(content: bytes, target: Path) -> None:
    """A file that sandboxes can read."""
    target.write_bytes(content)
    target.chmod(0o644)


def _show(source: Path, target: Path) -> None:
    """Put a file where sandboxes can read it, in the place of what was there, all at once."""
    new = target.with_suffix(".new")
    shutil.copyfile(source, new)
    new.chmod(0o644)
    new.replace(target)
