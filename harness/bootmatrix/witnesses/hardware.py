"""The CPUs and the memory that the guest was given: ``ProbeLine.cpus`` and ``memory``."""

from __future__ import annotations

from typing_extensions import TypedDict

from bootmatrix.model import Verdict
from bootmatrix.witnesses.moment import Moment, Problem
from bootmatrix.witnesses.probe_line import ProbeLine

# What firmware keeps for itself, in MiB; measured: docs/model.md.
_BIOS_MIB = 1
_UEFI_MIB = 8
_SMM_MIB = 16
_NO_ACPI = "00000000"


class HardwareRow(TypedDict, total=False):
    """Its part of a boot in the record; memory in KiB, 0 where nothing tells."""

    memory: int | None
    cpus: int | None


def row(line: ProbeLine | None) -> HardwareRow:
    """What it puts into the record; None where the line does not tell."""
    return {"memory": line.memory if line else None, "cpus": line.cpus if line else None}


def problem(moment: Moment) -> Problem | None:
    """The guest sees other CPUs than it was given, or less memory."""
    line, given = moment.line, moment.given
    if line is None:
        return None
    wrong = []
    if _untold(line) and (given.cpus or 0) > 1:
        wrong.append(f"CPUs: nothing tells of any, neither an RSDP nor an MP table, instead of "
                     f"{given.cpus}")
    if line.cpus and given.cpus and line.cpus != given.cpus:
        by_table = line.uefi is None and line.acpi == _NO_ACPI and line.cpus < given.cpus
        # SeaBIOS' src/fw/mptable.c: "the first logical CPU in each package".
        table = " (by the MP table, which has one for each socket)" if by_table else ""
        wrong.append(f"CPUs: {line.cpus} instead of {given.cpus}{table}")
    if line.memory and given.memory_mib:
        reserved = (_BIOS_MIB if line.uefi is None else _UEFI_MIB) + _SMM_MIB * given.smm
        if not (given.memory_mib - reserved) << 10 <= line.memory <= given.memory_mib << 10:
            wrong.append(f"memory: {line.memory} KiB of {given.memory_mib << 10} KiB")
    if not wrong:
        return None
    return Verdict.WRONG_HARDWARE, f"the guest does not see what it was given, {', '.join(wrong)}"


def _untold(line: ProbeLine) -> bool:
    """Whether a BIOS has told the guest of no CPU at all: it has the one on which it runs."""
    return line.uefi is None and line.acpi == _NO_ACPI and line.cpus == 0
