"""The end of what a guest said, for a test that failed."""

from __future__ import annotations

import os
from pathlib import Path

from bootmatrix.files.run_files import logs, open_log

TAIL_LINES = 12
TAIL_BYTES = 64 << 10


def console_tail(artifacts: Path, within: Path) -> list[str]:
    """The last lines of the console that was written last, of all the QEMUs there.

    Each has a directory below ``artifacts``, which is in the run's directory ``within``. Without
    what a terminal would obey.
    """
    consoles = [artifacts / name for name in logs(str(artifacts), str(within))
                if name.endswith("/console.log")]
    if not consoles:
        return []
    last = max(consoles, key=lambda path: path.lstat().st_mtime_ns)
    from bootmatrix.files import given_file
    from bootmatrix.firmware.identity import EscapeFilter
    from bootmatrix.records.jsonl import LARGEST_FILE

    try:
        with open_log(str(last), str(within), LARGEST_FILE) as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - TAIL_BYTES))
            said = log.read()
    except given_file.Unreadable:
        return []
    text = EscapeFilter().feed(said).decode("utf-8", "replace")
    lines = ("".join(char for char in line if char.isprintable()) for line in text.splitlines())
    return _without_beats([line for line in lines if line.strip()])[-TAIL_LINES:]


def _without_beats(lines: list[str]) -> list[str]:
    """Without the lines that a guest repeats to show that it runs, but for the last."""
    beats = [at for at, line in enumerate(lines) if line.startswith("BOOTMATRIX beat")][:-1]
    return [line for at, line in enumerate(lines) if at not in {*beats}]
