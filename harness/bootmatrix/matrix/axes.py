"""What reports and lists say of a cell's axes, whose table is bootmatrix.cell's.

Records are read that are older than an axis: they lack its key, and the value is the default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from bootmatrix.cell import AXES

DEFAULTS: Mapping[str, str | int] = MappingProxyType({
    name: axis.plain(axis.default) for name, axis in AXES.items()
    if axis.default is not None and not axis.shown
})
"""Of the axes that not every record has: what a cell without a word about them has."""


def is_default(axis: str, value: Any) -> bool:
    """Whether a value goes without saying, so that texts for people leave it out."""
    return axis in DEFAULTS and bool(value == DEFAULTS[axis])


def labelled(axis: str, cell: Mapping[str, Any]) -> str:
    """A value of a record's cell for people, who shall know of which axis it is: ``smp 2``."""
    value = cell.get(axis, DEFAULTS.get(axis, ""))
    return f"{axis} {value or 'default'}" if AXES[axis].labelled else str(value)


def telling(cells: Iterable[Mapping[str, Any]]) -> list[str]:
    """The axes after the scenario that a report on these records' cells has to name.

    Those on which they differ, and those on which they have what does not go without saying.
    """
    found: dict[str, set[Any]] = {
        name: set() for name, axis in AXES.items() if axis.default is not None}
    for cell in cells:
        for axis, there in found.items():
            there.add(cell.get(axis, DEFAULTS.get(axis)))
    return [axis for axis, there in found.items()
            if len(there) > 1 or (axis in DEFAULTS and there - {DEFAULTS[axis]})]
