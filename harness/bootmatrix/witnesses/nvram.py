"""The nvram file of a guest that has migrated: ``StepObserved.nvram_equal``."""

from __future__ import annotations

from typing_extensions import TypedDict

from bootmatrix.model import Verdict, role_name
from bootmatrix.witnesses.moment import Moment, Problem
from bootmatrix.witnesses.observation import StepObserved


class NvramRow(TypedDict, total=False):
    """Its part of a step in the record."""

    nvram_equal: bool


def step_row(seen: StepObserved) -> NvramRow:
    """What it puts into the record."""
    return {} if seen.nvram_equal is None else {"nvram_equal": seen.nvram_equal}


def problem(moment: Moment) -> Problem | None:
    """It did not arrive whole."""
    seen = moment.seen
    if seen.nvram_equal is not False:
        return None
    return Verdict.WRONG_FIRMWARE, (
        f"the nvram on {role_name(seen.host or 0)} does not hold what the source's did"
    )
