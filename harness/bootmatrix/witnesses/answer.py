"""Whether a guest does what it is told, and still answers: ``StepObserved.failed``, ``answer``."""

from __future__ import annotations

import re

from typing_extensions import TypedDict

from bootmatrix.model import Verdict
from bootmatrix.witnesses import devices, fw_cfg, hardware, kernel, memory, tables
from bootmatrix.witnesses.moment import Moment, Problem, clock_note, time_given
from bootmatrix.witnesses.observation import BlackBox, StepObserved

_REAL_MODE = re.compile(r"\b[0-9A-F]{4}:[0-9A-F]{4}\b")
_TAKEN = ("; or SeaBIOS' serial console took what was typed, as it does from a guest that polls "
          "the port while the BIOS' timer interrupt is on (docs/own-vm.md)")


class GuestRow(fw_cfg.FwCfgRow, tables.TablesRow, memory.MemoryRow, hardware.HardwareRow,
               kernel.KernelRow, devices.DevicesRow, total=False):
    """What a running guest answered."""

    counter: int | None
    cmos: int | None
    bios_version: str | None


class AnswerRow(TypedDict, total=False):
    """Its part of a step in the record."""

    guest: GuestRow


def step_row(seen: StepObserved) -> AnswerRow:
    """What it puts into the record."""
    line = seen.answer
    if line is None:
        return {}
    return {"guest": {
        "counter": line.boot, "cmos": line.cmos, "bios_version": line.bios_version,
        **fw_cfg.row(line), **tables.row(line), **memory.row(line), **hardware.row(line),
        **kernel.row(line), **devices.row(line),
    }}  # fmt: skip


def not_done(moment: Moment) -> Problem | None:
    """It did something else than it was told; or nothing has reset its machine."""
    seen = moment.seen
    if seen.failed is None or not seen.not_reset:
        return None if seen.failed is None else (Verdict.NO_BOOT, seen.failed)
    goes_on = "the guest no longer answers"
    if seen.answer is not None:
        goes_on = f"the guest goes on, and answers as boot {seen.answer.boot}"
    return Verdict.NOT_RESET, f"{seen.failed}; {goes_on}"


def missing(moment: Moment) -> Problem | None:
    """It must answer after the step, and does not."""
    seen = moment.seen
    silent = moment.expected.step.must_answer
    if seen.answer is not None or not silent:
        return None
    waited = f" (waited {time_given(seen.limit, seen.seconds, seen.wall)})" if seen.limit else ""
    taken = _TAKEN if moment.given.bios_listens and not _cannot_poll(seen.black_box) else ""
    return Verdict.NO_BOOT, f"{silent}{waited}{clock_note(seen.seconds, seen.wall)}{taken}"


def _cannot_poll(box: BlackBox | None) -> bool:
    """Whether a guest was seen without interrupts of the BIOS': beyond real mode, or with none."""
    return box is not None and not box.blind and (
        _REAL_MODE.search(box.line) is None or "interrupts off" in box.line)
