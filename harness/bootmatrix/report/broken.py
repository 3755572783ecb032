"""What broke: failed cells by their reason, and the commands with which one goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bootmatrix.model import role_index, role_name
from bootmatrix.records.model import Record
from bootmatrix.records.outcome import WORST_FIRST, Outcome, outcome_of
from bootmatrix.records.words import called, host_of, hosts_of, joined, natural
from bootmatrix.report.causes import Neighbour
from bootmatrix.report.compare import steady
from bootmatrix.report.markdown import reason
from bootmatrix.report.summary import rerun_command


@dataclass(frozen=True)
class Group:
    """Cells that ended alike, for the same reason but for times.

    ``declared`` and ``link`` are of the matrix's ``known`` entry, empty where there is none.
    ``commands`` are of the first cell: what each is for, and the command.
    """

    outcome: Outcome
    reason: str
    declared: str
    link: str
    cells: list[str]
    commands: list[tuple[str, str]]


def broken(
    records: Sequence[Record], near: Mapping[str, Neighbour], command: str = "bootmatrix"
) -> list[Group]:
    """The groups of failed cells, the worst first, then the larger; known ones after them."""
    named = {called(record): record for record in records}
    groups: dict[tuple[Outcome, str, str], list[Record]] = {}
    for record in records:
        outcome = outcome_of(record)
        if outcome.is_bad or outcome is Outcome.KNOWN:
            known = str(record.get("known") or "")
            # What is known has its reason from the matrix: each cell tells it in its own words.
            about = known if outcome is Outcome.KNOWN else steady(reason(record))
            groups.setdefault((outcome, about, known), []).append(record)
    found = [Group(outcome, reason(cells[0]), known, str(cells[0].get("known_link") or ""),
                   [called(cell) for cell in cells],
                   commands(cells[0], named, near.get(called(cells[0])), command))
             for (outcome, _, known), cells in groups.items()]
    return sorted(found, key=lambda group: (WORST_FIRST.index(group.outcome), -len(group.cells)))


def commands(
    record: Record, named: Mapping[str, Record], near: Neighbour | None,
    command: str = "bootmatrix",
) -> list[tuple[str, str]]:
    """What can be done with a cell, and the command for it. ``near`` is one of the named."""
    where = _where(record)
    cell = str(record["cell"]["id"])
    return [
        ("again", rerun_command(record, command)),
        ("as a script", joined([command, "repro", cell, *where])),
        ("its console", joined([command, "repro", "--attach", cell, *where])),
        ("which build", joined([command, "bisect", "--cell", cell, *where,
                                *_ends(record, named.get(near.cell) if near else None, near)])),
    ]


def _where(record: Record) -> list[str]:
    """The options by which a command finds the cell: its matrix, or the record."""
    options = record.get("options", [])
    if record.get("matrix") and "--host" not in options:
        return ["--matrix", str(record["matrix"]), *options]
    own = [word for flag, value in zip(options[::2], options[1::2], strict=False)
           if flag != "--host" for word in (flag, value)]
    return ["--records", f"{record.get('run_dir', '.')}/records.jsonl", *own]


def _ends(record: Record, good: Record | None, near: Neighbour | None) -> list[str]:
    """The ends of a bisection: the host with which it passes, or the firmware that ran."""
    if good is not None and near is not None:
        try:
            role = role_name(role_index(near.axis))
        except ValueError:  # an axis that is no host's: no build can be told by it
            role = ""
        one, other = host_of(good, role), host_of(record, role)
        if one and other and one.get("build") != other.get("build"):
            newer = natural(str(one.get("qemu"))) > natural(str(other.get("qemu")))
            return ["--over", role, "--good", str(one.get("build")), "--bad",
                    str(other.get("build")), *(["--reverse"] if newer else [])]
    ran = [boot["expected"] for boot in record["boots"] if boot["expected"]] or [
        str(host.get("firmware")) for host in hosts_of(record)]
    return ["--over", "firmware", "--good", "GOOD", "--bad", ran[-1]]
