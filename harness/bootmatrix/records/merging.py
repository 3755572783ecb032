"""Several records files read as one: the shards of a run, or the repeats of its cells."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, cast

from bootmatrix.cell import AXES
from bootmatrix.errors import UserError
from bootmatrix.model import role_name
from bootmatrix.records.jsonl import read_records
from bootmatrix.records.merged import HostBuilds, Key, builds_of, key
from bootmatrix.records.model import HostRow, QemuRow, Record
from bootmatrix.records.words import matrix_name


class OtherBuilds(UserError):
    """One cell was run on builds of several kinds: these are several runs, and no repeats."""


OnCutOff = Callable[[str], None]


def load(
    paths: Sequence[Path], *, cut_off: OnCutOff | None = None, mixed: bool = False
) -> list[Record]:
    """The records of all files, in their order, each with its run directory as ``run_dir``.

    What records repeat is kept once: 10,000 records of 10 kB take a tenth of that. A last line
    that a crash cut off is told to ``cut_off``; None: it is an error. Raises UserError at a file
    that is empty or no records file, and, unless ``mixed``, at files of different matrices;
    OtherBuilds at files of which one has a cell with other bytes than another: what came of it is
    then no repeat.
    """
    return [record for part in load_each(paths, cut_off=cut_off, mixed=mixed) for record in part]


def load_each(
    paths: Sequence[Path], *, cut_off: OnCutOff | None = None, mixed: bool = False
) -> list[list[Record]]:
    """The same, file by file."""
    share = _Share()
    parts: list[list[Record]] = []
    matrices: dict[Path, frozenset[str]] = {}
    fingerprints: dict[Key, tuple[str, Path]] = {}
    builds: dict[Key, tuple[HostBuilds, Path]] = {}
    for path in paths:
        records: list[Record] = []
        parts.append(records)
        names = set()
        for record in read_records(path, cut_off or _refuse(path)):
            name = matrix_name(record)
            names.add(name)
            about, mark = key(record), record.get("fingerprint")
            if not mixed:
                _check_builds(builds, about, record, path)
            other = fingerprints.setdefault(about, (mark, path)) if mark else (mark, path)
            if other[0] != mark and not mixed:
                raise UserError(
                    f"cell {about[1]} is another than in {other[1]}: the matrix changed between",
                    file=path, hint="give records of one state of the matrix")
            records.append(share.slim(record))
            record["run_dir"] = _home(path.parent, str(record.get("run") or ""))
        if records:
            matrices[path] = frozenset(names)
        elif len(paths) > 1 and cut_off is not None:
            cut_off(f"{path}: no records in it")  # a shard can have no cell
    if not any(parts):
        raise UserError("no records in it: no cell of the run has ended", file=paths[0])
    first, *others = matrices.items()
    for path, found in others:
        if not mixed and found != first[1]:
            raise UserError(
                f"records of two matrices: {_listed(found)} here, "
                f"{_listed(first[1])} in {first[0]}",
                file=path, hint="give them one at a time")
    return parts


@cache
def _home(beside: Path, run: str) -> str:
    """Where a record's run has its logs: beside it, or, of a copy, where the copy says.

    That is believed of a directory below the copy's own: a stranger's record can name any.
    """
    if run:
        place = Path(os.path.normpath(beside / run))
        if place.is_dir() and place.resolve().is_relative_to(beside.resolve()):
            return str(place)
    return str(beside)


def _check_builds(
    builds: dict[Key, tuple[HostBuilds, Path]], about: Key, record: Record, path: Path
) -> None:
    """Raise OtherBuilds if an earlier file has the cell with other builds."""
    found = builds_of(record)
    before, where = builds.setdefault(about, (found, path))
    # A baseline tells of no digests: what one of both does not know is no difference.
    if before is found or where == path or all(
            one == other or None in (one, other)
            for old, new in zip(before, found, strict=False)
            for one, other in zip(old, new, strict=True)):
        return
    raise OtherBuilds(
        f"cell {about[1]} ran on other builds than in {where}: these are no repeats", file=path,
        hint="`bootmatrix report OLD NEW` shows two runs beside each other, `gate` judges")


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(name or "no matrix" for name in names))


def _refuse(path: Path) -> OnCutOff:
    def refuse(line: str) -> None:
        raise UserError(line.removeprefix(f"{path}:").partition(": ")[2], file=path,
                        hint="finish the run first: bootmatrix run MATRIX --resume DIR")

    return refuse


_HOST = ("host", "qemu", "build", "firmware", "firmware_sha256", "digest", "root")


class _Share:
    """Keeps one object of each that many records hold alike."""

    def __init__(self) -> None:
        self._hosts: dict[tuple[Any, ...], HostRow] = {}
        self._qemus: dict[tuple[Any, ...], QemuRow] = {}

    def slim(self, record: Record) -> Record:
        cell = cast(dict[str, Any], record["cell"])
        for axis in AXES:
            if isinstance(value := cell.get(axis), str):
                cell[axis] = sys.intern(value)
        for index in count():
            if (host := cell.get(role := role_name(index))) is None:
                break
            host.pop("packages", None)  # two thirds of a record, which no report shows
            cell[role] = self._hosts.setdefault(tuple(map(host.get, _HOST)), host)
        record["qemus"] = [
            self._qemus.setdefault((row.get("role"), row.get("version"), *row.get("argv", ())), row)
            for row in record.get("qemus", ())]
        return record
