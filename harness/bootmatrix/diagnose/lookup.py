"""The one cell that a user means by an id: looked up in a matrix, or read out of its record."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from bootmatrix.arguments import ArgumentSet, complaint
from bootmatrix.builds.host import Builds
from bootmatrix.cell import AXES, NAME, Cell
from bootmatrix.errors import UserError
from bootmatrix.matrix.axes import DEFAULTS
from bootmatrix.matrix.expansion import Matrix, load
from bootmatrix.matrix.sources import GivenBuilds
from bootmatrix.model import (
    LIMITS,
    Arch,
    BoardSource,
    GuestKind,
    HostSpec,
    Limits,
    SavedSource,
    role_name,
)
from bootmatrix.records.jsonl import read_records
from bootmatrix.records.merged import key, meant
from bootmatrix.records.scenario import scenario_of
from bootmatrix.records.words import plural

_BUILD = r"^[A-Za-z0-9][A-Za-z0-9._+~:-]*$"  # a package's version is in its name


def from_matrix(cell_id: str, path: Path, builds: Builds, given: GivenBuilds | None = None) -> Cell:
    """The cell of a matrix file. Raises UserError where there is none of this id, with a hint."""
    found, matrix = _cells(path, builds, given)
    cells = {cell.id: cell for cell in found}
    if cell_id not in cells:
        close = get_close_matches(cell_id, cells, n=2, cutoff=0.8)
        raise UserError(f"no such cell: {cell_id}", file=path,
                        hint="near it: " + "  ".join(close) if close
                        else f"`bootmatrix list {path}` shows the ids")
    if any(isinstance(host.qemu, BoardSource) for host in cells[cell_id].hosts):
        raise UserError(f"{cell_id} is a real board's, and this is about QEMUs", file=path,
                        hint="`bootmatrix run --cell` runs it, `bootmatrix bench` sees the board")
    if any(isinstance(host.qemu, SavedSource) for host in cells[cell_id].hosts):
        raise _of_saved(cell_id, path)
    builds.prepare(cells[cell_id].hosts, place=matrix.place)
    return cells[cell_id]


def cells_of(path: Path, builds: Builds) -> Sequence[Cell]:
    """All cells of a matrix file. Raises UserError."""
    return _cells(path, builds)[0]


def _cells(
    path: Path, builds: Builds, given: GivenBuilds | None = None
) -> tuple[Sequence[Cell], Matrix]:
    if not path.exists():
        raise UserError("no such matrix file", file=path)
    matrix = load(path, given)
    if given is not None:
        given.check_meant()
    builds.check(matrix.used_hosts, matrix.place)

    def machines_of(host: HostSpec) -> tuple[str, ...]:
        if isinstance(host.qemu, str):
            builds.prepare([replace(host, firmware=None)])
        return builds.machines(host)

    return tuple(matrix.cells(machines_of)), matrix


def _of_saved(cell_id: str, path: Path) -> UserError:
    return UserError(f"{cell_id} goes on with a saved guest, whose first QEMU is not here",
                     file=path, hint="`bootmatrix run --cell` runs it")


def from_records(cell_id: str, path: Path, builds: Builds) -> Cell:
    """The cell of a record, with the builds that the record names as the catalogue has them now.

    It is given by its id, or as MATRIX::ID. Raises UserError for a record whose builds or scenario
    only its matrix knows, and for an id that cells of several matrices have.
    """
    records = {key(record): record for record in read_records(path)}
    about = meant(cell_id, records, path)
    if about is None:
        close = get_close_matches(cell_id, sorted({cell for _, cell in records}), n=2, cutoff=0.8)
        raise UserError(f"no record of a cell {cell_id}", file=path,
                        hint="near it: " + "  ".join(close) if close else f"{len(records)} cells")
    found: dict[str, Any] = {**DEFAULTS, **records[about]["cell"]}
    if "saved" in found.get("source", {}):
        raise _of_saved(cell_id, path)
    scenario = scenario_of(records[about])
    if scenario is None:
        raise UserError(f"scenario {found['scenario']} is not in the library, and this record does "
                        "not hold its steps", file=path, hint="give its matrix: --matrix FILE")
    if found["guest"] not in set(GuestKind):
        raise UserError(f"{found['guest']} is a guest of the matrix's own, and its record does not "
                        "hold what it is made of", file=path, hint="give its matrix: --matrix FILE")
    try:
        hosts = tuple(_hosts(found))
        if len(hosts) < scenario.hosts_needed:
            raise ValueError(f"its scenario goes to {plural(scenario.hosts_needed, 'host')}, "
                             f"and it has {len(hosts)}")
        sets = {name: _set(found, name) for name, axis in AXES.items() if axis.type is ArgumentSet}
        values = {name: axis.parse(found.get(name)) for name, axis in AXES.items()
                  if name not in sets} | sets
        cell = Cell(
            hosts, **values | {"scenario": scenario},
            seconds=float(found.get("boot_timeout", Cell.seconds)), patience=found.get("patience"),
            limits=Limits(**{name: value for name, value in found.get("limits", {}).items()
                             if name in LIMITS}),
        )
    except ValueError as error:  # of an enum: 'x' is not a valid Policy
        raise UserError(f"cell {cell_id}: {error}", file=path) from None
    try:
        builds.check(cell.hosts)
        builds.prepare(cell.hosts)
        for host in cell.hosts:
            builds.host(host)
    except UserError as error:
        raise UserError(str(error), file=path, hint="give its matrix: --matrix FILE") from None
    return cell


def _hosts(cell: Mapping[str, Any]) -> list[HostSpec]:
    hosts: list[HostSpec] = []
    while (row := cell.get(role_name(len(hosts)))) is not None:
        role = role_name(len(hosts))
        name, build, firmware = (_checked(f"{role}.{key}", row.get(key), pattern)
                                 for key, pattern in (("host", NAME), ("build", _BUILD),
                                                      ("firmware", _BUILD)))
        hosts.append(HostSpec(name, build, firmware, Arch(cell["arch"]),
                              _words(f"{role}.arguments", row.get("arguments", ()))))
    return hosts


def _set(cell: Mapping[str, Any], axis: str) -> ArgumentSet:
    """The set of arguments that a record's cell has."""
    words = _words(f"words.{axis}", cell.get("words", {}).get(axis, ()))
    name = cell.get(axis, "")
    return ArgumentSet(_checked(axis, name, NAME) if name else "", words)


def _words(key: str, words: Sequence[str]) -> tuple[str, ...]:
    """Arguments that a matrix could have."""
    if (wrong := complaint(words)) is not None:
        raise ValueError(f"{key}: {wrong}")
    return tuple(words)


def _checked(key: str, value: Any, pattern: str) -> str:
    """A value that a matrix could have: what is made of it goes into command lines and scripts."""
    if not isinstance(value, str) or re.search(pattern.removesuffix("$") + r"\Z", value) is None:
        raise ValueError(f"{key} is {value!r}, which no matrix can hold")
    return value
