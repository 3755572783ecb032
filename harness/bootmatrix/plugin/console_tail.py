"""The end of what a guest said, for a test that failed."""

from __future__ import annotations

import os
from pathlib import Path

TAIL_LINES = 12
TAIL_BYTES = 64 << 10


def files_of(artifacts: Path, within: Path, name: str = "*") -> list[Path]:
    """The files of this name of a cell's QEMUs, to which no link leads out of ``within``.

    A record that was read can lead anywhere, and a stranger's run directory is full of names.
    """
    inside = os.path.realpath(within) + os.sep
    if not os.path.realpath(artifacts).startswith(inside):
        return []
    return sorted(file for file in artifacts.glob(f"*/{name}")
                  if file.is_file() and os.path.realpath(file).startswith(inside))


def console_tail(artifacts: Path, within: Path) -> list[str]:
    """The last lines of the console that was written last, of all the QEMUs there.

    Each has a directory below ``artifacts``; for ``within`` see files_of. Without what a terminal
    would obey.
    """
    logs = sorted(files_of(artifacts, within, "console.log"),
                  key=lambda path: path.stat().st_mtime_ns)
    if not logs:
        return []
    from bootmatrix.files import given_file
    from bootmatrix.firmware.identity import EscapeFilter
    from bootmatrix.records.jsonl import LARGEST_FILE

    try:
        with given_file.open_regular(logs[-1], LARGEST_FILE) as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - TAIL_BYTES))
            said = log.read()
    except given_file.Unreadable:
        return []
    text = EscapeFilter().feed(said).decode("utf-8", "replace")
    lines = ("".join(char for char in line if char.isprintable()) for line in text.splitlines())
    return [line for line in lines if line.strip()][-TAIL_LINES:]
