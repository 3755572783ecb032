"""What a run record means for whoever waits for green or red."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from bootmatrix.model import Verdict

if TYPE_CHECKING:
    from bootmatrix.records.model import Record


class Outcome(StrEnum):
    """A verdict seen in the light of the matrix's ``known`` entries."""

    PASSED = "passed"
    FIXED = "fixed"
    KNOWN = "known"
    UNSUPPORTED = "unsupported"
    FLAKY = "flaky"
    FAILED = "failed"
    ERROR = "error"

    @property
    def is_bad(self) -> bool:
        """Whether a run with such a cell is red whatever the options say."""
        return self in (Outcome.FAILED, Outcome.ERROR, Outcome.FLAKY)


WORST_FIRST = (Outcome.ERROR, Outcome.FAILED, Outcome.FLAKY, Outcome.KNOWN, Outcome.FIXED,
               Outcome.UNSUPPORTED, Outcome.PASSED)
"""The order in which reports name outcomes, and in which one of several stands for all."""


def outcome_of(record: Record) -> Outcome:
    """The outcome of a run record.

    Its ``known`` holds the reason of the entry that matches the cell. ``known_state`` says
    ``changed`` where that entry declares another verdict than the one that happened. ``flaky``
    is there in what bootmatrix.records.merged makes of repeats whose verdicts differ.
    """
    if record.get("flaky"):
        return Outcome.FLAKY
    verdict = record["verdict"]
    declared = record.get("known") is not None and record.get("known_state") != "changed"
    if verdict == Verdict.PASS:
        return Outcome.FIXED if declared else Outcome.PASSED
    if declared:
        return Outcome.KNOWN
    if verdict == Verdict.ERROR:
        return Outcome.ERROR
    return Outcome.UNSUPPORTED if verdict == Verdict.UNSUPPORTED else Outcome.FAILED
