"""The one cell that a user means by an id: looked up in a matrix, or read out of its record."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from harness.axes import DEFAULTS
from harness.builds import Builds
from harness.errors import UserError
from harness.matrix import load
from harness.model import Accel, Arch, Cell, Disk, GuestKind, HostSpec, Nic, Policy, role_name
from harness.records import read_records
from harness.scenarios import LIBRARY
from harness.sources import Given


def from_matrix(cell_id: str, path: Path, builds: Builds, given: Given | None = None) -> Cell:
    """The cell of a matrix file. Raises UserError where there is none of this id, with a hint."""
    if not path.is_file():
        raise UserError("no such matrix file", file=path)
    matrix = load(path, given)
    builds.check(matrix.used_hosts(), matrix.place)
    builds.prepare(matrix.used_hosts(), place=matrix.place)
    cells = {cell.id: cell for cell in matrix.cells(builds.machines)}
    if cell_id not in cells:
        close = get_close_matches(cell_id, cells, n=2, cutoff=0.8)
        raise UserError(f"no such cell: {cell_id}", file=path,
                        hint="near it: " + "  ".join(close) if close
                        else f"`bootmatrix list {path}` shows the ids")
    return cells[cell_id]


def from_records(cell_id: str, path: Path, builds: Builds) -> Cell:
    """The cell of a record, with the builds that the record names as the catalogue has them now.

    Raises UserError for a record whose builds or scenario only its matrix knows.
    """
    found = None
    ids = []
    for record in read_records(path):
        ids.append(str(record["cell"]["id"]))
        if ids[-1] == cell_id:
            found = {**DEFAULTS, **record["cell"]}
    if found is None:
        close = get_close_matches(cell_id, ids, n=2, cutoff=0.8)
        raise UserError(f"no record of a cell {cell_id}", file=path,
                        hint="near it: " + "  ".join(close) if close else f"{len(ids)} records")
    if found["scenario"] not in LIBRARY:
        raise UserError(f"scenario {found['scenario']} is not in the library, and a record does "
                        "not hold its steps", file=path, hint="give its matrix: --matrix FILE")
    cell = Cell(
        tuple(_hosts(found)), found["machine"], Policy(found["policy"]),
        LIBRARY[found["scenario"]], Disk(found["disk"]), Accel(found["accel"]),
        seconds=float(found.get("boot_timeout", Cell.seconds)),
        arch=Arch(found["arch"]), guest=GuestKind(found["guest"]), cpu=found["cpu"],
        smp=found["smp"], nic=Nic(found["nic"]),
    )  # fmt: skip
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
        hosts.append(HostSpec(row["host"], row["build"], row["firmware"], Arch(cell["arch"])))
    return hosts
