"""One nvram file: who has it, and that nobody else changes it meanwhile."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.errors import NvramError
from bootmatrix.nvram import Nvram, Part
from bootmatrix.nvram.file import File
from bootmatrix.nvram.layout import HEAD, NOTE, PAGE
from bootmatrix.nvram.repair import repair
from helpers.nvram_files import NEW, OLD, guest_writes


def test_the_mode_outlives_a_new_file(source: Nvram) -> None:
    source.path.chmod(0o666)
    source.clear()
    source.initialise(NEW, qemu="11.1.3")
    assert source.path.stat().st_mode & 0o777 == 0o666


def test_nobody_else_may_change_it(source: Nvram) -> None:
    source.close()
    guest_writes(source.path, b"rot!", HEAD + PAGE)
    before = source.path.read_bytes()
    with pytest.raises(NvramError, match="firmware window is damaged between 0x5000 and 0x6000"):
        Nvram(source.path)
    assert source.path.read_bytes() == before


def test_a_second_one_is_told_who_has_it(source: Nvram) -> None:
    with pytest.raises(NvramError, match=rf"in use by harness, pid {os.getpid()} on .*, since "):
        Nvram(source.path)
    source.close()
    Nvram(source.path).close()


def _hold(path: Path, role: str, ready: multiprocessing.synchronize.Event) -> None:
    nvram = Nvram(path, role=role)
    ready.set()
    multiprocessing.Event().wait()
    nvram.close()


@pytest.mark.parametrize("note", [b"[" * 4096, b'{"pid":' + b"9" * 4000 + b"}", b"\xff" * 4096],
                         ids=["deep", "long", "no text"])
def test_who_writes_nonsense_down_is_told_of_all_the_same(source: Nvram, note: bytes) -> None:
    with source.path.open("r+b") as file:
        file.seek(NOTE)
        file.write(note)
    with pytest.raises(NvramError, match=rf"in use by .*, pid {os.getpid()}"):
        Nvram(source.path)


def test_another_process_is_told_too_and_its_death_frees_the_file(source: Nvram) -> None:
    source.close()
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    other = spawn.Process(target=_hold, args=(source.path, "the other one", ready), daemon=True)
    other.start()
    try:
        assert ready.wait(20)
        with pytest.raises(NvramError, match=rf"in use by the other one, pid {other.pid} on "):
            Nvram(source.path)
    finally:
        other.kill()
        other.join()
    with Nvram(source.path) as nvram:
        assert nvram.read() == OLD


def test_a_lock_survives_that_the_file_is_replaced(source: Nvram) -> None:
    source.replace_contents({Part.FIRMWARE: NEW})
    with pytest.raises(NvramError, match="in use by"):
        Nvram(source.path)


def test_the_note_names_no_one_once_it_is_closed(source: Nvram) -> None:
    def note() -> bytes:
        return source.path.read_bytes()[NOTE:HEAD]

    assert json.loads(note().rstrip(b"\0"))["pid"] == os.getpid()
    source.close()
    assert not note().strip(b"\0")


@pytest.mark.parametrize("kind", ["FIFO", "device", "directory", "link to a FIFO"])
def test_what_is_no_file_is_not_opened(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "nvram.bin"
    if kind == "directory":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/null")
    elif kind == "FIFO":
        os.mkfifo(path)
    else:
        os.mkfifo(tmp_path / "fifo")
        path.symlink_to("fifo")
    flags: list[int] = []
    real = os.open

    def noted(path: str | Path, flag: int, *more: int, **where: Any) -> int:
        flags.append(flag)
        return real(path, flag, *more, **where)

    monkeypatch.setattr(os, "open", noted)
    for create in (False, True):
        with pytest.raises(NvramError, match=r"nvram\.bin: (no file|Is a directory)"):
            File(path, "test", create=create)
    assert flags
    assert all(flag & os.O_PATH for flag in flags), "looked at, never opened"


def test_a_new_file_takes_the_place_that_a_link_tells(tmp_path: Path) -> None:
    (tmp_path / "nvram.bin").symlink_to("there")
    File(tmp_path / "nvram.bin", "test", create=True).close()
    assert (tmp_path / "there").is_file()


@pytest.mark.parametrize("kind", ["link", "dangling link", "FIFO", "hard link"])
def test_what_is_made_beside_an_nvram_goes_through_no_link(source: Nvram, kind: str) -> None:
    """A directory can come from a stranger, and the names beside a file are known beforehand."""
    victim, beside = source.path.with_name("victim"), source.path.with_name(
        source.path.name + ".new")
    source.close()
    if kind == "FIFO":
        os.mkfifo(beside)
    elif kind == "hard link":
        victim.write_text("precious")
        beside.hardlink_to(victim)
    else:
        beside.symlink_to(victim)
    if kind == "link":
        victim.write_text("precious")
    with Nvram(source.path) as nvram:
        nvram.clear()
        with pytest.raises(NvramError, match=r"\.new: (no file|Too many levels|has other names)"):
            nvram.initialise(NEW, qemu="11.1.3")
    assert victim.exists() is (kind in ("link", "hard link"))
    if kind in ("link", "hard link"):
        assert victim.read_text() == "precious"
    assert not source.path.is_symlink()


def test_an_nvram_that_arrives_by_a_link_does_not_arrive(source: Nvram, tmp_path: Path) -> None:
    source.close()
    elsewhere = tmp_path / "elsewhere"
    source.path.rename(elsewhere)
    source.path.with_name(source.path.name + ".incoming").symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    with pytest.raises(NvramError, match="No such file"):
        repair(source.path)
    assert elsewhere.read_bytes() == before
