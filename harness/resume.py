"""A run that goes on where an earlier one ended: the cells that stand finished in its directory."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.model import Cell, Verdict
from harness.records import read_records, replace_records

RECORDS = "records.jsonl"

Key = tuple[str, str]


def fingerprint(cell: Cell) -> str:
    """What tells a cell from another with the same id: 16 hex digits over all its values."""
    return hashlib.sha256(repr(cell).encode()).hexdigest()[:16]


def key(record: Mapping[str, Any]) -> Key:
    """What a record is about: the matrix file's name, wherever it lies, and the cell's id.

    A repeat of a cell has the item's name: ``ID#2``.
    """
    repeat = record.get("repeat", 1)
    name = str(record["cell"]["id"]) + (f"#{repeat}" if repeat != 1 else "")
    return Path(str(record.get("matrix", ""))).name, name


def sweep(run_dir: Path) -> None:
    """Remove the scratch directories that killed runners have left in a run directory."""
    for scratch in run_dir.glob("scratch-*"):
        with contextlib.suppress(OSError):  # another sweeper was quicker, or its runner lives
            held = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # see Runner
                shutil.rmtree(scratch)
            finally:
                os.close(held)


class Finished:
    """The finished cells of a run directory.

    A cell is finished when it has a record, unless that record's verdict is ``error``: then
    nothing was learnt, and the cell is to be run again. ``say`` hears of a record that a crash
    cut off. Raises UserError if there is no such directory, or its records are none.
    """

    def __init__(self, run_dir: Path, say: Callable[[str], None] = lambda line: None) -> None:
        self.run_dir = run_dir
        self.records: dict[Key, dict[str, Any]] = {}
        if not run_dir.is_dir():
            raise UserError("no such run directory", file=run_dir)
        if (run_dir / RECORDS).exists():
            for record in read_records(run_dir / RECORDS, say):
                self.records[key(record)] = record
        for about, record in list(self.records.items()):
            if record["verdict"] == Verdict.ERROR:
                del self.records[about]

    def check(self, matrix: Path, cells: Iterable[Cell], named: Iterable[str] = ()) -> None:
        """Raise UserError if the directory is one of another matrix, or of this one as it was.

        ``named`` are the names of all matrix files of this run; empty: they are not known.
        """
        here = {cell.id: cell for cell in cells}
        names = {matrix.name, *named}
        for (name, item), record in self.records.items():
            cell_id = item.partition("#")[0]
            if named and name not in names:
                raise self._other(f"it is a run of {name or 'another matrix'}, "
                                  f"not of {', '.join(sorted(names))}")
            if name != matrix.name:
                continue
            if cell_id not in here:
                raise self._other(f"{matrix} has no cell {cell_id}")
            if record.get("fingerprint") != fingerprint(here[cell_id]):
                raise self._other(f"{matrix} has changed: cell {cell_id} is another now")

    def _other(self, why: str) -> UserError:
        return UserError(f"cannot go on with this run: {why}", file=self.run_dir,
                         hint="start a new one, without --resume")

    def record(
        self, matrix: Path, cell: Cell, described: Mapping[str, Any], repeat: int = 1
    ) -> dict[str, Any] | None:
        """The record of a cell's ``repeat``-th run, or None if it is to be run.

        ``described`` is the cell as a record of today would have it: a QEMU or firmware that was
        built anew under its old name is another one, and its cells are run again.
        """
        item = cell.id if repeat == 1 else f"{cell.id}#{repeat}"
        record = self.records.get((matrix.name, item))
        if record is None or record["cell"] != dict(described):
            return None
        return record

    def tidy(self) -> None:
        """Leave only the records of finished cells in the file."""
        replace_records(self.run_dir / RECORDS, list(self.records.values()))
