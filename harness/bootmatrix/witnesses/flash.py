"""What came of a guest that programs its own flash: ``StepObserved.flash``, ``cut_off``."""

from __future__ import annotations

from typing_extensions import TypedDict

from bootmatrix.model import Verdict
from bootmatrix.witnesses.moment import Moment, Problem, last_line
from bootmatrix.witnesses.observation import StepObserved


class ProgrammedRow(TypedDict, total=False):
    """How much was programmed, in bytes, and how it ended."""

    size: int | None
    written: int | None
    result: str | None


class FlashRow(TypedDict, total=False):
    """Its part of a step in the record."""

    flash: ProgrammedRow


def step_row(seen: StepObserved) -> FlashRow:
    """What it puts into the record."""
    if seen.cut_off is not None:
        return {"flash": {"size": None, "written": seen.flashed, "result": "cut-off"}}
    if seen.flashed is not None:
        return {"flash": {"size": None, "written": seen.flashed, "result": "power-loss"}}
    if (flash := seen.flash) is None:
        return {}
    return {"flash": {"size": flash.size, "written": flash.written, "result": flash.result}}


def problem(moment: Moment) -> Problem | None:
    """It was cut off; what is then in the ROM, where it was not, is another witness's."""
    seen = moment.seen
    if seen.cut_off is None:
        return None
    return Verdict.NO_BOOT, (
        f"cut off after {seen.flashed} bytes or more were programmed, "
        f"the flash is half-written: {last_line(seen.cut_off)}"
    )
