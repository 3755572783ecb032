"""Sun's sun4u: QEMU's hw/sparc64/sun4u.c; docs/stock-qemu.md has what was measured."""

from __future__ import annotations

from bootmatrix.boards.base import Architecture, Attachment, Board
from bootmatrix.model import Arch, Disk, Interface

SPARC64 = Architecture(
    default="sun4u",
    newest="sun4u",
    has_default=True,
    interface=Interface.OPENFIRMWARE,
    firmware_bytes=4 << 20,  # PROM_SIZE_MAX
    firmware_in_pages=False,
    label_since=None,
    has_probe=False,
    boards=(
        # Its ROM holds the segments of an ELF file: no bytes of it are the image's as a whole.
        Board(
            "sun4u", Arch.SPARC64, disks={Disk.IDE: Attachment("ide-hd", "ide.0")},
            versioned=False, flash_at=None, rom_readable=False, mib=128,
        ),
    ),
)  # fmt: skip
