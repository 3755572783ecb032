"""Disk images that a user names: raw, or in QEMU's format qcow2, and whole.

Of a small one, a flash, the content is read, too.

The format is that of QEMU's docs/interop/qcow2.rst, versions 2 and 3.
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from bootmatrix.errors import UserError
from bootmatrix.files import given_file

LARGEST = 64 << 30
"""Bytes of an image that is taken: a copy of it is made for each guest."""
MAGIC = b"QFI\xfb"
HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQII")
_CLUSTER_BITS = range(9, 22)
_WHERE = 0x00FF_FFFF_FFFF_FE00  # of an entry: where in the file its table or cluster is
_COMPRESSED, _ZERO = 1 << 62, 1
_CORRUPT, _DATA_FILE, _OTHER_COMPRESSION, _EXTENDED = 2, 4, 8, 16  # incompatible features
_KNOWN = 31  # those that QEMU has, and "dirty": its counts of references are not read here
_LARGEST_TABLE = 32 << 20  # bytes of the table of tables, as QEMU's block/qcow2.h has it
_WINDOW_BITS = 12  # of the deflate streams in it
_SECTOR = 512


def virtual_size(path: Path, form: str) -> int:
    """How large the disk is that is in an image. Raises UserError for what cannot be taken."""
    with _opened(path) as image:
        return _virtual_size(image, path, form)


def is_qcow2(path: Path) -> bool:
    """Whether a file can be read, and begins as an image of that format does."""
    try:
        with _opened(path) as image:
            return image.read(len(MAGIC)) == MAGIC
    except UserError:
        return False


def content(path: Path, largest: int) -> bytes:
    """What is on the disk of so many bytes at most that a qcow2 image holds. Raises UserError."""
    with _opened(path) as image:
        if (size := _virtual_size(image, path, "qcow2")) > largest:
            raise UserError(f"{path} is of a disk of {size} bytes, at most {largest} are read")
        image.seek(0)
        fields = HEADER.unpack(image.read(HEADER.size))
        version, bits, entries, tables, features = (
            fields[1], fields[4], fields[7], fields[8], fields[13])
        if version == 3 and features & (_OTHER_COMPRESSION | _EXTENDED):
            raise UserError(f"{path} is compressed by another method than zlib, or has subclusters",
                            hint="qemu-img convert -O qcow2 makes one without")
        cluster = 1 << bits
        number, of_a_table = -(-size // cluster), cluster // 8
        found: list[bytes] = []
        for table in _words(image, tables, min(entries, -(-number // of_a_table))):
            where = table & _WHERE
            of_data = _words(image, where, of_a_table) if where else [0] * of_a_table
            found += (_cluster(image, path, entry, cluster)
                      for entry in of_data[:number - len(found)])
        return b"".join(found)[:size]


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    try:
        with given_file.open_regular(path, LARGEST) as image:
            yield image
    except given_file.Unreadable as error:
        raise UserError(f"{path} {error}", hint="a disk image, raw or qcow2") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def _cluster(image: BufferedReader, path: Path, entry: int, cluster: int) -> bytes:
    if entry & _COMPRESSED:
        bits = 62 - (cluster.bit_length() - 1 - 8)
        at, sectors = entry & (1 << bits) - 1, (entry & _COMPRESSED - 1) >> bits
        image.seek(at)
        packed = image.read((sectors + 1) * _SECTOR - at % _SECTOR)
        try:
            found = zlib.decompressobj(-_WINDOW_BITS).decompress(packed, cluster)
        except zlib.error:
            found = b""
    elif entry & _ZERO or not entry & _WHERE:
        return bytes(cluster)
    else:
        image.seek(entry & _WHERE)
        found = image.read(cluster).ljust(cluster, b"\0")  # the last one may end early
    if len(found) != cluster:
        raise UserError(f"{path} is damaged: a cluster of it does not unpack")
    return found


def _virtual_size(image: BufferedReader, path: Path, form: str) -> int:
    head = image.read(HEADER.size)
    size = image.seek(0, 2)
    if form == "raw":
        if head[:4] == MAGIC:
            raise UserError(f"{path} is a qcow2 image", hint="format: qcow2")
        if not size:
            raise UserError(f"{path} is empty", hint="a disk image, raw or qcow2")
        return -(-size // 512) * 512
    if head[:4] != MAGIC:
        raise UserError(f"{path} is no qcow2 image", hint="format: raw")
    if len(head) < HEADER.size:
        raise UserError(f"{path} is cut off", hint="a whole qcow2 image")
    fields = HEADER.unpack(head)
    version, backing, bits, virtual, crypt, entries, tables = (
        fields[1], fields[2], *fields[4:9])
    features, length = (fields[13], fields[17]) if version == 3 else (0, HEADER.size)
    if version not in (2, 3) or bits not in _CLUSTER_BITS:
        raise UserError(f"{path} is no qcow2 image of a version that is known",
                        hint="qemu-img convert -O qcow2 makes one")
    if backing or crypt or features & _DATA_FILE:
        raise UserError(
            f"{path} is not all that its disk is: it is encrypted, or has another file behind it",
            hint="qemu-img convert -O qcow2 makes one that is whole")
    if unknown := features & ~_KNOWN:
        raise UserError(f"{path} needs what QEMU does not have: its incompatible features have bit "
                        f"{(unknown & -unknown).bit_length() - 1}", hint="a whole qcow2 image")
    if features & _CORRUPT:
        raise UserError(f"{path} is marked as corrupt: QEMU does not write to it",
                        hint="qemu-img check -r all repairs what it can")
    cluster = 1 << bits
    needed = -(-virtual // (cluster * (cluster // (16 if features & _EXTENDED else 8))))
    if wrong := _wrong(cluster, length, tables, entries, needed):
        raise UserError(f"{path} is damaged: {wrong}", hint="a whole qcow2 image")
    # Nothing is read before it is known to be there.
    for end in _ends(image, cluster, tables, entries, features):
        if end > size:
            raise UserError(f"{path} is cut off or damaged: it has {size} bytes, and what it says "
                            "of itself is behind them", hint="a whole qcow2 image")
    if not virtual:
        raise UserError(f"{path} is of a disk of 0 bytes", hint="a disk image, raw or qcow2")
    return int(virtual)


def _wrong(cluster: int, length: int, tables: int, entries: int, needed: int) -> str | None:
    """What QEMU does not open in a header of so many bytes, and of a table of tables.

    More entries than the disk needs are no mistake: a snapshot's memory has some, too.
    """
    if not HEADER.size <= length <= cluster:
        return f"its header is said to have {length} bytes, and has {HEADER.size} to {cluster}"
    if 8 * entries > _LARGEST_TABLE:
        return f"its table of tables is said to have {entries} entries"
    if tables % cluster:
        return f"its table of tables is said to be at {tables}, within a cluster"
    if entries < needed:
        return "its tables are too short"
    return None


def _ends(
    image: BufferedReader, cluster: int, tables: int, entries: int, features: int
) -> Iterator[int]:
    """Where in the file each part begins at least that the disk consists of, and its tables end.

    A table is read after its end was told, and once.
    """
    yield tables + 8 * entries
    for where in dict.fromkeys(table & _WHERE for table in _words(image, tables, entries)):
        if not where:
            continue
        yield where + cluster
        of_data = _words(image, where, cluster // 8)
        offset = (1 << 62 - (cluster.bit_length() - 1 - 8)) - 1  # of a compressed one
        for entry in of_data[::2] if features & _EXTENDED else of_data:
            if entry & _COMPRESSED:
                yield (entry & offset) + 1
            elif entry & _WHERE and (features & _EXTENDED or not entry & _ZERO):
                yield (entry & _WHERE) + 1


def _words(image: BufferedReader, at: int, number: int) -> array[int]:
    """Numbers of eight bytes, as many as are there."""
    image.seek(at)
    read = image.read(8 * number)
    found = array("Q", read[:len(read) // 8 * 8])
    if sys.byteorder == "little":
        found.byteswap()
    return found
