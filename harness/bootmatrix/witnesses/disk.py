"""The disk that the guest booted from, by its label: ``ProbeLine.disk``."""

from __future__ import annotations

from typing_extensions import TypedDict

from bootmatrix.model import Verdict
from bootmatrix.witnesses.moment import Moment, Problem


class DiskRow(TypedDict, total=False):
    """Its part of a boot in the record."""

    disk: str | None
    expected_disk: str | None


def row(moment: Moment) -> DiskRow:
    """What it puts into the record."""
    line = moment.line
    return {"disk": line.disk if line else None, "expected_disk": moment.expected.disk}


def problem(moment: Moment) -> Problem | None:
    """It is another disk than the model says."""
    line, expected = moment.line, moment.expected.disk
    # A kernel that -kernel has started comes from no disk, and says so.
    if line is None or line.disk == expected or (line.kernel and line.disk == ""):
        return None
    return Verdict.WRONG_DISK, f"expected disk {expected}, seen {line.disk}"
