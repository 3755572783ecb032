"""The ACPI and SMBIOS tables in the guest's memory: ``ProbeLine.acpi`` and ``smbios``.

The firmware takes them from fw_cfg at a boot. The sums are over what is QEMU's in them.
"""

from __future__ import annotations

from typing_extensions import TypedDict

from bootmatrix.model import Verdict
from bootmatrix.steps.start import Start
from bootmatrix.witnesses.moment import Moment, Problem
from bootmatrix.witnesses.probe_line import ProbeLine, Tables


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
    found = _differ(before.tables, line.tables, "{} {} before, now {}")
    return (Verdict.WRONG_TABLES, f"tables of the running guest have changed: {found}") \
        if found else None


def found_at(moment: Moment) -> Tables | None:
    """Those of a boot, if it is known on which host they were taken: one that it did not leave."""
    boot = moment.seen.boot
    if boot is None or boot.up is None or moment.begun is not moment.expected:
        return None
    return None if boot.up.tables == (None, None) else boot.up.tables


def stale(moment: Moment) -> Problem | None:
    """After a reset they are those of the host: what a start of the same machine finds there."""
    found = found_at(moment)
    offered = moment.given.offered.get((moment.boot.host, moment.expected.firmware))
    if moment.step == Start.kind or found is None or offered is None:
        return None
    differ = _differ(offered, found, "a start finds {} {}, it found {}")
    return (Verdict.WRONG_TABLES, f"the tables are not those of the host: {differ}") \
        if differ else None


def _differ(one: Tables, other: Tables, words: str) -> str:
    """Where two guests found different tables, in words; empty where they did not."""
    return ", ".join(
        words.format(name.upper(), was, now)
        for name, was, now in zip(Tables._fields, one, other, strict=True)
        if None not in (was, now) and was != now)
