"""The end of what a guest said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bootmatrix.plugin.console_tail import TAIL_LINES, console_tail


def log(directory: Path, name: str, said: bytes, second: int) -> Path:
    path = directory / "logs" / name / "console.log"
    path.parent.mkdir(parents=True)
    path.write_bytes(said)
    os.utime(path, (second, second))
    return path


def test_the_last_lines_of_the_console_that_spoke_last(tmp_path: Path) -> None:
    assert console_tail(tmp_path / "logs", tmp_path) == []
    log(tmp_path, "2-destination", b"old\n", 1)
    log(tmp_path, "1-source", b"".join(b"%d\r\n\n" % number for number in range(99)), 2)
    last = [str(number) for number in range(99 - TAIL_LINES, 99)]
    assert console_tail(tmp_path / "logs", tmp_path) == last


def test_of_what_a_guest_repeats_the_last_is_enough(tmp_path: Path) -> None:
    beats = b"".join(b"BOOTMATRIX beat boot=1 beat=%d\n" % number for number in range(50))
    log(tmp_path, "1-source", b"SeaBIOS\nBOOTMATRIX up\n" + beats + b"BOOTMATRIX here\n", 1)
    assert console_tail(tmp_path / "logs", tmp_path) == [
        "SeaBIOS", "BOOTMATRIX up", "BOOTMATRIX beat boot=1 beat=49", "BOOTMATRIX here"]


def test_a_terminal_obeys_nothing_of_it(tmp_path: Path) -> None:
    log(tmp_path, "1-source", b"\x1b]0;title\x07a\x1b[2Jb\x9b31mc\xff\n", 1)
    line, = console_tail(tmp_path / "logs", tmp_path)
    assert line.isprintable()
    assert "title" in line, "text is told as text"


def test_what_is_no_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "logs" / "1-source").mkdir(parents=True)
    os.mkfifo(tmp_path / "logs" / "1-source" / "console.log")
    assert console_tail(tmp_path / "logs", tmp_path) == []


@pytest.mark.parametrize("link", ["rd/other", "rd/other/1-source", "rd/other/1-source/console.log"])
def test_no_link_leads_out_of_a_run(tmp_path: Path, link: str) -> None:
    """In a stranger's run, whose record can name any of its directories."""
    secret = tmp_path / "outside" / "1-source" / "console.log"
    secret.parent.mkdir(parents=True)
    secret.write_text("secret")
    planted = tmp_path / link
    planted.parent.mkdir(parents=True)
    planted.symlink_to(tmp_path / "outside" / Path(link).relative_to("rd/other"))
    run, artifacts = tmp_path / "rd", tmp_path / "rd" / "other"
    assert artifacts.joinpath("1-source/console.log").read_text() == "secret"
    assert console_tail(artifacts, run) == []
    assert console_tail(tmp_path / "rd" / ".." / "outside", run) == []
