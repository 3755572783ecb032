"""A damaged nvram file is found, and mended where something can be known."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bootmatrix.errors import NvramError
from bootmatrix.nvram import ERASED, Nvram, Part, inspect, repair
from bootmatrix.nvram.layout import HEAD, HEADERS, JOURNAL, NOTE, PAGE
from bootmatrix.nvram.store import arrival
from helpers.nvram_files import NEW, OLD, OTHER, files, guest_writes, make


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("page", HEADERS)
@pytest.mark.parametrize("where", [0, 9, 20, 100, PAGE - 1])
def test_a_damaged_header_page_is_found_and_repaired(
    source: Nvram, page: int, where: int
) -> None:
    source.stage(NEW)
    header = source.header
    source.close()
    flip(source.path, page + where)
    before = source.path.read_bytes()
    with pytest.raises(NvramError, match=f"header page at {page:#x} is damaged.*nvram repair"):
        Nvram(source.path)
    assert source.path.read_bytes() == before
    assert repair(source.path) == [
        f"the header is whole again, as of generation {header.generation}"]
    with Nvram(source.path) as nvram:
        assert (nvram.staged, nvram.read()) == (True, OLD)
    assert repair(source.path) == []


def test_both_header_pages_damaged(source: Nvram) -> None:
    source.close()
    for page in HEADERS:
        flip(source.path, page + 100)
    before = source.path.read_bytes()
    with pytest.raises(NvramError, match="cannot be repaired"):
        Nvram(source.path)
    with pytest.raises(NvramError, match="no header page is whole"):
        repair(source.path)
    assert source.path.read_bytes() == before


def test_a_flip_in_the_journal_or_the_note_is_harmless(source: Nvram) -> None:
    source.close()
    for page in (JOURNAL, NOTE):
        flip(source.path, page + 3)
    with Nvram(source.path) as nvram:
        assert nvram.read() == OLD


def test_a_damaged_window_comes_back_from_a_known_build(source: Nvram) -> None:
    source.close()
    guest_writes(source.path, b"rot!", HEAD + 8)
    before = source.path.read_bytes()
    with pytest.raises(NvramError, match="cannot be repaired: no image with sha256"):
        repair(source.path)
    with pytest.raises(NvramError, match="cannot be repaired"):
        repair(source.path, lambda digest: NEW)
    assert source.path.read_bytes() == before
    assert repair(source.path, lambda digest: OLD) == [
        "the firmware window is written anew from the known build"]
    with Nvram(source.path) as nvram:
        assert nvram.read() == OLD


def test_a_damaged_upgrade_is_dropped(source: Nvram) -> None:
    source.stage(NEW)
    source.close()
    flip(source.path, HEAD + len(OLD) + 5)
    with pytest.raises(NvramError, match="staged upgrade at 0x6000 is damaged"):
        Nvram(source.path)
    assert repair(source.path) == ["the staged upgrade was damaged and is dropped"]
    with Nvram(source.path) as nvram:
        assert (nvram.staged, nvram.read()) == (False, OLD)


def test_an_arrival_that_was_cut_off(tmp_path: Path, source: Nvram) -> None:
    # The source is marked, the new file has not got its name yet.
    path = tmp_path / "destination"
    source.move_to(path).close()
    path.rename(arrival(path))
    with pytest.raises(NvramError, match=r"the guest has come from .*/source, .* nvram repair"):
        Nvram(path)
    with (
        make(tmp_path / "third", OTHER) as third,
        pytest.raises(NvramError, match="the guest has come from"),
    ):
        third.move_to(path)
    assert repair(path) == [f"the guest has arrived from {source.path}"]
    with Nvram(path) as nvram:
        assert nvram.read() == OLD


def test_a_departure_that_was_cut_off(tmp_path: Path, source: Nvram) -> None:
    # The new file is complete, the source is not marked yet: the guest is still there.
    path = tmp_path / "destination"
    source.move_to(path).close()
    path.rename(arrival(path))
    Nvram(source.path, force=True).close()
    assert repair(path) == [
        f"the guest has not left {source.path}: what came of it is removed"]
    assert files(tmp_path) == {"source"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no nvram file: it is empty"),
        (b"QFI\xfb" + bytes(HEAD), "a qcow2 image"),
        (bytes(16) + bytes.fromhex("8d2bf1ff96768b4ca9852747075b4f50") + bytes(8) + b"_FVH"
         + bytes(HEAD), "a plain UEFI variable store .*import"),
        (bytes(40) + b"_FVH" + bytes(HEAD), "a plain UEFI firmware image .*import"),
        (bytes(0x40000 - 16) + b"\xea" + bytes(15), "a plain BIOS image .*import"),
        (ERASED * 0x40000, "erased flash"),
        (b"hello world", "begins with 68 65 6c 6c 6f 20 77 6f"),
    ],
)
def test_foreign_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "nvram"
    path.write_bytes(content)
    for attempt in (Nvram, inspect, repair):
        with pytest.raises(NvramError, match=message) as caught:
            attempt(path)
        assert "\n" not in caught.value.message
        assert caught.value.message.startswith(f"{path}: ")
    assert path.read_bytes() == content
    assert files(tmp_path) == {"nvram"}


@pytest.mark.parametrize("size", [8, PAGE, HEAD - 1, HEAD, HEAD + len(OLD) - 1])
def test_truncated(source: Nvram, size: int) -> None:
    source.close()
    os.truncate(source.path, size)
    before = source.path.read_bytes()
    for attempt in (Nvram, inspect, repair):
        with pytest.raises(NvramError, match=f"truncated: it has {size:#x} bytes"):
            attempt(source.path)
    assert source.path.read_bytes() == before


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(NvramError, match="Is a directory"):
        Nvram(tmp_path)
    with pytest.raises(NvramError, match="Is a directory"):
        inspect(tmp_path)
    with pytest.raises(NvramError, match="No such file"):
        inspect(tmp_path / "nothing")


def test_inspecting_touches_nothing(source: Nvram) -> None:
    source.lend("5.2.0", "source")
    guest_writes(source.path, NEW)
    before = source.path.read_bytes(), source.path.stat().st_mtime_ns
    seen = inspect(source.path)
    assert (seen.problems, seen.contents[Part.FIRMWARE]) == ((), NEW)
    assert (source.path.read_bytes(), source.path.stat().st_mtime_ns) == before
