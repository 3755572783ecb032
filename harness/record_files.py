"""Several records files read as one: the shards of a run, or the repeats of its cells."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.model import RECORD_SCHEMA
from harness.records import read_records

Record = dict[str, Any]
Say = Callable[[str], None]
_PACKAGES = '"packages": {'


def load(
    paths: Sequence[Path], *, cut_off: Say | None = None, mixed: bool = False
) -> list[Record]:
    """The records of all files, in their order, each with its run directory as ``run_dir``.

    What records repeat is kept once: 10,000 records of 10 kB take a tenth of that. A last line
    that a crash cut off is told to ``cut_off``; None: it is an error. Raises UserError at a file
    that is empty or of another schema, and, unless ``mixed``, at files of different matrices.
    """
    share = _Share()
    records: list[Record] = []
    matrices: dict[Path, frozenset[str]] = {}
    fingerprints: dict[tuple[str, str], tuple[str, Path]] = {}
    for path in paths:
        before = len(records)
        names = set()
        for record in read_records(path, cut_off or _refuse(path), _loads):
            _check(record, path, len(records) - before + 1)
            name = matrix_name(record)
            names.add(name)
            about, mark = (name, record["cell"]["id"]), record.get("fingerprint")
            other = fingerprints.setdefault(about, (mark, path)) if mark else (mark, path)
            if other[0] != mark and not mixed:
                raise UserError(
                    f"cell {about[1]} is another than in {other[1]}: the matrix changed between",
                    file=path, hint="give records of one state of the matrix")
            records.append(share.slim(record) | {"run_dir": str(path.parent)})
        if len(records) > before:
            matrices[path] = frozenset(names)
        elif len(paths) > 1 and cut_off is not None:
            cut_off(f"{path}: no records in it")  # a shard can have no cell
    if not records:
        raise UserError("no records in it: the run ended before its first cell", file=paths[0])
    first, *others = matrices.items()
    for path, found in others:
        if not mixed and found != first[1]:
            raise UserError(
                f"records of two matrices: {_listed(found)} here, "
                f"{_listed(first[1])} in {first[0]}",
                file=path, hint="give them one at a time")
    return records


def _loads(line: str) -> Any:
    """A line's JSON without the packages of hosts, two thirds of it, which no report shows."""
    kept, end = [], 0
    while (start := line.find(_PACKAGES, end)) >= 0:  # a key: in a string its quotes are escaped
        kept.append(line[end : start + len(_PACKAGES)])
        end = max(line.find("}", start), start + len(_PACKAGES))
    try:
        return json.loads("".join((*kept, line[end:])) if kept else line)
    except ValueError:
        return json.loads(line)  # whatever that was, the whole line decides


def matrix_name(record: Record) -> str:
    """The name of a record's matrix file, wherever it lay."""
    return str(record.get("matrix") or "").rpartition("/")[2]


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(name or "no matrix" for name in names))


def _refuse(path: Path) -> Say:
    def say(line: str) -> None:
        raise UserError(line.removeprefix(f"{path}:").partition(": ")[2], file=path,
                        hint="finish the run first: bootmatrix run MATRIX --resume DIR")

    return say


def _check(record: Record, path: Path, number: int) -> None:
    """Raise UserError at a record that this program cannot read."""
    schema = record.get("schema")
    if schema != RECORD_SCHEMA:
        found = f"schema {json.dumps(schema)}" if schema is not None else "no schema"
        raise UserError(f"a record with {found}; this bootmatrix reads schema {RECORD_SCHEMA}",
                        file=path, line=number, hint="run the matrix again")
    cell = record["cell"]
    if not isinstance(cell, dict) or not isinstance(cell.get("id"), str):
        raise UserError("no run record: its cell has no id", file=path, line=number)
    missing = [key for key in ("machine", "policy", "scenario") if key not in cell]
    missing += [key for key in ("reason", "boots") if key not in record]
    if missing:
        raise UserError(f"no run record: no {missing[0]} in it", file=path, line=number)


_HOST = ("host", "qemu", "build", "firmware", "firmware_sha256", "digest", "root")


class _Share:
    """Keeps one object of each that many records hold alike."""

    def __init__(self) -> None:
        self._hosts: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._qemus: dict[tuple[Any, ...], dict[str, Any]] = {}

    def slim(self, record: Record) -> Record:
        cell = record["cell"]
        for key, value in cell.items():
            if isinstance(value, dict):
                value.pop("packages", None)
                about = tuple(map(value.get, _HOST))
                cell[key] = self._hosts.setdefault(about, value)
            elif isinstance(value, str) and key != "id":
                cell[key] = sys.intern(value)
        record["qemus"] = [
            self._qemus.setdefault((row.get("role"), row.get("version"), *row.get("argv", ())), row)
            for row in record.get("qemus", ())]
        return record
