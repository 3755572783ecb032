"""A disk image of the user's own: only read, through an overlay that is thrown away with the guest.

The overlay is a qcow2 file without a cluster of its own.
"""

from __future__ import annotations

from pathlib import Path

from bootmatrix.errors import UserError
from bootmatrix.files.disk_image import virtual_size
from bootmatrix.guests import qcow2, tools
from bootmatrix.guests.base import Program
from bootmatrix.model import GuestKind, OwnDisk


def overlay(disk: OwnDisk, cache: Path) -> Path:
    """An empty qcow2 image as large as the user's disk is, made first if the cache lacks it."""
    size = virtual_size(disk.path, disk.format)

    def make(scratch: Path) -> Path:
        made = scratch / "overlay"
        made.write_bytes(qcow2.empty(size))
        return made

    return tools.cached(cache, "overlay", [str(size).encode()], make)


OWN_DISK = Program(
    GuestKind.DISK, boots=lambda firmware, arch: True, mib=256,
    disk=lambda label, cache, arch, firmware: _none(),
)


def _none() -> Path:
    raise UserError("a guest with a disk of its own has no other",
                    hint="guests: {NAME: {disk: ...}}")
