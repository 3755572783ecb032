"""The version of an OpenSBI, which stands in its code alone: its banner is put together there."""

from __future__ import annotations

import struct
from collections.abc import Iterator

BANNER = r"OpenSBI v([0-9]+\.[0-9]+)(?=[\r\n])"

# lib/sbi/sbi_init.c of OpenSBI, sbi_boot_print_banner(): sbi_printf(format, major, minor).
_FORMAT = b"\nOpenSBI v%d.%d\n"
# Instructions of the RISC-V specification: U-type auipc, I-type addi, and C.LI of its extension C.
_AUIPC, _ADDI = 0x17, 0x13
_A0, _A1, _A2 = 10, 11, 12


def printed_version(image: bytes) -> str | None:
    """The ``1.1`` of the banner ``OpenSBI v1.1``; None where it cannot be told, or is no OpenSBI.

    The two numbers are loaded just before the address of the format is made.
    """
    text = image.find(_FORMAT)
    if text < 0:
        return None
    versions = set(_loaded_before(image, text))
    return versions.pop() if len(versions) == 1 else None


def _loaded_before(image: bytes, text: int) -> Iterator[str]:
    """The versions that the code loads where it refers to the format at ``text``."""
    auipc = struct.pack("<I", _AUIPC | _A0 << 7)[:1]
    at = image.find(auipc)
    while 0 <= at < len(image) - 8:
        first, second = struct.unpack_from("<II", image, at)
        if (
            at >= 4 and first & 0xFFF == _AUIPC | _A0 << 7
            and second & 0xFFFFF == _ADDI | _A0 << 7 | _A0 << 15
            and at + _signed(first & 0xFFFFF000, 32) + _signed(second >> 20, 12) == text
        ):
            loaded = dict(map(_compressed_load, struct.unpack_from("<HH", image, at - 4)))
            if {_A1, _A2} <= loaded.keys():
                yield f"{loaded[_A1]}.{loaded[_A2]}"
        at = image.find(auipc, at + 1)


def _compressed_load(code: int) -> tuple[int, int]:
    """Register and number of a C.LI; register -1 for any other instruction."""
    if code & 0xE003 != 0x4001:
        return -1, 0
    return code >> 7 & 31, _signed(code >> 7 & 32 | code >> 2 & 31, 6)


def _signed(number: int, bits: int) -> int:
    return number - (1 << bits) if number >> (bits - 1) & 1 else number
