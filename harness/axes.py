"""The axes of a matrix beside its hosts: their names, and what a cell has on them.

Records are read that are older than an axis: they lack its key, and the value is the default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from harness.model import Arch, Cell, GuestKind, Nic

PLAIN_AXES = ("machine", "policy", "scenario", "disk", "accel",
              "arch", "guest", "cpu", "smp", "nic")  # fmt: skip
DEFAULTS: Mapping[str, str | int] = MappingProxyType({
    "arch": Arch.X86_64.value, "guest": GuestKind.PROBE.value, "cpu": "", "smp": 1,
    "nic": Nic.NONE.value,
})  # fmt: skip
"""Of the axes that not every record has: what a cell without a word about them has."""


def values(cell: Cell) -> dict[str, str | int]:
    """Axis to value, as the ``cell`` of a record has them, in the order of the axes."""
    return {
        "machine": cell.machine, "policy": cell.policy.value, "scenario": cell.scenario.name,
        "disk": cell.disk.value, "accel": cell.accel.value, "arch": cell.arch.value,
        "guest": cell.guest.value, "cpu": cell.cpu, "smp": cell.smp, "nic": cell.nic.value,
    }  # fmt: skip


def is_default(axis: str, value: Any) -> bool:
    """Whether a value goes without saying, so that texts for people leave it out."""
    return axis in DEFAULTS and bool(value == DEFAULTS[axis])


def said(axis: str, cell: Mapping[str, Any]) -> str:
    """A value of a record's cell for people, who shall know of which axis it is: ``smp 2``."""
    value = cell.get(axis, DEFAULTS.get(axis, ""))
    return f"{axis} {value or 'default'}" if axis in ("cpu", "smp", "nic") else str(value)


def telling(cells: Iterable[Mapping[str, Any]]) -> list[str]:
    """The axes after the scenario that a report on these records' cells has to name.

    Those on which they differ, and those on which they have what does not go without saying.
    """
    found: dict[str, set[Any]] = {axis: set() for axis in ("disk", "accel", *DEFAULTS)}
    for cell in cells:
        for axis, there in found.items():
            there.add(cell.get(axis, DEFAULTS.get(axis)))
    return [axis for axis, there in found.items()
            if len(there) > 1 or (axis in DEFAULTS and there - {DEFAULTS[axis]})]
