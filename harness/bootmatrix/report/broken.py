"""What broke: failed cells by their reason, and the commands with which one goes on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bootmatrix.model import role_index, role_name
from bootmatrix.records.model import Record
from bootmatrix.records.outcome import WORST_FIRST, Outcome, outcome_of
from bootmatrix.records.words import called, host_of, hosts_of, joined, natural, steady
from bootmatrix.report.causes import Neighbour
from bootmatrix.report.markdown import reason
from bootmatrix.report.summary import rerun_command

_BISECTED = (Outcome.FAILED, Outcome.FLAKY, Outcome.KNOWN)
"""Of what passes, was not run or broke the rig, no build is the cause."""


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
    """What can be done with a cell, and the command for it.

    ``named`` are the run's cells, ``near`` is one of them.
    """
    script, live = _where(record), _where(record, live=True)
    cell = str(record["cell"]["id"])
    ends = _ends(record, named, near) if outcome_of(record) in _BISECTED else None
    return [
        ("again", rerun_command(record, command)),
        ("as a script", joined([command, "repro", cell, *script])),
        ("its console", joined([command, "repro", "--attach", cell, *live])),
        *([("which build", joined([command, "bisect", "--cell", cell, *live, *ends]))]
          if ends else []),
    ]


def _where(record: Record, *, live: bool = False) -> list[str]:
    """The options by which a command finds the cell: its matrix, or the record.

    ``live``: and those by which it runs it as it was run.
    """
    flat = record.get("options", [])
    options = [(flag, value) for flag, value in zip(flat[::2], flat[1::2], strict=False)
               if live or flag != "--engine"]
    # These know no hosts of the command line: the record has them.
    by_matrix = bool(record.get("matrix")) and all(flag != "--host" for flag, _ in options)
    place = ["--matrix", str(record["matrix"])] if by_matrix else [
        "--records", f"{record.get('run_dir', '.')}/records.jsonl"]
    return place + [word for flag, value in options if flag != "--host" for word in (flag, value)]


def _ends(
    record: Record, named: Mapping[str, Record], near: Neighbour | None
) -> list[str] | None:
    """The ends of a bisection: the host with which it passes, or the firmware that ran.

    None where there can be none: what the user has built himself stands in no list.
    """
    good = named.get(near.cell) if near else None
    if good is not None and near is not None:
        try:
            role = role_name(role_index(near.axis))
        except ValueError:  # an axis that is no host's: no build can be told by it
            role = ""
        one, other = host_of(good, role), host_of(record, role)
        if one and other and not _is_own(record, one, other):
            over = ["--over", role] if role in ("source", "destination") else [
                "--over", "qemu", "--at", role]
            if one.get("build") != other.get("build"):
                return over + _pair(one.get("build"), other.get("build"),
                                    one.get("qemu"), other.get("qemu"))
            if one.get("firmware") != other.get("firmware"):
                return ["--over", "firmware", "--at", role,
                        *_pair(one.get("firmware"), other.get("firmware"))]
    ran = [boot["expected"] for boot in record["boots"] if boot["expected"]] or [
        str(host.get("firmware")) for host in hosts_of(record)]
    bad = ran[-1]
    if bad.startswith("sha256:") or _is_own(record, {"firmware": bad}):
        return None
    # Which one is good nobody has seen. Where there are only newer ones, it is a newer one.
    others = {str(host.get("firmware")) for one in named.values() for host in hosts_of(one)}
    alike = [name for name in others if name != bad and _kind(name) == _kind(bad)]
    newer = alike and all(natural(name) > natural(bad) for name in alike)
    return ["--over", "firmware", "--good", "GOOD", "--bad", bad, *(["--reverse"] if newer else [])]


def _pair(good: Any, bad: Any, good_age: Any = None, bad_age: Any = None) -> list[str]:
    """The options of the ends, of which the newer one may be the good one."""
    newer = natural(f"{good_age} {good}") > natural(f"{bad_age} {bad}")
    return ["--good", str(good), "--bad", str(bad), *(["--reverse"] if newer else [])]


def _kind(firmware: str) -> str:
    """What a firmware is a version of: ``seabios`` of ``seabios-1.14.0-2``."""
    return re.split(r"-\d+\.|-\d{6}", firmware)[0]


def _is_own(record: Record, *hosts: Mapping[str, Any]) -> bool:
    """Whether one of these has a build that the command line named."""
    options = record.get("options", [])
    named = {(flag, value.partition("=")[0])
             for flag, value in zip(options[::2], options[1::2], strict=False)}
    return any(("--qemu", host.get("build")) in named or any(
        flag == "--firmware" and str(host.get("firmware")).startswith(f"{name}-")
        for flag, name in named) for host in hosts)
