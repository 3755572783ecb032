"""The guest's own boot counter, ``ProbeLine.boot``, and QEMU's word that it was reset.

A boot sector keeps it in the CMOS, a guest under UEFI in a variable.
"""

from __future__ import annotations

from typing_extensions import TypedDict

from bootmatrix.model import Verdict
from bootmatrix.witnesses.moment import Moment, Problem


class CounterRow(TypedDict, total=False):
    """Its part of a boot in the record."""

    counter: int | None


def row(moment: Moment) -> CounterRow:
    """What it puts into the record."""
    line = moment.line
    return {"counter": line.boot if line else None}


def _last(moment: Moment) -> int | None:
    """What it was at the last boot."""
    up = moment.boots[-1].line if moment.boots else None
    return up.boot if up else None


def problem(moment: Moment) -> Problem | None:
    """There was a boot in a step that has none."""
    line, counted = moment.line, _last(moment)
    if line is None:
        return None
    if counted is not None and line.boot != counted:
        return Verdict.NO_BOOT, (
            f"the guest has rebooted, its boot counter went from {counted} to {line.boot}"
        )
    if moment.seen.went_round:
        return Verdict.NO_BOOT, (
            "the machine was reset, and nobody had asked for it; the guest does not tell of it"
        )
    return None
