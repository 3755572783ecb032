"""A run against a baseline: what got worse, changed, is fixed; and the baseline itself."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, cast

from bootmatrix.matrix.axes import DEFAULTS, is_default
from bootmatrix.model import RECORD_SCHEMA, Verdict, role_name
from bootmatrix.records.merged import key
from bootmatrix.records.model import BootRow, Record
from bootmatrix.records.outcome import Outcome, outcome_of
from bootmatrix.records.words import (
    called,
    declared,
    duration,
    hosts_of,
    natural,
    plural,
    steady,
)
from bootmatrix.report.markdown import reason
from bootmatrix.report.pairing import Expectations, ExpectedChange, Pair, other_builds, pairs
from bootmatrix.report.story import ran, refused

SLOWER = 1.5
"""A ratio of times below this is not worth a line."""
_LEAST_SECONDS = 0.25
_SHORTEST = 1e-6  # seconds; of less there is no ratio


class Delta(IntEnum):
    """What a difference is; the worst is the lowest.

    What was learnt before and is not any more comes first: behind it anything can hide.
    """

    UNLEARNT = 0
    GONE = 1
    NEW_FAILURE = 2
    RIG_ERROR = 3
    FLAKY = 4
    REASON = 5
    FIRMWARE = 6
    NEW_BAD = 7
    SLOWER = 8
    NEW_KNOWN = 9
    STILL = 10
    NEW = 11
    FIXED = 12


_WORDS = {
    Delta.UNLEARNT: "lost coverage", Delta.NEW_FAILURE: "new failure",
    Delta.RIG_ERROR: "rig error", Delta.FLAKY: "flaky",
    Delta.REASON: "other reason", Delta.FIRMWARE: "other firmware", Delta.GONE: "gone",
    Delta.NEW_BAD: "new cell, fails", Delta.SLOWER: "slower", Delta.NEW_KNOWN: "now known",
    Delta.STILL: "still fails", Delta.NEW: "new cell", Delta.FIXED: "fixed",
}
_HARMLESS = (Delta.NEW, Delta.FIXED, Delta.STILL, Delta.NEW_KNOWN)


@dataclass(frozen=True)
class CellDifference:
    """A difference of one cell, told in ``text``; ``worse``: it alone makes the gate red."""

    kind: Delta
    cell: str
    text: str
    worse: bool

    @property
    def word(self) -> str:
        """What a difference of its kind is called."""
        return _WORDS[self.kind]


@dataclass(frozen=True)
class Comparison:
    """A run beside another: the differences, the worst first.

    ``cells`` are the names of those of the new run; ``same`` is of how many there is nothing to
    tell. ``builds`` are hosts that have become others, and ``unseen`` what was expected and did
    not come, each in words; ``pace`` is how all cells together differ in time, in words, and
    ``than`` what it is beside. ``were`` has to each cell of the new run what it was.
    """

    findings: list[CellDifference]
    builds: list[str]
    unseen: list[str]
    cells: list[str]
    same: int
    pace: str
    than: str = "the baseline"
    were: Mapping[str, Record] = field(default_factory=dict)

    @property
    def worse(self) -> bool:
        """Whether anything got worse."""
        return any(finding.worse for finding in self.findings)

    @property
    def counts(self) -> dict[str, int]:
        """How many differences there are of each kind, the worst first."""
        return dict(Counter(finding.word for finding in self.findings))

    @property
    def lines(self) -> list[str]:
        """The differences in words, one a line."""
        return [f"{finding.word:<15} {finding.cell}: {finding.text}" for finding in self.findings]

    @property
    def notes(self) -> list[str]:
        """What is to be told beside them."""
        return [*(f"other build: {line}" for line in self.builds),
                *(f"expected, and not seen: {wish}" for wish in self.unseen)]

    @property
    def number(self) -> int:
        """How many cells were compared: those of the new run, and those that are gone."""
        return len(self.cells) + self.counts.get("gone", 0)

    @property
    def summary(self) -> str:
        """One line that says how it went."""
        parts = [f"{number} {word}" for word, number in self.counts.items()]
        return (f"{'worse' if self.worse else 'not worse'} than {self.than}: "
                f"{plural(self.number, 'cell')}: "
                f"{', '.join([*parts, f'{self.same} the same'])}{self.pace}")


def compare(
    old: Sequence[Record], new: Sequence[Record], max_slower: float | None = None,
    expected: Sequence[ExpectedChange] = (), than: str = "the baseline", *, by_board: bool = False,
) -> Comparison:
    """What is different in ``new``. Both hold each cell once (see bootmatrix.records.merged).

    A slower cell is told, but makes it worse only above ``max_slower``. Times are compared
    after taking out by how much all cells are slower: another machine is no regression.
    What is ``expected`` to be other firmware, another QEMU or another host is no difference, nor,
    ``by_board``, another version of a machine type.
    """
    wishes = Expectations(expected, by_board)
    both = list(pairs(old, new, wishes))
    found = []
    for pair in both:
        if (difference := _difference(pair)) is not None:
            kind, text = difference
            found.append(CellDifference(kind, _name(pair), text, kind not in _HARMLESS))
    there = sum(pair.old is not None and pair.new is not None for pair in both)
    pace, slow = _slower(both, max_slower)
    found += slow
    same = there - len({finding.cell for finding in found
                        if finding.kind not in (Delta.GONE, Delta.NEW, Delta.NEW_BAD)})
    found.sort(key=lambda finding: (finding.kind, natural(finding.cell)))
    return Comparison(found, other_builds(both), wishes.unseen,
                      [called(record) for record in new], same, pace, than,
                      {called(pair.new): pair.old for pair in both if pair.new and pair.old})


def _name(pair: Pair) -> str:
    record = pair.new or pair.old
    assert record is not None
    return called(record)


def _difference(pair: Pair) -> tuple[Delta, str] | None:
    old, new = pair.old, pair.new
    if new is None:
        assert old is not None
        return Delta.GONE, f"was {old['verdict']}, was not run"
    outcome = outcome_of(new)
    if old is None:
        return (Delta.NEW_BAD if outcome.is_bad else Delta.NEW), reason(new)
    if new["verdict"] == Verdict.UNSUPPORTED and old["verdict"] != Verdict.ERROR:
        if old["verdict"] == Verdict.UNSUPPORTED:
            return None
        return Delta.UNLEARNT, f"{reason(new)}; was {old['verdict']}"
    was = outcome_of(old)
    if outcome is Outcome.FLAKY:
        return (Delta.STILL if was is Outcome.FLAKY else Delta.FLAKY), reason(new)
    if outcome is Outcome.ERROR:
        return (Delta.STILL if was is Outcome.ERROR else Delta.RIG_ERROR), reason(new)
    good = new["verdict"] == "pass"
    if good and old["verdict"] == "pass" and was is not Outcome.FLAKY:
        if refused(new) and not refused(old):
            return Delta.UNLEARNT, f"{reason(new)}; nothing migrated, and nothing ran after it"
        if not pair.ran_alike():
            return Delta.FIRMWARE, f"{_said(old)}, now {_said(new)}"
        return None
    if good:
        return Delta.FIXED, f"was {reason(old)}"
    if old["verdict"] == "pass" and was is not Outcome.FLAKY:
        if outcome.is_bad:
            return Delta.NEW_FAILURE, reason(new)
        return Delta.NEW_KNOWN, f"{reason(new)}; declared: {declared(new)}"
    if steady(pair.translated(reason(old))) != steady(reason(new)) or was is Outcome.FLAKY:
        return Delta.REASON, f"{reason(new)}; was {reason(old)}"
    if not pair.ran_alike():
        return Delta.FIRMWARE, f"{_said(old)}, now {_said(new)}; {reason(new)}"
    if outcome.is_bad and not was.is_bad:
        return Delta.NEW_FAILURE, f"{reason(new)}; was declared: {declared(old)}"
    return (Delta.STILL, reason(new)) if outcome.is_bad else None


def _said(record: Record) -> str:
    return " → ".join(ran(boot) or "nothing" for boot in record["boots"]) or "no boot"


def _slower(both: Sequence[Pair], limit: float | None) -> tuple[str, list[CellDifference]]:
    """(how all cells together differ in time, the cells that stand out)."""
    ratios = []
    for pair in both:
        if pair.old is None or pair.new is None or pair.old["verdict"] != pair.new["verdict"]:
            continue
        before, after = (float(record.get("seconds") or 0) for record in (pair.old, pair.new))
        if min(before, after) >= _SHORTEST:
            ratios.append((pair.old, pair.new, before, after))
    if not ratios:
        return "", []
    pace = statistics.median(after / before for _, _, before, after in ratios)
    found = []
    for old, new, before, after in ratios:
        relative = after / before / pace
        noise = max(_noise(old), _noise(new))
        if relative < max(limit or SLOWER, noise) or after - pace * before < _LEAST_SECONDS:
            continue
        shown = f"noise of repeats {noise:.2f}x" if noise > 1 else "noise unknown: run once"
        found.append(CellDifference(
            Delta.SLOWER, called(new), f"{relative:.2f}x as long ({duration(before)} → "
            f"{duration(after)}, where all cells together take {pace:.2f}x), {shown}",
            limit is not None))
    return f"; {pace:.2f}x the time", found


def _noise(record: Record) -> float:
    """The slowest repeat over the fastest; 1.0 where a cell was run once."""
    times = record.get("times") or [1.0]
    return max(times) / min(times) if min(times) > 0 else 1.0


# ---- the baseline -----------------------------------------------------------------------------

_HOST = ("host", "qemu", "build", "firmware")
_BOOT = ("n", "step", "host", "expected", "console", "rom", "up")


def baseline(records: Sequence[Record]) -> list[Record]:
    """The records as they are accepted into a repository: sorted, and equal for equal results."""
    return [_accepted(record) for record in sorted(
        records, key=lambda record: (key(record)[0], natural(record["cell"]["id"])))]


def _accepted_boot(boot: BootRow) -> dict[str, Any]:
    alike = boot.get("console_candidates") or []
    return {name: boot.get(name) for name in _BOOT} | (
        {"console_candidates": alike} if len(alike) > 1 else {})


def _accepted(record: Record) -> Record:
    cell = record["cell"]
    values: dict[str, Any] = {"id": cell["id"]}
    for index, host in enumerate(hosts_of(record)):
        values[role_name(index)] = {name: host.get(name) for name in _HOST}
    # A default goes without saying: a baseline does not change where an axis is new.
    values |= {name: cell.get(name)
             for name in ("machine", "policy", "scenario", "accel", "disk", *DEFAULTS)
             if name in cell and not is_default(name, cell.get(name))}
    accepted: dict[str, Any] = {
        "schema": RECORD_SCHEMA, "matrix": key(record)[0], "cell": values,
        "verdict": record["verdict"],
        "reason": steady((str(record["reason"]).splitlines() or [""])[0]),
        "known": record.get("known"),
        "boots": [_accepted_boot(boot) for boot in record["boots"]],
    }
    if "known_state" in record:
        accepted["known_state"] = record["known_state"]
    if "known_link" in record:
        accepted["known_link"] = record["known_link"]
    if "/" in key(record)[0]:  # of several files of one name
        accepted["matrix_name"] = key(record)[0]
    if refused(record):
        accepted["refused"] = True
    if record.get("flaky"):
        accepted["flaky"] = dict.fromkeys(record["flaky"], "some")
    return cast(Record, accepted)
