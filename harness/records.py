"""Run records in files: one JSON object a line, written as they arrive, read back as data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from harness.errors import UserError

Record = Mapping[str, Any]


class RecordWriter:
    """A records file that is flushed line by line, so that a crash loses no finished cell.

    The file is made anew, with the directories above it, when the first record arrives, or
    at once by ``open``. Raises UserError if it cannot be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO | None = None

    def open(self) -> TextIO:
        """Make the file, if this was not done yet."""
        if self._file is None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("w", encoding="utf-8", buffering=1)
            except OSError as error:
                raise UserError(f"cannot write records: {error.strerror}", file=self.path) from None
        return self._file

    def write(self, record: Record) -> None:
        """Append one record."""
        file = self.open()
        file.write(json.dumps(record, ensure_ascii=False) + "\n")
        file.flush()

    def close(self) -> None:
        """Close the file; a later write would begin a new one."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file, in its order. Raises UserError at a line that is none."""
    try:
        file = path.open(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read records: {error.strerror}", file=path) from None
    with file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise UserError(f"no JSON: {error}", file=path, line=number) from None
            if not isinstance(record, dict) or "verdict" not in record or "cell" not in record:
                raise UserError("no run record: it has no verdict or no cell", file=path,
                                line=number)
            yield record
