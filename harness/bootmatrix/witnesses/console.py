"""The serial console, which decides: the firmware's banners, and the guest that comes up.

Observed as ``BootObserved.banners``, ``up`` and ``spoke``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Required

from pydantic import Field
from typing_extensions import TypedDict

from bootmatrix.firmware.identity import ConsoleName, own
from bootmatrix.model import Verdict
from bootmatrix.steps.start import Start
from bootmatrix.witnesses import resets
from bootmatrix.witnesses.moment import Moment, Problem, clock_note, last_line, time_given

FIRST = Field(fail_fast=True)  # of a million wrong ones the first will do
Texts = Annotated[list[str], FIRST]


class ConsoleRow(TypedDict, total=False):
    """Its part of a boot in the record."""

    console: Required[str | None]
    banners: Texts
    console_candidates: Texts | None


def row(moment: Moment) -> ConsoleRow:
    """What it puts into the record."""
    named = name(moment)
    return {
        "console": named.name if named else None,
        "banners": list(moment.boot.banners),
        "console_candidates": list(named.candidates) if named else [],
    }


def name(moment: Moment) -> ConsoleName | None:
    """What the console, or else the guest that came up on it, calls the firmware of a boot."""
    boot = moment.boot
    banners = own(boot.banners)
    printed = banners[-1] if banners else boot.up and boot.up.bios_version
    if not printed:
        return None
    console, wanted = moment.firmware.by_print(printed), moment.expected.firmware
    if wanted is not None and decides(console) and wanted in console.candidates:
        return replace(console, name=wanted)  # of two names for the same bytes
    return console


def decides(console: ConsoleName) -> bool:
    """Whether what the console said names one known build, and not several or none."""
    return console.name in console.candidates


def problem(moment: Moment) -> Problem | None:
    """The guest did not come up, or several firmware said their names."""
    boot = moment.boot
    if boot.up is None:
        why = (f"in {time_given(boot.limit, boot.seconds, boot.wall)}"
               f"{clock_note(boot.seconds, boot.wall)}")
        if boot.ended is not None:
            why = f"before QEMU ended: {last_line(boot.ended)}"
        if boot.panic is not None:
            return Verdict.NO_BOOT, f"the kernel panicked: {boot.panic}"
        why = resets.goes_round(moment, why) + _in_the_rom(moment)
        if boot.spoke and boot.nameless:
            return Verdict.NO_BOOT, f"the firmware spoke, but the guest did not come up {why}"
        if boot.spoke and not boot.banners:
            return Verdict.SILENT, f"something on the console, but no firmware's banner {why}"
        if not boot.banners:
            return Verdict.SILENT, f"not a byte {why}"
        named = name(moment)
        again = f" (and {len(boot.banners) - 1} more)" if len(boot.banners) > 1 else ""
        return Verdict.NO_BOOT, (
            f"a banner of {named and named.name}{again}, but the guest did not come up {why}"
        )
    if len(set(own(boot.banners))) > 1:
        return Verdict.WITNESS_CONFLICT, (
            f"the banners of one boot differ: {', '.join(own(boot.banners))}"
        )
    return None


def said_again(moment: Moment) -> Problem | None:
    """It said its name more often than the machine began anew: once, and once for each reset.

    That of a start counts as one, that of a reset is counted already. One that comes before the
    firmware has spoken has no banner.
    """
    boot = moment.boot
    if boot.resets is None:
        return None
    begun = boot.resets + (moment.step == Start.kind)
    said = len(own(boot.banners))
    if said <= max(begun, 1):
        return None
    return Verdict.WITNESS_CONFLICT, (
        f"the firmware's banner came {said} times, and the machine began "
        f"{'once' if begun < 2 else f'{begun} times'}"
    )


def _in_the_rom(moment: Moment) -> str:
    """What the ROM holds where that is not the boot's firmware, as reasons say it.

    It does not decide what ran, and may well be why nothing did.
    """
    wanted = moment.expected.firmware
    if moment.rom is None or wanted is None or moment.rom == wanted:
        return ""
    return f"; the ROM's bytes are {moment.rom}, expected {wanted}"
