"""What came, but long after its usual time, when it was waited for: ``StepObserved.usual``."""

from __future__ import annotations

from typing_extensions import TypedDict

from bootmatrix.model import Verdict
from bootmatrix.witnesses.moment import Moment, Problem, came_after, in_seconds


class LateRow(TypedDict, total=False):
    """Its part of a boot in the record, of late ones alone."""

    usual: float | None


def row(moment: Moment) -> LateRow:
    """What it puts into the record."""
    return {} if moment.seen.usual is None else {"usual": moment.seen.usual}


def problem(moment: Moment) -> Problem | None:
    """The guest did what it should, but long after the time in which it usually does."""
    seen = moment.seen
    if seen.usual is None:
        return None
    usual = in_seconds(seen.usual)
    if seen.boot is None:
        return Verdict.LATE, (
            f"not done within {usual} "
            f"(after {came_after(seen.usual, seen.seconds, seen.wall)} when waited for)"
        )
    after = came_after(seen.usual, seen.boot.seconds, seen.boot.wall)
    return Verdict.LATE, f"not up within {usual} (up after {after} when waited for)"
