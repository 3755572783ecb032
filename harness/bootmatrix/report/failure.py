"""One failed cell told to a person: what was expected, what was seen, where to look further."""

from __future__ import annotations

from collections.abc import Sequence

from bootmatrix.records.model import BootRow, Record
from bootmatrix.records.outcome import Outcome, outcome_of
from bootmatrix.records.words import command_line, declared, duration
from bootmatrix.report.summary import rerun_command


def failure(
    record: Record, *, artifacts: str, records: str | None = None, tail: Sequence[str] = (),
    command: str = "bootmatrix",
) -> str:
    """The text pytest shows for a failed cell.

    ``artifacts`` is the cell's directory as it is to be shown, ``records`` what the record is in,
    if command lines are to be told, ``tail`` the console's last lines, ``command`` how bootmatrix
    is called here.
    """
    lines = [*_headline(record), ""]
    if record["boots"]:
        lines += [*_boots(record["boots"]), ""]
    if tail:
        lines += ["the console's last lines:", *(f"    {line}" for line in tail), ""]
    if records is not None and (qemus := record.get("qemus")):
        others = f"; the others' are in {records}, as qemus" if len(qemus) > 1 else ""
        lines += [f"the last QEMU's command line{others}:", f"    {command_line(qemus[-1])}", ""]
    again = rerun_command(record, command)
    return "\n".join((*lines, f"artifacts: {artifacts}", f"again: {again}"))


def _headline(record: Record) -> list[str]:
    verdict, reason, outcome = record["verdict"], str(record["reason"]), outcome_of(record)
    if outcome is Outcome.ERROR:
        whole = str(record.get("error") or reason)  # with argv and the last output
        return ["the rig broke; nothing was learnt about the firmware:", whole.rstrip()]
    if outcome is Outcome.FIXED:
        return [f"passes, but the matrix declares a failure (--strict-known): {declared(record)}",
                "Take the entry out of known:, or narrow its condition."]
    lines = [reason if reason.startswith(verdict) else f"{verdict}: {reason}"]
    if record.get("black_box"):
        lines.append(f"black box: {record['black_box']}")
    if record.get("known") is not None:
        lines.append(f"(The matrix declares something else: {declared(record)})")
    return lines


def _boots(boots: Sequence[BootRow]) -> list[str]:
    rows = [("boot", "step", "host", "expected", "console", "rom", "guest up")]
    for boot in boots:
        up = ("late" if boot.get("usual") else "yes") if boot["up"] else "no"
        took = "" if boot.get("seconds") is None else f", {duration(boot['seconds'])}"
        if took and boot.get("wall_seconds") is not None:
            took += f" ({duration(boot['wall_seconds'])} by the clock)"
        rows.append((
            str(boot["n"]), boot["step"], boot["host"], str(boot["expected"]),
            boot["console"] or "-", boot["rom"] or "-", up + took,
        ))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
            for row in rows]
