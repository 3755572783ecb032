"""A real board, as far as it is like any other: one row for each architecture."""

from __future__ import annotations

from bootmatrix.boards.base import Attachment, Board, Loader
from bootmatrix.model import BOARD_MACHINE, Arch, Disk, ResetBy

_PC_RESETS = frozenset({ResetBy.CF9, ResetBy.KEYBOARD, ResetBy.TRIPLE_FAULT, ResetBy.ACPI})


def real_board(arch: Arch) -> Board:
    """The row: it has the disk that is plugged in, and nothing of it can be read but its chip."""
    return Board(
        BOARD_MACHINE, arch, disks={Disk.AHCI: Attachment()}, versioned=False,
        migrates_to_others=False, bios=Loader.CHIP, flash_at=None, rom_readable=False,
        resets=_PC_RESETS if arch is Arch.X86_64 else frozenset(),
    )  # fmt: skip
