"""UEFI firmware volumes, as far as is needed to tell what an image is and what belongs to it.

The formats are those of the PI specification, volume 3: firmware volumes (3.2.1), files (3.2.3)
and sections (3.2.4). Nothing here trusts what it reads: what makes no sense ends the walk there.
"""

from __future__ import annotations

import lzma
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

# What Arm's builds print first (ArmPlatformPkg's PrePi.c and Sec.c); OVMF prints nothing.
BANNER = r"UEFI firmware \(version ([^()\r\n]{1,200}?)(?= built at )"

LARGEST_UNPACKED = 64 << 20
"""Bytes that the compressed sections of one image may become, all together; real ones need 16 MiB.
"""

_SIGNATURE = b"_FVH"
_SIGNATURE_AT = 40
_HEADER = struct.Struct("<16x16sQ4sIHHHBB")
_LONGEST_HEADER = 256  # of a volume: 56 bytes and 8 for each run of blocks, of which some have two
_LONGEST_STORE = 64 << 20  # AArch64's flash
_FILE_HEADER = struct.Struct("<16sHBB3sB")
_FILE_SYSTEMS = (
    UUID("8c8ce578-8a3d-4f1c-9935-896185c32dd3"),  # FFS version 2
    UUID("5473c07a-3dcb-4dca-bd6f-1e9689e7349a"),  # FFS version 3, with files above 16 MiB
)
_LARGE_FILE = 0x01
_RAW, _PAD = 0x01, 0xF0  # file types without sections
_GUID_DEFINED, _PE32, _VOLUME_IMAGE = 0x02, 0x10, 0x17  # section types
_LZMA = UUID("ee4e5898-3914-4259-9d6e-dc7bd79403cf")
_DEEPEST = 8  # of volumes in volumes; real images need 3

# OvmfPkg's VarStore.fdf.inc: how the variable store and the code share OVMF's one flash.
_OVMF_STORES = {0x20000: "the 2 MiB layout", 0x84000: "the 4 MiB layout"}


@dataclass(frozen=True)
class Volume:
    """A firmware volume: where it lies in what it was found in, all in bytes.

    ``files_at`` is where its files begin, None where it has none: a variable store.
    """

    at: int
    length: int
    files_at: int | None


def volumes(data: bytes) -> Iterator[Volume]:
    """The volumes in ``data``, one behind the other; those inside other volumes are not."""
    found = data.find(_SIGNATURE, _SIGNATURE_AT)
    while found >= 0:
        volume = _volume(data, found - _SIGNATURE_AT)
        if volume:
            yield volume
            after = volume.at + volume.length + _SIGNATURE_AT
        else:
            after = found + len(_SIGNATURE)
        found = data.find(_SIGNATURE, after)


def _volume(data: bytes, at: int, most: int | None = None) -> Volume | None:
    """The volume there, of ``most`` bytes at most: all that follow if it is None."""
    there = len(data) - at
    if at + _HEADER.size > len(data):
        return None
    system, length, _, _, header, _, extended, _, _ = _HEADER.unpack_from(data, at)
    if not _HEADER.size <= header <= length <= (there if most is None else most) or header % 2 or (
            header > _LONGEST_HEADER):
        return None
    if header > there or sum(struct.unpack_from(f"<{header // 2}H", data, at)) & 0xFFFF:
        return None
    if UUID(bytes_le=system) not in _FILE_SYSTEMS:
        return Volume(at, length, None)
    files = header
    if extended:
        if extended + 20 > min(length, there):
            return None
        files = extended + int(struct.unpack_from("<I", data, at + extended + 16)[0])
    return Volume(at, length, at + files)


def programs(image: bytes) -> Iterator[tuple[UUID, bytes]]:
    """The drivers in an image's volumes, also in compressed ones: file name and PE32 program."""
    return _Walk().volumes(image, 0)


