"""Symbols: a real ELF file, maps as linkers and nm print them, and what is none."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bootmatrix.errors import UserError
from bootmatrix.firmware import symbols
from bootmatrix.firmware.symbols import FARTHEST, Symbols, checked, naming, parse
from bootmatrix.model import FirmwareBuild
from helpers.programs import spinning_firmware


def symbol_file(symbols: list[tuple[int, int, int, int, bytes]], wide: bool, order: str) -> bytes:
    """An ELF file of nothing but (address, size, type, section, name) of symbols."""
    names, entries = b"", b""
    for address, size, kind, where, name in symbols:
        at = len(names)
        names += name + b"\0" if name or not names else b""
        entries += (struct.pack(order + "IBBHQQ", at if name else 0, kind, 0, where, address, size)
                    if wide else
                    struct.pack(order + "IIIBBH", at if name else 0, address, size, kind, 0, where))
    head, section = (64, 64) if wide else (52, 40)
    each = 24 if wide else 16
    start = head + 3 * section
    ident = bytes([0x7F, 0x45, 0x4C, 0x46, 1 + wide, 1 + (order == ">"), 1]).ljust(16, b"\0")
    header = struct.pack(order + ("16sHHIQQQIHHHHHH" if wide else "16sHHIIIIIHHHHHH"), ident, 1, 0,
                         1, 0, 0, head, 0, head, 0, 0, section, 3, 0)
    shape = order + ("IIQQQQIIQQ" if wide else "IIIIIIIIII")
    table = struct.pack(shape, 0, 2, 0, 0, start, len(entries), 1, 0, 1, each)
    table += struct.pack(shape, 0, 3, 0, 0, start + len(entries), len(names), 0, 0, 1, 0)
    return header + table + bytes(section) + entries + names


GNU_LD = b"""
 .text          0x00000000000f0000     0x1000 build/a.o
                0x00000000000f05ab                handle_post
                0x00000000000f06bc                handle_19
                0x00000000000f0700                . = ALIGN (0x10)
 /DISCARD/
