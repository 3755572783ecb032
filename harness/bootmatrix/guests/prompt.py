"""No program at all: the firmware's own prompt, before a disk from which nothing boots."""

from __future__ import annotations

from pathlib import Path

from bootmatrix.guests import tools
from bootmatrix.guests.base import Program
from bootmatrix.guests.boot_sector import DISK_SIZE
from bootmatrix.model import GuestKind


def blank_disk(label: str, cache: Path) -> Path:
    """The path of a disk image without anything, made first if ``cache`` lacks it.

    As ``probe_disk``: raw, sparse, DISK_SIZE bytes, shared. Raises ValueError for a bad label.
    """
    tools.check_label(label)

    def make(scratch: Path) -> Path:
        made = scratch / "disk.img"
        with made.open("wb") as file:
            file.truncate(DISK_SIZE)
        return made

    return tools.cached(cache, f"blank-{label}", [str(DISK_SIZE).encode()], make)


PROMPT = Program(
    GuestKind.PROMPT, boots=lambda firmware, arch: True,
    disk=lambda label, cache, arch, firmware: blank_disk(label, cache),
)  # fmt: skip
