"""Firmware volumes for tests, made as the PI specification, volume 3, has them."""

from __future__ import annotations

import lzma
import struct
from uuid import UUID

FFS = UUID("8c8ce578-8a3d-4f1c-9935-896185c32dd3")
STORE = UUID("fff12b8d-7696-4c8b-a985-2747075b4f50")  # EFI_SYSTEM_NV_DATA_FV_GUID
SMBIOS_DRIVER = UUID("4110465d-5ff3-4f4b-b580-24ed0d06747a")
LZMA = UUID("ee4e5898-3914-4259-9d6e-dc7bd79403cf")


def volume(content: bytes = b"", size: int = 0, system: UUID = FFS) -> bytes:
    """A volume of ``size`` bytes, or of as many as it needs; free space is ones."""
    size = size or 72 + len(content)
    header = struct.pack("<16x16sQ4sIHHHBB", system.bytes_le, size, b"_FVH", 0, 72, 0, 0, 0, 2)
    header += struct.pack("<IIII", size // 4096, 4096, 0, 0)
    checksum = -sum(struct.unpack("<36H", header)) & 0xFFFF
    return (header[:50] + struct.pack("<H", checksum) + header[52:] + content).ljust(size, b"\xff")


def file(content: bytes, name: UUID = SMBIOS_DRIVER, kind: int = 7, large: bool = False) -> bytes:
    """A file of sections, a driver by default."""
    size = (32 if large else 24) + len(content)
    header = struct.pack("<16sHBB3sB", name.bytes_le, 0, kind, int(large),
                         b"\0\0\0" if large else size.to_bytes(3, "little"), 0xF8)
    if large:
        header += struct.pack("<Q", size)
    return (header + content).ljust(-(-size // 8) * 8, b"\xff")


def section(content: bytes, kind: int = 0x10) -> bytes:
    """A section, PE32 by default."""
    size = 4 + len(content)
    return (size.to_bytes(3, "little") + bytes([kind]) + content).ljust(-(-size // 4) * 4, b"\0")


def packed(content: bytes) -> bytes:
    """A section that holds others, LZMA-compressed as edk2 does it."""
    data = lzma.compress(content, lzma.FORMAT_ALONE)
    return section(LZMA.bytes_le + struct.pack("<HH", 24, 1) + data, 0x02)


def combined(*programs: bytes, store: int = 0x20000, size: int = 0x200000) -> bytes:
    """An image as OVMF.fd: the variable store, and drivers, with a jump at the reset vector."""
    inside = volume(b"".join(file(section(program)) for program in programs))
    code = volume(file(packed(section(inside, 0x17)), kind=0x0B), size - store)
    return volume(size=store, system=STORE) + code[:-16] + b"\x90\x90\xe9" + bytes(13)
