"""What must be known of a board, and of an architecture: the shape of their rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from bootmatrix.errors import UserError
from bootmatrix.model import Arch, Disk, FirmwareBuild, Interface, ResetBy, Tpm

FOUR_GIB = 1 << 32


class Loader(Enum):
    """What QEMU takes firmware for that lies in a file of its host."""

    ROM = "a ROM, which migrates, and is filled from the file only in a new process"
    MEMORY = "memory, which each reset fills again with what the process read at its launch"
    FLASH = "read-only flash for the code, and a flash of the guest's own for the variables"
    WRITABLE_FLASH = "one flash of the guest's own, with code and variables in it"
    CHIP = "no file at all: a real board's flash chip, which a programmer writes"

    @property
    def has_store(self) -> bool:
        """Whether the firmware has a variable store, which it has in flash alone."""
        return self in (Loader.FLASH, Loader.WRITABLE_FLASH)


@dataclass(frozen=True)
class Attachment:
    """How a disk comes to a board: QEMU's ``-device``, on a ``bus``, of a ``controller`` beside it.

    Without ``bus`` QEMU finds one; without ``controller`` the board has it. Without ``device`` it
    is a floppy, for which the board has the drive.
    """

    device: str = ""
    bus: str = ""
    controller: str = ""


FLOPPY = Attachment()


@dataclass(frozen=True)
class Board:
    """One board.

    ``aliases`` are QEMU's other names for it. ``versioned``: its machine types have versions, and
    QEMU promises to migrate between them; ``migrates_to_others``: to QEMUs of another version, by
    that promise or for all that is known. ``bios`` is what ``-bios`` is to it.

    ``flash_at`` is where its flash lies: None, it has none; 0 or more, the address of unit 0; -1,
    the flash ends at 4 GiB. ``reset_vector`` is where the CPU begins. ``swapped_below``: there
    the firmware can be replaced, whose last bytes are seen below these addresses, so many of them
    below each; (): that is not done. ``rom_readable``: the bytes of what ``-bios`` brought stay
    what they are, below 4 GiB, so that they are a witness.

    ``tpms`` are QEMU's devices of the TPMs that it can have.

    ``resets`` are the ways in which a guest can reset it, UEFI's own aside, ``suspends`` whether
    it can be suspended to RAM and woken up. ``debug_port``: firmware looks for a port to print its
    debug log to. ``waits_at_menu``: its prompt is its boot menu, which QEMU has to ask for.
    ``tells_cpus``: the probe finds there how many CPUs there are. ``nvram`` is the memory in
    which a guest counts its boots: it lives as long as the process and moves with it,
    ``mib`` the memory that its firmware and a program of ours need, in MiB, ``uefi_mib`` with UEFI
    firmware, ``smm_mib`` with such that needs SMM: None, there is no SMM. ``cpu`` is the model
    without which nothing boots.
    """

    name: str
    arch: Arch
    disks: Mapping[Disk, Attachment]
    aliases: tuple[str, ...] = ()
    versioned: bool = True
    migrates_to_others: bool = True
    bios: Loader = Loader.ROM
    flash_at: int | None = -1
    reset_vector: int = FOUR_GIB - 16
    swapped_below: tuple[tuple[int, int], ...] = ()
    rom_readable: bool = True
    pci: bool = True
    tpms: Mapping[Tpm, str] = field(default_factory=dict)
    resets: frozenset[ResetBy] = frozenset()
    suspends: bool = False
    debug_port: bool = False
    waits_at_menu: bool = False
    tells_cpus: bool = True
    nvram: str = "CMOS"
    mib: int = 32
    uefi_mib: int = 128
    smm_mib: int | None = None
    cpu: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.arch})"

    @property
    def has_flash(self) -> bool:
        """Whether a guest's firmware can lie in flash."""
        return self.flash_at is not None

    @property
    def own_disk(self) -> Disk:
        """The kind of disk for which it has a controller of its own."""
        return next(disk for disk, how in self.disks.items() if not how.controller)

    def attachment(self, disk: Disk) -> Attachment:
        """How a disk comes to it. Raises UserError for one that it cannot have."""
        if disk not in self.disks:
            raise UserError(f"{self.name} has no {disk} disk", hint=", ".join(self.disks))
        return self.disks[disk]

    @property
    def swaps(self) -> bool:
        """Whether firmware can be replaced at its reset vector."""
        return bool(self.swapped_below)

    def loader(self, firmware: FirmwareBuild) -> Loader:
        """How this board is given a firmware that lies in files of the host."""
        if firmware.interface is Interface.BIOS or not (self.has_flash and firmware.in_flash):
            return self.bios
        return Loader.FLASH if firmware.variables is not None else Loader.WRITABLE_FLASH

    def rom_address(self, size: int) -> int | None:
        """Where a firmware of ``size`` bytes can be read; None where its bytes tell nothing."""
        if self.flash_at is not None and self.flash_at >= 0:
            return self.flash_at
        return FOUR_GIB - size if self.rom_readable else None

    def memory_mib(self, firmware: FirmwareBuild) -> int:
        """MiB of memory without which a firmware does not come to an end."""
        if firmware.needs_smm:
            return self.smm_mib or 0
        return self.uefi_mib if firmware.interface is Interface.UEFI else self.mib


@dataclass(frozen=True)
class Architecture:
    """What QEMUs of one architecture have in common, and their boards.

    ``default`` is the board of the machine ``default``; ``has_default``: a QEMU takes it by itself.
    ``newest`` is the one that newest-common is about where no family is named.
    ``interface`` is what all firmware there offers to programs; None: what each image says.
    ``has_probe``: a program of ours is for it; elsewhere there is the firmware's prompt alone.
    ``firmware_bytes`` are mapped at most, in whole pages where ``firmware_in_pages``.
    ``label_since`` is QEMU's major version from which on ``-fw_cfg`` reaches the guest; None: there
    is no fw_cfg, or nobody who reads it.
    """

    boards: tuple[Board, ...]
    default: str
    newest: str
    has_default: bool
    interface: Interface | None
    firmware_bytes: int
    firmware_in_pages: bool = True
    label_since: int | None = 0
    has_probe: bool = True
