"""How often the machine was reset for one boot, by its own word: ``BootObserved.resets``.

Firmware that resets the machine once more comes up like any other: nothing else tells of it.
"""

from __future__ import annotations

import re

from typing_extensions import TypedDict

from bootmatrix.model import Verdict
from bootmatrix.witnesses.moment import Moment, Problem
from bootmatrix.witnesses.observation import BootObserved

# Before, TCG goes on behind the I/O instruction that has asked for a reset, to what SeaBIOS tries
# next: a triple fault, and with it one reset more, or several.
_STOPS_AT_ONCE = (8, 2)

ENDLESS = 100
"""A machine that is reset so often for one boot, and is not up in its time, goes round."""


class ResetsRow(TypedDict, total=False):
    """Its part of a boot in the record."""

    resets: int | None
    swapped: bool


def row(moment: Moment) -> ResetsRow:
    """What it puts into the record."""
    return {"resets": moment.boot.resets, "swapped": moment.boot.swapped}


def problem(moment: Moment) -> Problem | None:
    """The machine was reset more often than anybody has asked for."""
    resets, most = moment.boot.resets, _most(moment)
    if resets is None or most is None or resets <= most:
        return None
    asked = ("and nobody had asked for it", "where once was asked for",
             "where once was asked for, and SeaBIOS does it once more")[most]
    # QEMU runs before it can be heard: of a start, nobody has seen the first resets.
    more = " or more" if moment.step == "start" else ""
    return Verdict.EXTRA_RESET, f"the machine was reset {_times(resets)}{more}, {asked}"


def endless(boot: BootObserved) -> bool:
    """Whether it is not waited for with patience, because the machine goes round.

    It takes all of a processor for nothing: an hour of it would tell no more for certain.
    """
    return boot.up is None and (boot.resets or 0) >= ENDLESS


def goes_round(moment: Moment, why: str) -> str:
    """Why a guest did not come up, by its console, and whether its machine goes round.

    Without a number, which is another each time: the same finding has the same reason.
    """
    if endless(moment.boot):
        rounds = f"the machine was reset {ENDLESS} times and more"
        if moment.boot.ended is not None:
            return f"{why}, and before that {rounds}"
        return f"while {rounds}"  # not for how long: what was watched before is given up sooner
    again = "; the machine was reset again and again" if (moment.boot.resets or 0) > 2 else ""
    return why + again


def _most(moment: Moment) -> int | None:
    """How often it is reset for such a boot, at most; None where nobody can say.

    On a PC a BIOS finds its own used copy below 1 MiB after a reset, which QEMU leaves there:
    SeaBIOS then puts a fresh one in its place, and resets the machine once more.
    """
    if moment.step == "start":
        return 0
    if moment.boot.nameless or moment.boot.swapped or moment.expected.refilled:
        return 1
    steps = (moment.expected, moment.begun or moment.expected)
    return 2 if all(_version(step.qemu) >= _STOPS_AT_ONCE for step in steps) else None


def _version(qemu: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", qemu)[:2]))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
