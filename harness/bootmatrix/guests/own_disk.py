"""A disk image of the user's own: only read, through an overlay that is thrown away with the guest.

The overlay is a qcow2 file without a cluster of its own, as QEMU's docs/interop/qcow2.rst has it.
"""

from __future__ import annotations

import struct
from pathlib import Path

from bootmatrix.errors import UserError
from bootmatrix.files import given_file
from bootmatrix.guests import tools
from bootmatrix.guests.base import Program
from bootmatrix.model import GuestKind, OwnDisk

MAGIC = b"QFI\xfb"
LARGEST = 64 << 30
"""Bytes of an image that is taken: a copy of it is made for each guest."""
_CLUSTER_BITS = 16
_CLUSTER = 1 << _CLUSTER_BITS
_MOST_BYTES = 8 << 40
_HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQII")


def virtual_size(disk: OwnDisk) -> int:
    """How large the disk is that is in an image. Raises UserError for what cannot be taken."""
    try:
        with given_file.open_regular(disk.path, LARGEST) as image:
            head = image.read(_HEADER.size)
            size = disk.path.stat().st_size
    except given_file.Unreadable as error:
        raise UserError(f"{disk.path} {error}", hint="a disk image, raw or qcow2") from None
    if disk.format == "raw":
        if head[:4] == MAGIC:
            raise UserError(f"{disk.path} is a qcow2 image", hint="format: qcow2")
        return -(-size // 512) * 512
    if head[:4] != MAGIC or len(head) < _HEADER.size:
        raise UserError(f"{disk.path} is no qcow2 image", hint="format: raw")
    fields = _HEADER.unpack(head)
    version, backing, virtual, crypt, incompatible = (
        fields[1], fields[2], fields[5], fields[6], fields[13])
    if version not in (2, 3) or backing or crypt or (version == 3 and incompatible & 4):
        raise UserError(
            f"{disk.path} is not all that its disk is: it is encrypted, or has another file behind "
            "it", hint="qemu-img convert -O qcow2 makes one that is whole")
    return int(virtual)


def overlay(disk: OwnDisk, cache: Path) -> Path:
    """An empty qcow2 image as large as the user's disk is, made first if the cache lacks it."""
    size = virtual_size(disk)

    def make(scratch: Path) -> Path:
        made = scratch / "overlay"
        made.write_bytes(empty(size))
        return made

    return tools.cached(cache, "overlay", [str(size).encode()], make)


def empty(size: int) -> bytes:
    """A qcow2 image of a disk of so many bytes in which nothing was written. Raises UserError."""
    if not 0 < size <= _MOST_BYTES:
        raise UserError(f"a disk of {size} bytes", hint=f"1 to {_MOST_BYTES}")
    entries = -(-size // (_CLUSTER * (_CLUSTER // 8)))  # of the table of tables
    tables = -(-entries * 8 // _CLUSTER)
    first = 3  # clusters: header, table of reference counts, one block of them, then the tables
    header = _HEADER.pack(
        MAGIC, 3, 0, 0, _CLUSTER_BITS, size, 0, entries, first * _CLUSTER, _CLUSTER, 1, 0, 0, 0, 0,
        0, 4, _HEADER.size)
    counts = b"".join(struct.pack(">H", 1) for _ in range(first + tables))
    parts = (header, struct.pack(">Q", 2 * _CLUSTER), counts, b"\0" * tables * _CLUSTER)
    return b"".join(part + bytes(-len(part) % _CLUSTER) for part in parts)


OWN_DISK = Program(
    GuestKind.DISK, boots=lambda firmware, arch: True, mib=256,
    disk=lambda label, cache, arch, firmware: _none(),
)


def _none() -> Path:
    raise UserError("a guest with a disk of its own has no other",
                    hint="guests: {NAME: {disk: ...}}")
