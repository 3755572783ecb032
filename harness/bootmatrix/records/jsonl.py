"""Run records in files: one JSON object a line, written as they arrive, read back as data."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from bootmatrix.errors import UserError
from bootmatrix.files import given_file
from bootmatrix.records.model import NoJson, Record, parsed

LONGEST_LINE = 16 << 20
LARGEST_FILE = 2 << 30
"""Bytes. A record has some 5 kB, and 10,000 cells make 50 MB."""
MOST_VALUES = 50_000_000
"""Of all records of a file: a value takes some 60 bytes and more of memory, and 2 in the file."""


class RecordWriter:
    """A records file that is flushed line by line, so that a crash loses no finished cell.

    The file is made anew (with ``append``, gone on with), with the directories above it, when
    the first record arrives, or at once by ``open``. It is locked: no other writer opens it
    meanwhile. Raises UserError if it cannot be made, and where somebody else has changed it.
    """

    def __init__(self, path: Path, *, append: bool = False) -> None:
        self.path = path
        self._append = append
        self._fd: int | None = None
        self._size: int | None = None  # None: a pipe or a device, which has none

    def open(self) -> int:
        """Make the file, if this was not done yet; its descriptor."""
        if self._fd is None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_APPEND
                # Else a pipe that nobody reads is waited for without end.
                self._fd = os.open(self.path, flags | os.O_NONBLOCK, 0o666)
                os.set_blocking(self._fd, True)
                if stat.S_ISREG(os.fstat(self._fd).st_mode):
                    fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if not self._append:
                        os.ftruncate(self._fd, 0)
                    self._size = os.fstat(self._fd).st_size
            except BlockingIOError:
                self.close()
                raise UserError("cannot write records: another run writes into this file",
                                file=self.path) from None
            except OSError as error:
                self.close()
                why = "nobody reads this pipe" if error.errno == errno.ENXIO else error.strerror
                raise UserError(f"cannot write records: {why}", file=self.path) from None
        return self._fd

    def check(self) -> None:
        """Raise UserError if what was written so far does not lie in the file any more."""
        if self._fd is None or self._size is None:
            return
        try:
            opened, there = os.fstat(self._fd), self.path.stat()
        except OSError as error:
            raise UserError(f"the records have gone: {error.strerror}", file=self.path) from None
        if not os.path.samestat(opened, there) or opened.st_size != self._size:
            raise UserError("the records were changed by somebody else", file=self.path)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record, whole or, where the disk is full, not at all."""
        fd = self.open()
        self.check()
        end = os.fstat(fd).st_size
        left = whole = as_line(record)
        try:
            while left:
                left = left[os.write(fd, left) :]
            if self._size is not None:
                self._size += len(whole)
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
    path: Path, cut_off: Callable[[str], None] = lambda line: None
) -> Iterator[Record]:
    """The records of a file, in its order, each checked against the model.

    A last line that a crash cut off in the middle of writing is left out, and ``cut_off`` told so
    in one line. Raises UserError at any other line that is no record, and at what is no regular
    file or larger than can be read.
    """
    with _opened(path) as file:
        number = values = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise UserError(f"a line of more than {LONGEST_LINE >> 20} MiB is no record",
                                file=path, line=number)
            if not line.strip():
                continue
            values += line.count(b",") + line.count(b"[") + line.count(b"{")
            if values > MOST_VALUES:
                raise UserError(f"more than {MOST_VALUES} values up to here: is it one run's?",
                                file=path, line=number)
            try:
                record = parsed(line)
            except ValueError as error:
                if isinstance(error, NoJson) and not line.endswith(b"\n"):
                    cut_off(f"{path}:{number}: the last record was cut off, and is left out")
                    return
                raise UserError(str(error), file=path, line=number) from None
            yield record


def replace_records(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Put these records into a file, in place of what is in it, in one step. Raises UserError."""
    given_file.replace(path, b"".join(map(as_line, records)))


def as_line(record: Mapping[str, Any]) -> bytes:
    """A record as a line of a file."""
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _opened(path: Path) -> BinaryIO:
    try:
        return given_file.open_regular(path, LARGEST_FILE)
    except given_file.Unreadable as error:
        raise UserError(str(error), file=path) from None
