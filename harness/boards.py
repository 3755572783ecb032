"""The boards that QEMU emulates, as far as firmware is concerned: one row each.

A machine type (``pc-q35-5.2``) is a version of a board. What a board does with its firmware is
QEMU's, not ours: docs/stock-qemu.md has the measurements, QEMU's hw/i386/pc_sysfw.c,
hw/i386/x86-common.c, hw/arm/virt.c and hw/riscv/virt.c the source.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from harness.model import DEFAULT_MACHINE, Arch, Disk, FirmwareBuild, Interface

_FOUR_GIB = 1 << 32
_MIB = 1 << 20


class Loader(Enum):
    """What QEMU takes firmware for that lies in a file of its host."""

    ROM = "a ROM, which migrates, and is filled from the file only in a new process"
    MEMORY = "memory, which each reset fills again with what the process read at its launch"
    FLASH = "read-only flash for the code, and a flash of the guest's own for the variables"
    WRITABLE_FLASH = "one flash of the guest's own, with code and variables in it"

    @property
    def has_store(self) -> bool:
        """Whether the firmware has a variable store, which it has in flash alone."""
        return self in (Loader.FLASH, Loader.WRITABLE_FLASH)


@dataclass(frozen=True)
class Board:
    """What must be known of a board.

    ``versioned``: its machine types have versions, and QEMU promises to migrate between them.
    ``bios`` is what ``-bios`` is to it. ``flash_at`` is where its flash lies: None, it has none;
    0 or more, the address of unit 0; -1, the flash ends at 4 GiB. ``reset_vector``: firmware can
    be replaced at a reset. ``rom_readable``: the bytes of what ``-bios`` brought stay what
    they are, below 4 GiB, so that they are a witness. ``cpu`` is the model without which nothing
    boots.
    """

    name: str
    arch: Arch
    disks: tuple[Disk, ...]
    versioned: bool = True
    bios: Loader = Loader.ROM
    flash_at: int | None = -1
    reset_vector: bool = True
    rom_readable: bool = True
    cpu: str = ""

    @property
    def has_flash(self) -> bool:
        """Whether a guest's firmware can lie in flash."""
        return self.flash_at is not None

    def loader(self, firmware: FirmwareBuild) -> Loader:
        """How this board is given a firmware that lies in files of the host."""
        if firmware.interface is Interface.BIOS or not self.has_flash:
            return self.bios
        return Loader.FLASH if firmware.variables is not None else Loader.WRITABLE_FLASH

    def rom_address(self, size: int) -> int | None:
        """Where a firmware of ``size`` bytes can be read; None where its bytes tell nothing."""
        if self.flash_at is not None and self.flash_at >= 0:
            return self.flash_at
        return _FOUR_GIB - size if self.rom_readable else None


_PC_DISKS = (Disk.AHCI, Disk.IDE, Disk.VIRTIO, Disk.FLOPPY)
_BOARDS = (
    Board("pc-i440fx", Arch.X86_64, _PC_DISKS),
    Board("pc-q35", Arch.X86_64, _PC_DISKS),
    # SeaBIOS keeps its own variables in the memory that it was loaded to.
    Board("isapc", Arch.X86_64, (Disk.IDE, Disk.FLOPPY), versioned=False, bios=Loader.MEMORY,
          flash_at=None, rom_readable=False),
    Board("microvm", Arch.X86_64, (Disk.VIRTIO,), versioned=False, bios=Loader.MEMORY,
          flash_at=None, rom_readable=False),
    Board("virt", Arch.AARCH64, (Disk.VIRTIO,), bios=Loader.MEMORY, flash_at=0,
          reset_vector=False, cpu="cortex-a57"),
    # OpenSBI and U-Boot relocate themselves in the memory that they are loaded to.
    Board("virt", Arch.RISCV64, (Disk.VIRTIO,), versioned=False, bios=Loader.MEMORY, flash_at=None,
          reset_vector=False, rom_readable=False),
)  # fmt: skip
_DEFAULT_BOARD: Mapping[Arch, str] = MappingProxyType(
    {Arch.X86_64: "pc-i440fx", Arch.AARCH64: "virt", Arch.RISCV64: "virt"}
)
_VERSION = re.compile(r"-\d+(\.\d+)*$")


def board_of(machine: str, arch: Arch = Arch.X86_64) -> Board | None:
    """The board of a machine type, None for one that is not known here.

    ``pc`` and ``q35`` are QEMU's own short names; ``default`` is x86's default board, and virt
    where a QEMU has no default of its own.
    """
    if machine == DEFAULT_MACHINE:
        name = _DEFAULT_BOARD[arch]
    else:
        name = _VERSION.sub("", machine)
        name = {"pc": "pc-i440fx", "q35": "pc-q35"}.get(name, name)
    return next((board for board in _BOARDS if (board.name, board.arch) == (name, arch)), None)
