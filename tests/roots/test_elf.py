"""Can this file be a program here, and what loads it."""

from __future__ import annotations

import platform
import struct
from pathlib import Path

import pytest

from bootmatrix.errors import UserError
from bootmatrix.roots import elf


def header(machine: int = 62, kind: int = 3, ident: bytes = b"\x7fELF\x02\x01\x01") -> bytes:
    return struct.pack("<16sHHIQQQIHHHHHH", ident, kind, machine, 1, 0, 64, 0, 0, 64, 56, 0, 0, 0,
                       0)


@pytest.mark.parametrize(("content", "told"), [
    (b"", "is no program"),
    (b"#!/bin/sh\n", "is no program"),
    (b"\x7fELF", "is a program for"),
    (header(183), "is a program for aarch64"),
    (header(22, ident=b"\x7fELF\x02\x02\x01")[:18] + b"\0\x16" + bytes(44), "for s390x"),
    (header(3, ident=b"\x7fELF\x01\x01\x01"), "for i386"),
    (header(9999), "for ELF machine 9999"),
    (header(kind=1), "is no program"),
    (header(kind=4), "is no program"),
])
def test_what_is_no_program_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, told: str
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    file = tmp_path / "qemu"
    file.write_bytes(content)
    with pytest.raises(UserError) as error:
        elf.read(file)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_the_loader_of_a_program(tmp_path: Path) -> None:
    loader = elf.read(Path("/bin/sh")).loader
    assert loader is not None
    assert Path(loader).is_file()
    static = tmp_path / "static"
    static.write_bytes(header(next(
        number for number, name in elf._MACHINES.items() if name == platform.machine())))
    assert elf.read(static).loader is None


def test_one_dynamic_section_counts_and_a_thousand_of_its_entries(tmp_path: Path) -> None:
    """As for ld.so; a file could tell of one library 127 times a thousand."""
    strings, dynamic, entries = 0x200, 0x400, 1024
    needed = struct.pack("<QQ", 1, 0)
    table = struct.pack("<QQ", 5, strings) + needed * (entries - 1)
    load = struct.pack("<IIQQQQQQ", 1, 4, 0, 0, 0, 1 << 20, 1 << 20, 1)
    segment = struct.pack("<IIQQQQQQ", 2, 4, dynamic, dynamic, 0, len(table) + 160, 0, 1)
    machine = next(number for number, name in elf._MACHINES.items() if name == platform.machine())
    head = bytearray(header(machine))
    head[32:40] = (64).to_bytes(8, "little")  # e_phoff
    head[56:58] = (4).to_bytes(2, "little")  # e_phnum
    file = tmp_path / "many"
    content = bytes(head) + load + segment * 3
    content = content.ljust(strings, b"\0") + b"libc.so.6\0"
    file.write_bytes(content.ljust(dynamic, b"\0") + table + needed * 10)
    assert elf.read(file).needed == ("libc.so.6",) * (entries - 1)