class _Walk:
    """One walk through an image; it remembers how much it may still unpack."""

    def __init__(self) -> None:
        self._left = LARGEST_UNPACKED

    def volumes(self, data: bytes, depth: int) -> Iterator[tuple[UUID, bytes]]:
        for volume in volumes(data):
            if volume.files_at is not None:
                end = volume.at + volume.length
                yield from self._files(data[volume.at:end], volume.files_at - volume.at, depth)

    def _files(self, data: bytes, at: int, depth: int) -> Iterator[tuple[UUID, bytes]]:
        while (at := _aligned(at, 8)) + _FILE_HEADER.size <= len(data):
            name, _, kind, attributes, size3, _ = _FILE_HEADER.unpack_from(data, at)
            header, size = _FILE_HEADER.size, int.from_bytes(size3, "little")
            if attributes & _LARGE_FILE and at + 32 <= len(data):
                header, size = 32, struct.unpack_from("<Q", data, at + 24)[0]
            # Free space reads as ones: larger than anything.
            if not header <= size <= len(data) - at:
                return
            if kind not in (_RAW, _PAD):
                name = UUID(bytes_le=name)
                yield from self._sections(name, data[at + header:at + size], depth)
            at += size

    def _sections(self, name: UUID, data: bytes, depth: int) -> Iterator[tuple[UUID, bytes]]:
        at = 0
        while (at := _aligned(at, 4)) + 4 <= len(data):
            header, size, kind = 4, int.from_bytes(data[at:at + 3], "little"), data[at + 3]
            if size == 0xFFFFFF and at + 8 <= len(data):
                header, size = 8, struct.unpack_from("<I", data, at + 4)[0]
            if not header <= size <= len(data) - at:
                return
            content = data[at + header:at + size]
            if kind == _PE32:
                yield name, content
            elif kind == _VOLUME_IMAGE and depth < _DEEPEST:
                yield from self.volumes(content, depth + 1)
            elif kind == _GUID_DEFINED and depth < _DEEPEST:
                yield from self._sections(name, self._unpack(content, header), depth + 1)
            at += size

    def _unpack(self, content: bytes, header: int) -> bytes:
        """What an LZMA section holds; nothing for other sections, and for what does not unpack."""
        if len(content) < 20 or UUID(bytes_le=content[:16]) != _LZMA:
            return b""
        if self._left <= 0:
            return b""
        begin = int.from_bytes(content[16:18], "little") - header
        try:
            packed = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=LARGEST_UNPACKED)
            unpacked = packed.decompress(content[max(begin, 0):], max_length=self._left)
        except lzma.LZMAError:
            self._left = 0  # how much it was nobody says: a real image has no such section
            return b""
        self._left -= len(unpacked)
        return unpacked if packed.eof else b""


def _aligned(at: int, to: int) -> int:
    return -(-at // to) * to


# ---- which code and which variables belong together ---------------------------------------------


def store_size(image: bytes) -> int:
    """The bytes of the variable store that a combined image begins with; 0 where there is none."""
    first = next(volumes(image), None)
    return first.length if first and first.at == 0 and first.files_at is None else 0


def is_store(variables: bytes) -> bool:
    """Whether this can be the template of a variable store: a volume, or blank flash."""
    if next(volumes(variables), None):
        return store_size(variables) > 0
    return len(variables) > 0 and not (variables.strip(b"\0") and variables.strip(b"\xff"))


def cut_off(variables: bytes) -> int:
    """The bytes of the variable store that a file begins with and has not all of; 0 if it has."""
    if variables[_SIGNATURE_AT:_SIGNATURE_AT + len(_SIGNATURE)] != _SIGNATURE:
        return 0
    store = _volume(variables, 0, _LONGEST_STORE)
    return store.length if store and not store.files_at and store.length > len(variables) else 0


def mismatch(code_size: int, variables: bytes) -> str | None:
    """What does not fit between a code of so many bytes and a variable store; None if all does.

    OVMF's code and variables are cut out of one flash, whose size is a power of two: 2 or 4 MiB.
    A code whose size is such a number itself, as ArmVirt's is, has a flash of its own.
    """
    flash = 1 << (code_size - 1).bit_length()
    free = flash - code_size
    store = store_size(variables) or len(variables)
    if store == free or (not free and store not in _OVMF_STORES):
        return None
    code = f"OVMF's {flash >> 20} MiB layout" if free else "a layout with a flash of its own"
    return (f"the code is of {code} ({code_size} bytes), the variables of "
            f"{_OVMF_STORES.get(store, 'another layout')} ({store} bytes): "
            "the flash keeps no variables")
