"""The records of one cell, run more than once, told as one: flaky where they differ."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from harness.report.outcome import Outcome, outcome_of
from harness.report.words import natural

Record = Mapping[str, Any]


def key(record: Record) -> tuple[str, str]:
    """What a record is about: the matrix file's name, and the cell's id."""
    return str(record.get("matrix") or "").rpartition("/")[2], str(record["cell"]["id"])


def merged(records: Iterable[Record]) -> list[Record]:
    """One record for each cell, in the order of the ids.

    Several of one cell give the worst of them, with ``flaky`` (how often each verdict came) if
    their verdicts differ, and with ``times``: the seconds of all. Nothing is averaged.
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return [_one(group) for _, group in sorted(
        groups.items(), key=lambda item: (item[0][0], natural(item[0][1])))]


def _one(group: list[Record]) -> Record:
    if len(group) == 1:
        return group[0]
    counts = Counter(str(record["verdict"]) for record in group)
    worst = min(group, key=lambda record: _WORST.index(outcome_of(record)))
    told = dict(worst) | {"repeats": len(group)}
    times = [float(record["seconds"]) for record in group if record.get("seconds")]
    if times:
        told |= {"times": times, "seconds": statistics.median(times)}
    if len(counts) > 1:
        told["flaky"] = dict(sorted(counts.items()))
    return told


_WORST = (Outcome.ERROR, Outcome.FAILED, Outcome.FLAKY, Outcome.KNOWN, Outcome.FIXED,
          Outcome.UNSUPPORTED, Outcome.PASSED)
