"""The guest's memory, as far as it is the guest's own program: ``ProbeLine.program_sum``.

A migration that loses a page of memory leaves most guests running, until they need it.
"""

from __future__ import annotations

from typing_extensions import TypedDict

from bootmatrix.model import Verdict
from bootmatrix.witnesses.moment import Moment, Problem
from bootmatrix.witnesses.probe_line import ProbeLine


class MemoryRow(TypedDict, total=False):
    """Its part of a boot in the record, and of a running guest's answer."""

    program_sum: str | None


def row(line: ProbeLine | None) -> MemoryRow:
    """What it puts into the record; None where the line does not tell."""
    return {"program_sum": line.program_sum if line else None}


def changed(moment: Moment) -> Problem | None:
    """A running guest's program is the one that was started, wherever the guest goes."""
    now = moment.line.program_sum if moment.line else None
    before = moment.before.program_sum if moment.before else None
    if now is None or before is None or now == before:
        return None
    return Verdict.WRONG_MEMORY, (
        f"the guest's program in its memory has changed: {before} before, now {now}")
