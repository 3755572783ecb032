"""The symbols of a firmware, as its build has them: which function is at an address.

From an ELF file (SeaBIOS' out/rom.o, OVMF's .debug files) or a map (GNU ld's, or what nm prints).
"""

from __future__ import annotations

import bisect
import re
import struct
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from bootmatrix.errors import UserError
from bootmatrix.files import given_file
from bootmatrix.model import FirmwareBuild

LARGEST = 64 << 20
"""Bytes of a file with symbols. SeaBIOS' has one million, OVMF's largest has five."""
FARTHEST = 64 << 10
"""Bytes behind a symbol without a size that are still called after it, if no other comes."""

_MOST = 1_000_000  # symbols
_LONGEST = 80  # characters of a name
_MOST_SECTIONS = 10_000  # chosen: a compiler can make one for each function
# Numbers of the gABI: a section's type, a symbol's kinds (none said, and function), its section.
_SYMTAB, _FUNCTIONS, _UNDEFINED = 2, (0, 2), 0
# The last 128 KiB below 4 GiB are the same bytes as those below 1 MiB: where a PC starts, and where
# its firmware is linked to.
_TOP, _DOWN = 0xFFFE0000, 0xFFF00000
_NAME = r"(?P<name>[A-Za-z_.$][\w.$@]*)"
_OF_A_MAP = re.compile(
    rf"^[ \t]*+(?:0x(?P<ld>[0-9a-fA-F]{{1,16}})[ \t]++|(?P<nm>[0-9a-fA-F]{{8,16}}) [A-Za-z] )"
    rf"{_NAME}[ \t\r]*$",
    re.MULTILINE)

Symbol = tuple[int, int, str]
"""An address, how many bytes it is (0: nobody says), and a name."""


class Symbols:
    """Those of one build."""

    def __init__(self, symbols: Iterable[Symbol]) -> None:
        self._symbols = sorted(symbols)
        self._addresses = [address for address, _, _ in self._symbols]

    def __call__(self, address: int) -> str:
        """``ahci_command+0x1f``; "" where nothing is known to be."""
        found = self._find(address)
        return self._find(address - _DOWN) if not found and address >= _TOP else found

    def __len__(self) -> int:
        return len(self._symbols)

    def _find(self, address: int) -> str:
        index = bisect.bisect_right(self._addresses, address) - 1
        if index < 0:
            return ""
        at, size, name = self._symbols[index]
        if address - at >= (size or FARTHEST):
            return ""
        return name + (f"+{address - at:#x}" if address != at else "")


def checked(path: Path) -> bytes:
    """A file that holds symbols. Raises UserError, without a place, for one that does not."""
    try:
        content = given_file.read(path, LARGEST)
    except given_file.Unreadable as error:
        raise UserError(f"{path} {error}", hint="a file with a firmware's symbols") from None
    try:
        found = parse(content)
    except ValueError as error:
        raise UserError(f"{path} is no whole ELF file: {error}") from None
    if not found:
        raise UserError(f"{path} holds no symbols",
                        hint="an ELF file that is not stripped, a linker's map, what nm prints")
    return content


def parse(content: bytes) -> Symbols:
    """The symbols in a file's content."""
    return Symbols(_of_elf(content) if content.startswith(b"\x7fELF") else _of_map(content))


@cache
def _read(copy: Path) -> Symbols:
    """Those in a copy in the cache, which stays what it is."""
    return parse(given_file.read(copy, LARGEST))


def naming(builds: Iterable[FirmwareBuild], address: int) -> str:
    """What is at an address by the symbols of builds; where they differ, of each."""
    files = dict.fromkeys(build.symbols for build in builds if build.symbols is not None)
    names = dict.fromkeys(name for file in files if (name := _read(file)(address)))
    return " or ".join(names)


def _of_elf(content: bytes) -> Iterator[Symbol]:
    """The functions of an ELF file of either size and byte order. Raises ValueError.

    Not by a library: those read the name of each section and symbol whole, and in a hostile file
    each can be as long as the file.
    """
    wide, order = content[4:5] == b"\x02", ">" if content[5:6] == b"\x02" else "<"
    header = struct.Struct(order + ("16sHHIQQQIHHHHHH" if wide else "16sHHIIIIIHHHHHH"))
    section = struct.Struct(order + ("IIQQQQIIQQ" if wide else "IIIIIIIIII"))
    entry = struct.Struct(order + ("IBBHQQ" if wide else "IIIBBH"))
    try:
        *_, table, _, _, _, _, size, number, _ = header.unpack_from(content)
        if number > _MOST_SECTIONS or (number and size != section.size):
            raise ValueError(f"it has {number} sections of {size} bytes")
        sections = [section.unpack_from(content, table + each * size) for each in range(number)]
    except struct.error as error:
        raise ValueError(str(error)) from None
    left = _MOST
    for _, kind, _, _, begin, length, link, *_, each in sections:
        if kind != _SYMTAB or each != entry.size or link >= len(sections):
            continue
        if begin + length > len(content):
            raise ValueError("its symbols are not all there")
        names = sections[link][4]
        for symbol in entry.iter_unpack(content[begin:begin + min(length, left * each)
                                                // each * each]):
            left -= 1
            name, info, where, at, bytes_ = (
                (symbol[0], symbol[1], symbol[3], symbol[4], symbol[5]) if wide
                else (symbol[0], symbol[3], symbol[5], symbol[1], symbol[2]))
            if info & 0xF not in _FUNCTIONS or where == _UNDEFINED:
                continue
            raw = content[names + name:names + name + _LONGEST].partition(b"\0")[0]
            text = raw.decode("ascii", "replace")
            if re.fullmatch(_NAME, text):
                yield at, bytes_, text


def _of_map(content: bytes) -> Iterator[Symbol]:
    found = _OF_A_MAP.finditer(content.decode("ascii", "replace"))
    for _, one in zip(range(_MOST), found, strict=False):
        yield int(one["ld"] or one["nm"], 16), 0, one["name"][:_LONGEST]
