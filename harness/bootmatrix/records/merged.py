"""The records of one cell, run more than once, told as one: flaky where they differ."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from bootmatrix.errors import UserError
from bootmatrix.records.model import Record
from bootmatrix.records.outcome import WORST_FIRST, outcome_of
from bootmatrix.records.words import hosts_of, matrix_name, natural

Key = tuple[str, str]
HostBuild = tuple[str | None, ...]
HostBuilds = tuple[HostBuild, ...]


def key(record: Record) -> Key:
    """What a record is about: the matrix file's name, and the cell's id."""
    return matrix_name(record), str(record["cell"]["id"])


def builds_of(record: Record) -> HostBuilds:
    """The builds of a cell's hosts: names, and the digests of their bytes where it has them."""
    return tuple((host.get("qemu"), host.get("build"), host.get("firmware"), host.get("digest"),
                  host.get("firmware_sha256")) for host in hosts_of(record))


def whole_name(about: Key) -> str:
    """What a cell is called where several matrices have one of its id."""
    return "::".join(about)


def meant(given: str, known: Iterable[Key], file: Path) -> Key | None:
    """The one of those known in a file that somebody means by an id, or by MATRIX::ID.

    None: there is no such. Raises UserError where several matrices have it.
    """
    found = sorted({about for about in known if given in (about[1], whole_name(about))})
    if len(found) > 1:
        raise UserError(f"cell {given} is one of {' and one of '.join(name for name, _ in found)}",
                        file=file, hint=f"say which: {whole_name(found[0])}")
    return found[0] if found else None


# What a record says beside its verdict.
_BESIDE: tuple[Literal["run_again", "retried", "layout_mismatch"], ...] = (
    "run_again", "retried", "layout_mismatch")


def merged(records: Iterable[Record]) -> list[Record]:
    """One record for each cell, in the order of the ids.

    Several of one cell give the worst of them, with ``flaky`` (how often each verdict came) if
    their verdicts differ, and with ``times``: the seconds of all. Nothing is averaged.
    Cells of several matrices that have one id are ``called`` by both names.
    """
    groups: dict[Key, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    ids = Counter(cell for _, cell in groups)
    ordered = sorted(groups.items(), key=lambda item: (item[0][0], natural(item[0][1])))
    return [_one(group) if ids[about[1]] == 1 else {**_one(group), "called": whole_name(about)}
            for about, group in ordered]


def _one(group: list[Record]) -> Record:
    if len(group) == 1:
        return group[0]
    counts = Counter(str(record["verdict"]) for record in group)
    worst = min(group, key=lambda record: WORST_FIRST.index(outcome_of(record)))
    one: Record = {**worst, "repeats": len(group)}
    for beside in _BESIDE:  # no better verdict takes it back
        if said := next((record[beside] for record in group if record.get(beside)), None):
            one.setdefault(beside, said)
    times = [float(record["seconds"]) for record in group if record.get("seconds")]
    if times:
        one |= {"times": times, "seconds": statistics.median(times)}
    if len(counts) > 1:
        one["flaky"] = dict(sorted(counts.items()))
    return one
