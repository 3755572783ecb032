"""Cells for tests on real QEMUs, in few words."""

from __future__ import annotations

from bootmatrix.cell import Cell
from bootmatrix.model import Disk, HostSpec
from bootmatrix.policies import Policy
from bootmatrix.steps.library import LIBRARY

HOSTS = {
    name: HostSpec(name, f"debian-{name}") for name in ("bullseye", "bookworm", "trixie", "sid")
}


def cell(
    route: str,
    policy: str,
    scenario: str = "migrate-reset",
    machine: str = "pc-i440fx-5.2",
    disk: str = "ide",
    seconds: float = 10.0,
    patience: float | None = None,
) -> Cell:
    """A cell of the library; ``route`` is like ``bullseye sid``. Without patience by default."""
    return Cell(
        tuple(HOSTS[name] for name in route.split()),
        machine,
        Policy(policy),
        LIBRARY[scenario],
        Disk(disk),
        seconds=seconds,
        patience=seconds if patience is None else patience,
    )
