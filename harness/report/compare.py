"""A run against a baseline: what got worse, changed, is fixed; and the baseline itself."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from harness.axes import DEFAULTS, is_default
from harness.model import RECORD_SCHEMA, role_name
from harness.report.markdown import reason
from harness.report.merged import key
from harness.report.outcome import Outcome, outcome_of
from harness.report.story import ran
from harness.report.words import duration, natural, plural

Record = Mapping[str, Any]
SLOWER = 1.5
"""A ratio of times below this is not worth a line."""
_LEAST_SECONDS = 0.25


class Kind(IntEnum):
    """What a difference is; the worst is the lowest."""

    NEW_FAILURE = 0
    RIG_ERROR = 1
    FLAKY = 2
    REASON = 3
    FIRMWARE = 4
    GONE = 5
    NEW_BAD = 6
    SLOWER = 7
    NEW_KNOWN = 8
    STILL = 9
    NEW = 10
    FIXED = 11


_WORDS = {
    Kind.NEW_FAILURE: "new failure", Kind.RIG_ERROR: "rig error", Kind.FLAKY: "flaky",
    Kind.REASON: "other reason", Kind.FIRMWARE: "other firmware", Kind.GONE: "gone",
    Kind.NEW_BAD: "new cell, fails", Kind.SLOWER: "slower", Kind.NEW_KNOWN: "now known",
    Kind.STILL: "still fails", Kind.NEW: "new cell", Kind.FIXED: "fixed",
}
_HARMLESS = (Kind.NEW, Kind.FIXED, Kind.STILL, Kind.NEW_KNOWN)


@dataclass(frozen=True)
class Comparison:
    """The differences as lines, the worst first; one line that sums up; whether it got worse."""

    lines: list[str]
    summary: str
    worse: bool


def compare(
    old: Sequence[Record], new: Sequence[Record], max_slower: float | None = None
) -> Comparison:
    """What is different in ``new``. Both hold each cell once (see harness.report.merged).

    A slower cell is told, but makes it worse only above ``max_slower``. Times are compared
    after taking out by how much all cells are slower: another machine is no regression.
    """
    before, after = {key(r): r for r in old}, {key(r): r for r in new}
    found: list[tuple[Kind, str, str]] = []
    for about in before.keys() | after.keys():
        difference = _difference(before.get(about), after.get(about))
        if difference is not None:
            found.append((difference[0], about[1], difference[1]))
    pace, slow = _slower(before, after, max_slower)
    found += slow
    found.sort(key=lambda item: (item[0], natural(item[1])))
    counts = Counter(kind for kind, _, _ in found)
    same = len(before.keys() & after.keys()) - sum(
        counts[kind] for kind in Kind if kind not in (
            Kind.GONE, Kind.NEW, Kind.NEW_BAD, Kind.SLOWER))
    parts = [f"{number} {_WORDS[kind]}" for kind in Kind if (number := counts[kind])]
    parts.append(f"{same} the same")
    worse = any(kind not in _HARMLESS and (kind is not Kind.SLOWER or max_slower is not None)
                for kind in counts)
    verdict = "worse" if worse else "not worse"
    return Comparison(
        [f"{_WORDS[kind]:<15} {cell}: {text}" for kind, cell, text in found],
        f"{verdict} than the baseline: {plural(len(after), 'cell')}: {', '.join(parts)}{pace}",
        worse)


def _difference(old: Record | None, new: Record | None) -> tuple[Kind, str] | None:
    if new is None:
        assert old is not None
        return Kind.GONE, f"was {old['verdict']}, was not run"
    outcome = outcome_of(new)
    if old is None:
        return (Kind.NEW_BAD if outcome.is_bad else Kind.NEW), reason(new)
    was = outcome_of(old)
    if outcome is Outcome.FLAKY:
        return (Kind.STILL if was is Outcome.FLAKY else Kind.FLAKY), reason(new)
    if outcome is Outcome.ERROR:
        return (Kind.STILL if was is Outcome.ERROR else Kind.RIG_ERROR), reason(new)
    good = new["verdict"] == "pass"
    if good and old["verdict"] == "pass" and was is not Outcome.FLAKY:
        if _ran(old) != _ran(new):
            return Kind.FIRMWARE, f"{_told(old)}, now {_told(new)}"
        return None
    if good:
        return Kind.FIXED, f"was {reason(old)}"
    if old["verdict"] == "pass" and was is not Outcome.FLAKY:
        return (Kind.NEW_FAILURE if outcome.is_bad else Kind.NEW_KNOWN), reason(new)
    if steady(reason(old)) != steady(reason(new)) or was is Outcome.FLAKY:
        return Kind.REASON, f"{reason(new)}; was {reason(old)}"
    if _ran(old) != _ran(new):
        return Kind.FIRMWARE, f"{_told(old)}, now {_told(new)}; {reason(new)}"
    if outcome.is_bad and not was.is_bad:
        return Kind.NEW_FAILURE, f"{reason(new)}; was declared: {old.get('known')}"
    return (Kind.STILL, reason(new)) if outcome.is_bad else None


def _ran(record: Record) -> list[tuple[str | None, str | None]]:
    return [(boot["console"], boot["rom"]) for boot in record["boots"]]


def _told(record: Record) -> str:
    return " → ".join(ran(boot) or "nothing" for boot in record["boots"]) or "no boot"


def steady(text: str) -> str:
    """A reason without what differs from run to run: durations, addresses, paths, processes."""
    text = re.sub(r"\b\d+(\.\d+)? (ms|s|min)\b", "N s", text)
    text = re.sub(r"(?<![\w.])/[^\s:,;'\")]+", "PATH", text)
    text = re.sub(r"\b0x[0-9a-fA-F]{6,}\b", "ADDRESS", text)
    return re.sub(r"\bpid \d+", "pid N", text)


def _slower(
    before: Mapping[Any, Record], after: Mapping[Any, Record], limit: float | None
) -> tuple[str, list[tuple[Kind, str, str]]]:
    """(how all cells together differ in time, the cells that stand out)."""
    ratios = {}
    for about in before.keys() & after.keys():
        one, other = before[about], after[about]
        if one["verdict"] == other["verdict"] and one.get("seconds") and other.get("seconds"):
            ratios[about] = float(other["seconds"]) / float(one["seconds"])
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
        found.append((Kind.SLOWER, about[1],
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


def baseline(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The records as they are kept in a repository: sorted, and equal for equal results."""
    return [_kept(record) for record in sorted(
        records, key=lambda record: (key(record)[0], natural(record["cell"]["id"])))]


