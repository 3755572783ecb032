"""A run that goes on where an earlier one ended: the cells that stand finished in its directory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bootmatrix.cell import Cell
from bootmatrix.errors import UserError
from bootmatrix.model import Verdict
from bootmatrix.records.jsonl import read_records, replace_records
from bootmatrix.records.model import Record
from bootmatrix.records.words import matrix_name
from bootmatrix.run.directory import RECORDS, check_is_run

Key = tuple[str, str]


def fingerprint(cell: Cell) -> str:
    """What tells a cell from another with the same id: 16 hex digits over all its values."""
    return hashlib.sha256(repr(cell).encode()).hexdigest()[:16]


def key(record: Record) -> Key:
    """What a record is about: the matrix's name in its run, and the cell's id.

    A repeat of a cell has the item's name: ``ID#2``.
    """
    repeat = record.get("repeat", 1)
    name = str(record["cell"]["id"]) + (f"#{repeat}" if repeat != 1 else "")
    return matrix_name(record), name


def unique_names(paths: Iterable[Path]) -> dict[Path, str]:
    """What each of a run's matrix files is called in it: its name, or as much before it as need be.

    ``a/m.yaml`` and ``b/m.yaml`` are these, and ``n.yaml`` beside them is just that.
    """
    every = sorted(set(paths))

    def name(path: Path) -> str:
        possible = list(may_be_called(path))
        return next((name for name in possible
                     if sum(_goes_by(other, name) for other in every) == 1), possible[-1])

    return {path: name(path) for path in every}


def _goes_by(path: Path, name: str) -> bool:
    return f"/{path}".endswith(f"/{name}")


def may_be_called(path: Path) -> Iterator[str]:
    """The names that a matrix file can have in a run, the shortest first."""
    parts = path.absolute().parts
    return ("/".join(parts[-length:]).lstrip("/") for length in range(1, len(parts) + 1))


class Finished:
    """The finished cells of a run directory.

    A cell is finished when it has a record, unless that record's verdict is ``error``: then
    nothing was learnt, and the cell is to be run again. ``notice`` hears of a record that a crash
    cut off. Raises UserError if this is no directory of a run, or its records are none.
    """

    def __init__(self, run_dir: Path, notice: Callable[[str], None] = lambda line: None) -> None:
        self.run_dir = run_dir
        self.records: dict[Key, Record] = {}
        check_is_run(run_dir)
        for record in read_records(run_dir / RECORDS, notice):
            self.records[key(record)] = record
        for about, record in list(self.records.items()):
            if record["verdict"] == Verdict.ERROR:
                del self.records[about]

    def check(self, matrix: Path, cells: Iterable[Cell], named: Iterable[Path] = ()) -> None:
        """Raise UserError if the directory is one of another matrix, or of this one as it was.

        ``named`` are all matrix files of this run; empty: they are not known.
        """
        cells_by_id = {cell.id: cell for cell in cells}
        named = [path.absolute() for path in named]
        for (name, item), record in self.records.items():
            cell_id = item.partition("#")[0]
            of_it = [path for path in named if _goes_by(path, name)]
            if named and len(of_it) != 1:
                files = ", ".join(sorted({path.name for path in named}))
                raise self._other(
                    f"it is a run of one {name}, and here are several" if of_it else
                    f"it is a run of {name or 'another matrix'}, not of {files}")
            if not _goes_by(matrix.absolute(), name):
                continue
            if cell_id not in cells_by_id:
                raise self._other(f"{matrix} has no cell {cell_id}")
            if record.get("fingerprint") != fingerprint(cells_by_id[cell_id]):
                raise self._other(f"{matrix} has changed: cell {cell_id} is another now")

    def _other(self, why: str) -> UserError:
        return UserError(f"cannot go on with this run: {why}", file=self.run_dir,
                         hint="start a new one, without --resume")

    def record(
        self, matrix: Path, cell: Cell, described: Mapping[str, Any], repeat: int = 1
    ) -> Record | None:
        """The record of a cell's ``repeat``-th run, or None if it is to be run.

        ``described`` is the cell as a record of today would have it: a QEMU or firmware that was
        built anew under its old name is another one, and its cells are run again.
        """
        item = cell.id if repeat == 1 else f"{cell.id}#{repeat}"
        found = (self.records.get((name, item)) for name in may_be_called(matrix))
        record = next((record for record in found if record is not None), None)
        if record is None or record["cell"] != dict(described):
            return None
        return record

    def has(self, matrix: Path, cell: Cell, repeat: int = 1) -> bool:
        """Whether there is a record of a cell's ``repeat``-th run, be it of other builds."""
        item = cell.id if repeat == 1 else f"{cell.id}#{repeat}"
        return any((name, item) in self.records for name in may_be_called(matrix))

    def tidy(self) -> None:
        """Leave only the records of finished cells in the file."""
        replace_records(self.run_dir / RECORDS, list(self.records.values()))
