"""The ACPI and SMBIOS tables in the guest's memory: ``ProbeLine.acpi`` and ``smbios``.

The firmware takes them from fw_cfg at a boot. The sums are over what is QEMU's in them.
"""

from __future__ import annotations

from typing_extensions import TypedDict

from bootmatrix.model import Verdict
from bootmatrix.witnesses.moment import Moment, Problem
from bootmatrix.witnesses.probe_line import ProbeLine


class TablesRow(TypedDict, total=False):
    """Its part of a boot in the record, and of a running guest's answer."""

    acpi: str | None
    smbios_tables: str | None


def row(line: ProbeLine | None) -> TablesRow:
    """What it puts into the record; None where the line does not tell."""
    return {"acpi": line.acpi if line else None, "smbios_tables": line.smbios if line else None}


def changed(moment: Moment) -> Problem | None:
    """They stay what they are until the next boot, wherever the guest goes."""
    line, before = moment.line, moment.before
    # Who programs its flash puts another firmware where the tables can be.
    if line is None or before is None or moment.seen.flash is not None:
        return None
    was, now = _sums(before), _sums(line)
    found = ", ".join(f"{name} {was[name]} before, now {now[name]}" for name in was
                      if None not in (was[name], now[name]) and was[name] != now[name])
    return (Verdict.WRONG_TABLES, f"tables of the running guest have changed: {found}") \
        if found else None


def _sums(line: ProbeLine) -> dict[str, str | None]:
    return {"ACPI": line.acpi, "SMBIOS": line.smbios}