def _kept_boot(boot: Mapping[str, Any]) -> dict[str, Any]:
    alike = boot.get("console_candidates") or []
    return {name: boot.get(name) for name in _BOOT} | (
        {"console_candidates": alike} if len(alike) > 1 else {})


def _kept(record: Record) -> dict[str, Any]:
    cell = record["cell"]
    kept: dict[str, Any] = {"id": cell["id"]}
    roles = [role_name(index) for index in range(len(cell)) if role_name(index) in cell]
    for role in roles:
        kept[role] = {name: cell[role].get(name) for name in _HOST}
    # A default goes without saying: a baseline does not change where an axis is new.
    kept |= {name: cell[name]
             for name in ("machine", "policy", "scenario", "accel", "disk", *DEFAULTS)
             if name in cell and not is_default(name, cell[name])}
    told: dict[str, Any] = {
        "schema": RECORD_SCHEMA, "matrix": key(record)[0], "cell": kept,
        "verdict": record["verdict"],
        "reason": steady((str(record["reason"]).splitlines() or [""])[0]),
        "known": record.get("known"),
        "boots": [_kept_boot(boot) for boot in record["boots"]],
    }
    if "known_state" in record:
        told["known_state"] = record["known_state"]
    if record.get("flaky"):
        told["flaky"] = dict.fromkeys(record["flaky"], "some")
    return told
