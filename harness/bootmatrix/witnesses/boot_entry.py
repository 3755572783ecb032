"""Which of the guest's programs the firmware has started: whether its boot entries are used.

Observed as ``ProbeLine.program``, the path of the file that runs.
"""

from __future__ import annotations

from typing_extensions import TypedDict

from bootmatrix.model import PROGRAMS, BootBy, Verdict
from bootmatrix.witnesses.moment import Moment, Problem

_OWN = {path: by for by, path in PROGRAMS.items()}
_WANTED = {
    BootBy.DEFAULT: "its own default",
    BootBy.ORDER: "the guest's entry in BootOrder",
    BootBy.NEXT: "the guest's entry in BootNext",
}


class ProgramRow(TypedDict, total=False):
    """The program that was started, and what names it, beside what must have named one."""

    path: str
    booted_by: str | None
    expected: str


class BootEntryRow(TypedDict, total=False):
    """Its part of a boot in the record, where a guest tells, and has a variable store."""

    program: ProgramRow


def row(moment: Moment) -> BootEntryRow:
    """What it puts into the record of a boot."""
    line, expected = moment.line, moment.expected.booted_by
    if line is None or line.program is None or expected is None:
        return {}
    found = booted_by(line.program)
    return {"program": {
        "path": line.program, "booted_by": found and found.value, "expected": expected.value,
    }}  # fmt: skip


def booted_by(program: str) -> BootBy | None:
    """What makes firmware start this file; None: nothing that is known here."""
    path = program.upper().replace("\\", "/").strip("/")
    return BootBy.DEFAULT if path.startswith("EFI/BOOT/BOOT") else _OWN.get(path)


def problem(moment: Moment) -> Problem | None:
    """The guest's firmware has started another program than its entries say."""
    line, expected = moment.line, moment.expected.booted_by
    if line is None or line.program is None or expected is None:
        return None
    if booted_by(line.program) is expected:
        return None
    return Verdict.WRONG_PROGRAM, (
        f"the firmware has started {line.program or 'no file'}, expected {_WANTED[expected]}")
