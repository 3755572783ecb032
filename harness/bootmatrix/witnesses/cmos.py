"""The bytes of the CMOS that are the user's: the guest counts its boots there, ``ProbeLine.cmos``.

On a board without one it is the memory that has its place there (``Given.nvram``).
They live as long as the QEMU process, and move with the guest.
"""

from __future__ import annotations

from typing_extensions import TypedDict

from bootmatrix.model import Verdict
from bootmatrix.witnesses.moment import Moment, Problem


class CmosRow(TypedDict, total=False):
    """Its part of a boot in the record."""

    cmos: str | None


def row(moment: Moment) -> CmosRow:
    """What it puts into the record: what became of it since the boot before."""
    now, last = _now(moment), moment.boots[-1].line if moment.boots else None
    before = last.cmos if last else None
    if now is None or before is None:
        return {"cmos": None}
    return {"cmos": "survived" if now > before else "lost"}


def lost(moment: Moment) -> Problem | None:
    """It must survive a reset. A new process has a new one."""
    now, before = _now(moment), _before(moment)
    if moment.step == "start" or moment.given.real:
        return None
    if now is None or before is None or now == before + 1:
        return None
    return Verdict.WRONG_CMOS, (
        f"the guest's count of its boots in the {moment.given.nvram} is {now}, "
        f"expected {before + 1}"
        + (": what it had written there is lost" if now <= before else "")
    )


def changed(moment: Moment) -> Problem | None:
    """Without a boot nobody writes there."""
    now, before = _now(moment), _before(moment)
    if now is None or before is None or now == before:
        return None
    nvram = moment.given.nvram
    return Verdict.WRONG_CMOS, (
        f"the {nvram} has lost the guest's count of its boots, {before}" if not now else
        f"the guest's count of its boots in the {nvram} went from {before} to {now}"
    )


def _now(moment: Moment) -> int | None:
    return moment.line.cmos if moment.line else None


def _before(moment: Moment) -> int | None:
    return moment.before.cmos if moment.before else None
