"""The end of what a guest said."""

from __future__ import annotations

import os
from pathlib import Path

from bootmatrix.plugin.console_tail import TAIL_LINES, console_tail


def log(directory: Path, name: str, said: bytes, second: int) -> Path:
    path = directory / name / "console.log"
    path.parent.mkdir()
    path.write_bytes(said)
    os.utime(path, (second, second))
    return path


def test_the_last_lines_of_the_console_that_spoke_last(tmp_path: Path) -> None:
    assert console_tail(tmp_path) == []
    log(tmp_path, "2-destination", b"old\n", 1)
    log(tmp_path, "1-source", b"".join(b"%d\r\n\n" % number for number in range(99)), 2)
    assert console_tail(tmp_path) == [str(number) for number in range(99 - TAIL_LINES, 99)]


def test_a_terminal_obeys_nothing_of_it(tmp_path: Path) -> None:
    log(tmp_path, "1-source", b"\x1b]0;title\x07a\x1b[2Jb\x9b31mc\xff\n", 1)
    line, = console_tail(tmp_path)
    assert line.isprintable()
    assert "title" in line, "text is told as text"


def test_what_is_no_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "1-source").mkdir()
    os.mkfifo(tmp_path / "1-source" / "console.log")
    assert console_tail(tmp_path) == []
