"""A run against a baseline: what got worse, changed, is fixed; and the baseline itself."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, cast

from bootmatrix.matrix.axes import DEFAULTS, is_default
from bootmatrix.model import RECORD_SCHEMA, Verdict, role_name
from bootmatrix.records.merged import key
from bootmatrix.records.model import BootRow, Record
from bootmatrix.records.outcome import Outcome, outcome_of
from bootmatrix.records.words import called, duration, hosts_of, natural, plural
from bootmatrix.report.markdown import reason
from bootmatrix.report.story import ran, refused
from bootmatrix.witnesses.moment import repeatable

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
class Comparison:
    """The differences as lines, the worst first; one line that sums up; whether it got worse."""

    lines: list[str]
    summary: str
    worse: bool


def compare(
    old: Sequence[Record], new: Sequence[Record], max_slower: float | None = None
) -> Comparison:
    """What is different in ``new``. Both hold each cell once (see bootmatrix.records.merged).

    A slower cell is told, but makes it worse only above ``max_slower``. Times are compared
    after taking out by how much all cells are slower: another machine is no regression.
    """
    before, after = {key(r): r for r in old}, {key(r): r for r in new}
    names = {key(r): called(r) for r in (*old, *new)}
    found: list[tuple[Delta, str, str]] = []
    for about in before.keys() | after.keys():
        difference = _difference(before.get(about), after.get(about))
        if difference is not None:
            found.append((difference[0], names[about], difference[1]))
    pace, slow = _slower(before, after, max_slower)
    found += slow
    found.sort(key=lambda item: (item[0], natural(item[1])))
    counts = Counter(kind for kind, _, _ in found)
    same = len(before.keys() & after.keys()) - sum(
        counts[kind] for kind in Delta if kind not in (
            Delta.GONE, Delta.NEW, Delta.NEW_BAD, Delta.SLOWER))
    parts = [f"{number} {_WORDS[kind]}" for kind in Delta if (number := counts[kind])]
    parts.append(f"{same} the same")
    worse = any(kind not in _HARMLESS and (kind is not Delta.SLOWER or max_slower is not None)
                for kind in counts)
    verdict = "worse" if worse else "not worse"
    return Comparison(
        [f"{_WORDS[kind]:<15} {cell}: {text}" for kind, cell, text in found],
        f"{verdict} than the baseline: {plural(len(after), 'cell')}: {', '.join(parts)}{pace}",
        worse)


def _difference(old: Record | None, new: Record | None) -> tuple[Delta, str] | None:
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
        if _ran(old) != _ran(new):
            return Delta.FIRMWARE, f"{_said(old)}, now {_said(new)}"
        return None
    if good:
        return Delta.FIXED, f"was {reason(old)}"
    if old["verdict"] == "pass" and was is not Outcome.FLAKY:
        if outcome.is_bad:
            return Delta.NEW_FAILURE, reason(new)
        return Delta.NEW_KNOWN, f"{reason(new)}; declared: {new.get('known')}"
    if steady(reason(old)) != steady(reason(new)) or was is Outcome.FLAKY:
        return Delta.REASON, f"{reason(new)}; was {reason(old)}"
    if _ran(old) != _ran(new):
        return Delta.FIRMWARE, f"{_said(old)}, now {_said(new)}; {reason(new)}"
    if outcome.is_bad and not was.is_bad:
        return Delta.NEW_FAILURE, f"{reason(new)}; was declared: {old.get('known')}"
    return (Delta.STILL, reason(new)) if outcome.is_bad else None


def _ran(record: Record) -> list[tuple[str | None, str | None]]:
    return [(boot["console"], boot["rom"]) for boot in record["boots"]]


def _said(record: Record) -> str:
    return " → ".join(ran(boot) or "nothing" for boot in record["boots"]) or "no boot"


def steady(text: str) -> str:
    """A reason without what differs from run to run: durations, addresses, paths, processes."""
    text = re.sub(r"\b\d+(\.\d+)? (ms|s|min)\b", "N s", repeatable(text))
    text = re.sub(r"(?<![\w.])/[^\s:,;'\")]+", "PATH", text)
    text = re.sub(r"\b0x[0-9a-fA-F]{6,}\b", "ADDRESS", text)
    return re.sub(r"\bpid \d+", "pid N", text)


def _slower(
    before: Mapping[Any, Record], after: Mapping[Any, Record], limit: float | None
) -> tuple[str, list[tuple[Delta, str, str]]]:
    """(how all cells together differ in time, the cells that stand out)."""
    ratios = {}
    for about in before.keys() & after.keys():
        one, other = before[about], after[about]
        times = [record.get("seconds") or 0 for record in (one, other)]
        if one["verdict"] == other["verdict"] and min(times) >= _SHORTEST:
            ratios[about] = float(times[1]) / float(times[0])
    if not ratios:
        return "", []
    pace = statistics.median(ratios.values())
    found = []
    for about, ratio in ratios.items():
        relative = ratio / pace
        noise = max(_noise(before[about]), _noise(after[about]))
        grown = float(after[about]["seconds"]) - pace * float(before[about]["seconds"])
        if relative < max(limit or SLOWER, noise) or grown < _LEAST_SECONDS:
            continue
        shown = f"noise of repeats {noise:.2f}x" if noise > 1 else "noise unknown: run once"
        found.append((Delta.SLOWER, called(after[about]),
                      f"{relative:.2f}x as long ({duration(float(before[about]['seconds']))} → "
                      f"{duration(float(after[about]['seconds']))}), {shown}"))
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
    if "/" in key(record)[0]:  # of several files of one name
        accepted["matrix_name"] = key(record)[0]
    if refused(record):
        accepted["refused"] = True
    if record.get("flaky"):
        accepted["flaky"] = dict.fromkeys(record["flaky"], "some")
    return cast(Record, accepted)