"""
NM = b"000ed1b5 t ahci_command\n000f05ab T handle_post\n         U memcpy\n0000000f A not\n"


@pytest.mark.parametrize(("address", "name"), [
    (0xF0100, "said"), (0xF0101, "said+0x1"), (0xF1000, "wait_for_a_device"),
    (0xF1002, "wait_for_a_device+0x2"), (0xFFFF0, "reset_vector"), (0xFFFFFFF0, "reset_vector"),
    (0xFFFF0100, "said"), (0xF0000, ""), (0x7C00, ""), (0x200000, ""),
])
def test_an_elf_file(tmp_path: Path, address: int, name: str) -> None:
    assert parse(spinning_firmware(tmp_path)[1].read_bytes())(address) == name


def test_a_function_ends_where_its_size_says_so() -> None:
    found = Symbols([(0x100, 0x10, "sized"), (0x200, 0, "unsized")])
    assert (found(0x10F), found(0x110)) == ("sized+0xf", "")
    assert found(0x200 + FARTHEST - 1) == f"unsized+{FARTHEST - 1:#x}"
    assert found(0x200 + FARTHEST) == found(0xFF) == ""


def test_maps() -> None:
    assert [parse(GNU_LD)(address) for address in (0xF05AB, 0xF06BD)] == [
        "handle_post", "handle_19+0x1"]
    assert [parse(NM)(address) for address in (0xED1B6, 0xF05AB)] == [
        "ahci_command+0x1", "handle_post"]


@pytest.mark.parametrize(("make", "told"), [
    (lambda file: None, "cannot be read: No such file or directory"),
    (lambda file: file.mkdir(), "is a directory"),
    (lambda file: file.write_bytes(b""), "holds no symbols"),
    (lambda file: file.write_bytes(b"just\nwords\n"), "holds no symbols"),
    (lambda file: file.write_bytes(b"\x7fELF" + bytes(9)), "is no whole ELF file"),
    (lambda file: file.write_bytes(b"\x7fELF" + b"\xff" * 999), "is no whole ELF file"),
])
def test_what_holds_none(tmp_path: Path, make: Callable[[Path], object], told: str) -> None:
    file = tmp_path / "rom.o"
    make(file)
    with pytest.raises(UserError, match=f"^{file} {told}") as raised:
        checked(file)
    assert "\n" not in str(raised.value)


def test_a_stripped_file_and_a_damaged_one(tmp_path: Path) -> None:
    elf = spinning_firmware(tmp_path)[1]
    whole = elf.read_bytes()
    assert checked(elf) == whole
    for end in range(0, len(whole), 997):
        elf.write_bytes(whole[:end])
        with pytest.raises(UserError, match=r"is no whole ELF file|holds no symbols"):
            checked(elf)
    elf.write_bytes(whole)
    subprocess.run(["llvm-strip", elf], check=True)
    with pytest.raises(UserError, match="holds no symbols"):
        checked(elf)


def test_how_many_sections_an_elf_file_may_have(tmp_path: Path) -> None:
    elf = spinning_firmware(tmp_path)[1]
    content = bytearray(elf.read_bytes())
    at = 48 if content[4] == 1 else 60  # e_shnum
    content[at:at + 2] = (10_001).to_bytes(2, "little")
    elf.write_bytes(content)
    with pytest.raises(UserError, match="is no whole ELF file"):
        checked(elf)
    with pytest.raises(ValueError, match="it has 10001 sections"):
        parse(bytes(content))


def test_names_are_short_and_plain() -> None:
    told = parse(b"00001000 T " + b"a" * 1000 + b"\n00002000 T \x1b[31mred\n")
    assert told(0x1000) == "a" * 80
    assert told(0x2000) == "a" * 80 + "+0x1000"


def test_how_many_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(symbols, "_MOST", 2)
    assert len(parse(b"".join(b"0000%04x T a\n" % number for number in range(9)))) == 2
    assert len(parse(spinning_firmware(tmp_path)[1].read_bytes())) <= 2


def test_builds_are_asked_once_each_and_both_named_where_they_differ(tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        files.append(tmp_path / name)
        files[-1].write_bytes(b"000f0000 T both\n000f1000 T %s\n" % name.encode())
    builds = [FirmwareBuild("f", "0", 1, tmp_path, symbols=file)
              for file in (*files, files[0], None)]
    assert naming(builds, 0xF0000) == "both"
    assert naming(builds, 0xF1002) == "one+0x2 or two+0x2"
    assert naming(builds, 0x10) == naming([], 0xF0000) == ""


@pytest.mark.parametrize("hostile", [b"\n" * (4 << 20), b" " * (4 << 20), b"0x1" + b" " * (4 << 20),
                                     b"00001000 T a" + b" " * (4 << 20) + b"!"],
                         ids=["lines", "spaces", "address", "name"])
def test_a_hostile_map_is_read_once(hostile: bytes) -> None:
    assert len(parse(hostile)) == 0


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("order", ["<", ">"])
def test_elf_files_of_each_size_and_order(wide: bool, order: str) -> None:
    content = symbol_file([(0x1000, 0x10, 2, 1, b"one"), (0x2000, 0, 0, 1, b"two"),
                           (0x3000, 4, 1, 1, b"data"), (0x4000, 4, 2, 0, b"elsewhere")],
                          wide, order)
    found = parse(content)
    assert len(found) == 2
    assert (found(0x100F), found(0x2004), found(0x3000)) == ("one+0xf", "two+0x4", "two+0x1000")


def test_a_name_as_long_as_the_file_is_read_as_far_as_it_is_shown() -> None:
    """20,000 symbols with one name of 16 MiB: a third of a terabyte, if each were read whole."""
    content = symbol_file([(at, 1, 2, 1, b"") for at in range(20_000)], True, "<")
    found = parse(content + b"a" * (16 << 20), )
    assert len(found) == 0, "their name is empty"
    named = content[:-1] + b"a" * (16 << 20) + b"\0"
    assert parse(named)(5) == "a" * 80
