"""The ROM's bytes, which confirm what the console says, and need no boot to be read.

Observed as ``BootObserved.rom`` and ``StepObserved.rom``: their sha256.
"""

from __future__ import annotations

from typing import Required

from typing_extensions import TypedDict

from bootmatrix.firmware.identity import KnownFirmware
from bootmatrix.model import Verdict
from bootmatrix.witnesses import console
from bootmatrix.witnesses.moment import Moment, Problem
from bootmatrix.witnesses.observation import StepObserved


class RomRow(TypedDict, total=False):
    """Its part of a boot in the record."""

    rom: Required[str | None]
    rom_sha256: str | None
    told_by: str | None


class RunningRomRow(TypedDict, total=False):
    """Its part of a step without a boot."""

    rom: str | None


def row(moment: Moment) -> RomRow:
    """What it puts into the record of a boot."""
    return {
        "rom": moment.rom,
        "rom_sha256": moment.boot.rom,
        "told_by": _witness(moment),
    }


def step_row(seen: StepObserved, firmware: KnownFirmware) -> RunningRomRow:
    """What it puts into the record of a step."""
    return {} if seen.rom is None else {"rom": firmware.by_bytes(seen.rom)}


def ran(moment: Moment) -> str | None:
    """The firmware of a boot: what the bytes say that confirm the console, else the console."""
    named = console.name(moment)
    return moment.rom or (named.name if named else None)


def _witness(moment: Moment) -> str | None:
    """The witness that tells which known build ran; the console decides wherever it can."""
    named = console.name(moment)
    if named is None or not named.candidates:
        return None
    if console.decides(named):
        return "console"
    return "rom" if moment.rom in named.candidates else None


def problem(moment: Moment) -> Problem | None:
    """ROM and console contradict each other, do not name a firmware, or name another."""
    rom, named = moment.rom, console.name(moment)
    if named is None:
        # The ROM alone does not decide: what ran is what the console shows, and a firmware's
        # shadow copy can outlive the ROM it came from.
        return Verdict.WITNESS_CONFLICT, (
            f"the guest came up, but nothing on the console named a firmware; "
            f"the ROM's bytes are {rom or 'unreadable'}"
        )
    # A text that no known build prints proves nothing about bytes that are not known either.
    unknown = rom is not None and not named.candidates and rom.startswith("sha256:")
    if rom is not None and rom not in named.candidates and not unknown:
        return Verdict.WITNESS_CONFLICT, (
            f"the console says {named.name}, the ROM's bytes are {rom}"
        )
    if rom is None and named.candidates and not console.decides(named):
        return Verdict.ERROR, (
            f"{named.name} is printed by {' and '.join(named.candidates)}, "
            "and the ROM's bytes could not be read"
        )
    expected = moment.expected.firmware
    if ran(moment) != expected:
        return Verdict.WRONG_FIRMWARE, f"expected {expected}, seen {ran(moment)}"
    return None


def changed(moment: Moment) -> Problem | None:
    """A step without a boot must leave in the ROM what is there, or what the guest has flashed."""
    seen, expected = moment.seen, moment.expected.rom
    if seen.rom is None:
        return None
    rom = moment.firmware.by_bytes(seen.rom, expected or "")
    if rom == expected:
        return None
    if seen.flash is not None:
        return Verdict.WRONG_FIRMWARE, (
            f"the guest says {seen.flash.result}, expected {expected} in the ROM, seen {rom}"
        )
    return Verdict.WRONG_FIRMWARE, (
        f"the ROM of the running guest changed to {rom}, expected {expected} until the next reset"
    )
