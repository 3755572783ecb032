"""Whether a guest does what it is told, and still answers: ``StepObserved.failed``, ``answer``."""

from __future__ import annotations

from typing_extensions import TypedDict

from bootmatrix.model import Verdict
from bootmatrix.witnesses import devices, fw_cfg, hardware, kernel, tables
from bootmatrix.witnesses.moment import Moment, Problem, in_seconds, kept_waiting
from bootmatrix.witnesses.observation import StepObserved


class GuestRow(fw_cfg.FwCfgRow, tables.TablesRow, hardware.HardwareRow, kernel.KernelRow,
               devices.DevicesRow, total=False):
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
        **fw_cfg.row(line), **tables.row(line), **hardware.row(line), **kernel.row(line),
        **devices.row(line),
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
    waited = f" (waited {in_seconds(seen.limit)})" if seen.limit else ""
    return Verdict.NO_BOOT, f"{silent}{waited}{kept_waiting(seen.seconds, seen.wall)}"
