"""``bootmatrix bench``: what is on it, is it there, talk to it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootmatrix.builds.image_store import cache_home
from bootmatrix.cli.main import main
from bootmatrix.errors import Status
from bootmatrix.machines.bench.seat import Seat
from helpers.benches import VirtualBoard, virtual_board


@pytest.fixture
def board(tmp_path: Path) -> Iterator[VirtualBoard]:
    """A board of this test's."""
    with virtual_board(tmp_path) as there:
        yield there


@pytest.mark.thorough
def test_list_doctor_and_console(
    board: VirtualBoard, capsys: pytest.CaptureFixture[str]
) -> None:
    env = str(board.env)
    assert main(["bench", "list", env]) == Status.GREEN
    assert capsys.readouterr().out == (
        "board-main  SerialDriver, ExternalPowerDriver, FlashromDriver, free\n")
    Seat.of(board.source, cache_home()).mark = "it was dead"
    assert main(["bench", "list", env]) == Status.GREEN
    assert "marked: it was dead" in capsys.readouterr().out
    assert main(["bench", "list", env, "--json"]) == Status.GREEN
    row, = json.loads(capsys.readouterr().out)
    assert (row["board"], row["free"], row["mark"]) == ("board-main", True, "it was dead")
    assert main(["bench", "doctor", "main", "--in", env]) == Status.GREEN
    assert "ok    board: it speaks: " in capsys.readouterr().out

    # At a terminal, as a person has one.
    ours, theirs = pty.openpty()
    talk = subprocess.Popen(
        [sys.executable, "-m", "bootmatrix", "bench", "console", "main", "--in", env, "--power",
         "cycle"], stdin=theirs, stdout=theirs, close_fds=True)
    os.close(theirs)
    said = b""
    while b"beat=1" not in said:
        said += os.read(ours, 4096)
    assert b"SeaBIOS (version 1.16.3" in said
    os.write(ours, b"#12?")
    while b"BOOTMATRIX here nonce=12 " not in said:
        said += os.read(ours, 4096)
    os.write(ours, b"\x1d")
    assert talk.wait() == 0
    os.close(ours)
    board.power("off")


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "apu2.yaml").write_text("targets: {main: {drivers: {SerialDriver: {}}}}\n")
    for words in (["list", str(tmp_path / "nothing.yaml")],
                  ["doctor", "other", "--in", str(tmp_path / "apu2.yaml")]):
        assert main(["bench", *words]) == Status.USER_ERROR
        assert capsys.readouterr().err.count("\n") == 1
