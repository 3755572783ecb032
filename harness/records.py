"""Run records in files: one JSON object a line, written as they arrive, read back as data."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.errors import UserError

Record = Mapping[str, Any]


class RecordWriter:
    """A records file that is flushed line by line, so that a crash loses no finished cell.

    The file is made anew (with ``append``, gone on with), with the directories above it, when
    the first record arrives, or at once by ``open``. Raises UserError if it cannot be.
    """

    def __init__(self, path: Path, *, append: bool = False) -> None:
        self.path = path
        self._flags = os.O_APPEND if append else os.O_TRUNC
        self._fd: int | None = None

    def open(self) -> int:
        """Make the file, if this was not done yet; its descriptor."""
        if self._fd is None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | self._flags
                self._fd = os.open(self.path, flags, 0o666)
            except OSError as error:
                raise UserError(f"cannot write records: {error.strerror}", file=self.path) from None
        return self._fd

    def write(self, record: Record) -> None:
        """Append one record, whole or, where the disk is full, not at all."""
        fd = self.open()
        end = os.fstat(fd).st_size
        line = _line(record)
        try:
            while line:
                line = line[os.write(fd, line) :]
        except OSError as error:
            with contextlib.suppress(OSError):  # a pipe has no end to go back to
                os.ftruncate(fd, end)
            raise UserError(f"cannot write records: {error.strerror}", file=self.path) from None

    def close(self) -> None:
        """Close the file; a later write would begin a new one."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_records(
    path: Path,
    say: Callable[[str], None] = lambda line: None,
    loads: Callable[[str], Any] = json.loads,
) -> Iterator[dict[str, Any]]:
    """The records of a file, in its order.

    A last line that a crash cut off in the middle of writing is left out, and ``say`` told so
    in one line. ``loads`` reads the JSON of one line. Raises UserError at any other line that
    is no record.
    """
    try:
        file = path.open(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"cannot read records: {error.strerror}", file=path) from None
    with file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = loads(line)
            except ValueError as error:
                if not line.endswith("\n"):
                    say(f"{path}:{number}: the last record was cut off, and is left out")
                    return
                raise UserError(f"no JSON: {error}", file=path, line=number) from None
            if not isinstance(record, dict) or "verdict" not in record or "cell" not in record:
                raise UserError("no run record: it has no verdict or no cell", file=path,
                                line=number)
            yield record


def replace_records(path: Path, records: Sequence[Record]) -> None:
    """Put these records into a file, in place of what is in it, in one step."""
    beside = path.with_suffix(".new")
    try:
        beside.write_bytes(b"".join(map(_line, records)))
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise UserError(f"cannot write records: {error.strerror}", file=path) from None


def _line(record: Record) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
