"""Disk images in QEMU's format qcow2, as its docs/interop/qcow2.rst has it (version 3)."""

from __future__ import annotations

import struct
from pathlib import Path

from bootmatrix.errors import UserError
from bootmatrix.files.disk_image import HEADER, MAGIC
from bootmatrix.guests import tools

_CLUSTER_BITS = 16
_CLUSTER = 1 << _CLUSTER_BITS
_ENTRIES = _CLUSTER // 8  # of a cluster that is a table
_MOST_BYTES = 8 << 40
# Of an image with content: what one table tells of.
_MOST_CONTENT = _ENTRIES * _CLUSTER
_USED_ONCE = 1 << 63


def empty(size: int) -> bytes:
    """An image of a disk of so many bytes in which nothing was written. Raises UserError."""
    if not 0 < size <= _MOST_BYTES:
        raise UserError(f"a disk of {size} bytes", hint=f"1 to {_MOST_BYTES}")
    entries = -(-size // (_CLUSTER * _ENTRIES))  # of the table of tables
    tables = -(-entries * 8 // _CLUSTER)
    return _head(size, entries, tables) + b"\0" * tables * _CLUSTER


def image(content: bytes) -> bytes:
    """An image of a disk with that content. Raises ValueError for one that is too large."""
    if not 0 < len(content) <= _MOST_CONTENT:
        raise ValueError(f"a disk of {len(content)} bytes: 1 to {_MOST_CONTENT}")
    whole = content + bytes(-len(content) % 512)
    parts = [whole[at:at + _CLUSTER] for at in range(0, len(whole), _CLUSTER)]
    used: list[bytes] = []
    first, where = 5, []  # header, reference counts (2), both tables, then the content
    for part in parts:
        where.append((first + len(used)) * _CLUSTER | _USED_ONCE if any(part) else 0)
        used += [part] if any(part) else []
    tables = (struct.pack(">Q", 4 * _CLUSTER | _USED_ONCE),
              b"".join(struct.pack(">Q", entry) for entry in where))
    return _head(len(whole), 1, 2 + len(used)) + b"".join(map(_padded, (*tables, *used)))


def converted(disk: Path, cache: Path) -> Path:
    """The image of a raw disk, made first if the cache lacks it."""
    content = disk.read_bytes()

    def make(scratch: Path) -> Path:
        made = scratch / "image"
        made.write_bytes(image(content))
        return made

    return tools.cached(cache, "qcow2", [content], make)


def _head(size: int, entries: int, further: int) -> bytes:
    """The header, and counts of references, to those three clusters and to ``further`` ones.

    The table of tables is behind them, and has so many entries.
    """
    first = 3
    header = HEADER.pack(
        MAGIC, 3, 0, 0, _CLUSTER_BITS, size, 0, entries, first * _CLUSTER, _CLUSTER, 1, 0, 0, 0, 0,
        0, 4, HEADER.size)
    counts = struct.pack(">H", 1) * (first + further)
    return b"".join(map(_padded, (header, struct.pack(">Q", 2 * _CLUSTER), counts)))


def _padded(part: bytes) -> bytes:
    return part + bytes(-len(part) % _CLUSTER)
