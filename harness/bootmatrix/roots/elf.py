"""What an ELF program says about itself: can it run here, what loads it, which libraries it wants.

A program may be hostile: whatever it says is bounded, and nothing of it is run.
"""

from __future__ import annotations

import os
import platform
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bootmatrix.errors import UserError
from bootmatrix.files import given_file

# ELF-64 object file format, "File header", "Program header" and "Dynamic section"; e_machine as
# assigned by the generic System V ABI, DT_RUNPATH by its chapter 5.
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_DYNAMIC = struct.Struct("<QQ")
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
LARGEST = 2 << 30
"""Bytes of a program. With all that helps to debug it a QEMU has some hundred million."""
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 0, 1, 5, 15, 29
_EXECUTABLE, _SHARED = 2, 3
_MACHINES = {
    3: "i386", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x86_64",
    183: "aarch64", 243: "riscv64", 258: "loongarch64",
}
# A QEMU with everything in it has some 70 libraries, a dozen program headers, paths of a line.
_MOST_HEADERS, _MOST_ENTRIES, _LONGEST_TEXT = 128, 1024, 4096
_LONGEST_NAME, _MOST_PATHS = 255, 64


@dataclass(frozen=True)
class Program:
    """An ELF program or library for this machine.

    ``loader`` is None where it is statically linked, or a library. ``needed`` are the names of
    libraries that it asks for, ``runpath`` the directories to look for them first: DT_RUNPATH,
    or where there is none DT_RPATH, as ld.so(8) takes them; ``inherited``: it is the latter, which
    counts for what its libraries ask for as well. ``$ORIGIN`` stands in it as it is.
    """

    loader: str | None = None
    needed: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()
    inherited: bool = False


def read(path: Path) -> Program:
    """Look at a program. Raises UserError, without a place, for what cannot be run here."""
    native = platform.machine()
    try:
        with given_file.open_regular(path, LARGEST) as opened:
            file = opened.fileno()
            head = os.pread(file, _HEADER.size, 0)
            if not head.startswith(b"\x7fELF"):
                raise UserError(f"{path} is no program", hint="a QEMU is an ELF file")
            machine = int.from_bytes(head[18:20], "little" if head[5:6] != b"\x02" else "big")
            name = _MACHINES.get(machine, f"ELF machine {machine}")
            if name != native or head[4:6] != b"\x02\x01" or len(head) < _HEADER.size:
                raise UserError(f"{path} is a program for {name}", hint=f"this machine is {native}")
            if _HEADER.unpack(head)[1] not in (_EXECUTABLE, _SHARED):
                raise UserError(f"{path} is no program", hint="an object file or a core dump?")
            return _program(file, head)
    except given_file.Missing:
        raise UserError(f"{path} is not there", hint="a QEMU, or a directory with one") from None
    except given_file.Unreadable as error:
        raise UserError(f"{path} {error}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except OverflowError:
        raise UserError(f"{path} is no program", hint="its header points nowhere") from None


def _program(file: int, head: bytes) -> Program:
    segments = tuple(_segments(file, head))
    loader: str | None = None
    needed: list[str] = []
    paths: dict[int, tuple[str, ...]] = {}
    for kind, offset, _, size in segments:
        if kind == _PT_INTERP:
            loader = _text(os.pread(file, min(size, _LONGEST_TEXT), offset))
        elif kind == _PT_DYNAMIC and not needed and not paths:  # the first: ld.so takes one
            entries = tuple(_entries(os.pread(file, min(size, _MOST_ENTRIES * 16), offset)))
            table = next((value for tag, value in entries if tag == _DT_STRTAB), 0)
            strings = _offset(segments, table)
            for tag, value in entries:
                if strings is None or tag not in (_DT_NEEDED, _DT_RPATH, _DT_RUNPATH):
                    continue
                text = _text(os.pread(file, _LONGEST_TEXT, strings + value))
                if tag == _DT_NEEDED:
                    needed.append(text[:_LONGEST_NAME])
                else:
                    paths[tag] = tuple(dict.fromkeys(filter(None, text.split(":"))))[:_MOST_PATHS]
    runpath, rpath = paths.get(_DT_RUNPATH, ()), paths.get(_DT_RPATH, ())
    return Program(loader, tuple(needed), runpath or rpath, bool(rpath and not runpath))


def _segments(file: int, head: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Type, offset in the file, address and bytes in the file of each segment."""
    fields = _HEADER.unpack(head)
    table, size, count = fields[5], max(fields[9], _PROGRAM_HEADER.size), fields[10]
    for number in range(min(count, _MOST_HEADERS)):
        header = os.pread(file, _PROGRAM_HEADER.size, table + number * size)
        if len(header) == _PROGRAM_HEADER.size:
            kind, _, offset, address, _, length, _, _ = _PROGRAM_HEADER.unpack(header)
            yield kind, offset, address, length


def _entries(section: bytes) -> Iterator[tuple[int, int]]:
    """The (tag, value) pairs of a dynamic section, up to its end."""
    whole = len(section) // _DYNAMIC.size * _DYNAMIC.size
    for tag, value in _DYNAMIC.iter_unpack(section[:whole]):
        if tag == _DT_NULL:
            return
        yield tag, value


def _offset(segments: tuple[tuple[int, int, int, int], ...], address: int) -> int | None:
    """Where in the file an address is that a segment is loaded to; None where it is in none."""
    for kind, offset, start, size in segments:
        if kind == _PT_LOAD and start <= address < start + size:
            return offset + address - start
    return None


def _text(data: bytes) -> str:
    """A C string."""
    return data.partition(b"\0")[0].decode(errors="replace")
