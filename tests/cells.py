"""Cells for tests on real QEMUs, in few words."""

from __future__ import annotations

from harness.model import Cell, Disk, HostSpec, Policy
from harness.scenarios import LIBRARY

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
) -> Cell:
    """A cell of the library; ``route`` is like ``bullseye sid``."""
    return Cell(
        tuple(HOSTS[name] for name in route.split()),
        machine,
        Policy(policy),
        LIBRARY[scenario],
        Disk(disk),
        seconds=seconds,
    )
