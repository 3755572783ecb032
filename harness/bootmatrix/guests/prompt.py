"""No program at all: the firmware's own prompt, before a disk from which nothing boots."""

from __future__ import annotations

import struct
from pathlib import Path

from bootmatrix.guests import tools
from bootmatrix.guests.base import Program
from bootmatrix.guests.boot_sector import DISK_SIZE
from bootmatrix.model import Arch, GuestKind

_SECTOR = 512
# What s390-ccw makes a menu of (QEMU's pc-bios/s390-ccw/bootmap.h, ScsiMbr and BootMapTable): a
# magic, and from byte 16 on pointers of 16 bytes, each a block's number and size, big-endian. The
# record's own version, which is 1 elsewhere, is 0: that s390-ccw remarks on.
_MAGIC, _POINTER = b"zIPL".ljust(16, b"\0"), struct.Struct(">QH6x")
_TABLE_AT, _NOTHING_AT, _ENTRIES = 1, 2, 2


def prompt_disk(label: str, cache: Path, arch: Arch) -> Path:
    """The path of a disk image without a program, made first if ``cache`` lacks it.

    It is blank, but for ``s390x``: there two sectors have the firmware offer a menu of nothing. As
    ``probe_disk``: raw, sparse, DISK_SIZE bytes, shared. Raises ValueError for a bad label.
    """
    tools.check_label(label)
    content = _menu() if arch is Arch.S390X else b""

    def make(scratch: Path) -> Path:
        made = scratch / "disk.img"
        made.write_bytes(content)
        with made.open("r+b") as file:
            file.truncate(DISK_SIZE)
        return made

    kind = "menu" if content else "blank"
    return tools.cached(cache, f"{kind}-{label}", [str(DISK_SIZE).encode(), content], make)


def _menu() -> bytes:
    """A boot record, and its table of programs that are not there."""
    record = _MAGIC + _POINTER.pack(_TABLE_AT, _SECTOR)
    table = _MAGIC + _ENTRIES * _POINTER.pack(_NOTHING_AT, _SECTOR)
    return record.ljust(_SECTOR, b"\0") + table.ljust(_SECTOR, b"\0")


PROMPT = Program(
    GuestKind.PROMPT, boots=lambda firmware, arch: True,
    disk=lambda label, cache, arch, firmware: prompt_disk(label, cache, arch),
)  # fmt: skip
