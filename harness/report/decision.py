"""Which policy should one choose? Counted from records alone, with the cells that say no."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from harness.axes import DEFAULTS
from harness.model import Policy, StepKind, Verdict, role_name
from harness.report.merged import merged
from harness.report.story import Stretch, last_firmware, stretches
from harness.report.words import natural
from harness.scenarios import LIBRARY

Record = Mapping[str, Any]
_ACTS = (StepKind.UPGRADE_NVRAM, StepKind.GUEST_FLASH, StepKind.CLEAR_NVRAM)
_SAME_BUT = (("migrate-reset", "migrate-restart"), ("host-upgrade-reset", "host-upgrade-restart"))


@dataclass
class Count:
    """How many of how many cells; ``others`` are the ids of those that the promise fails in."""

    of: int = 0
    hits: int = 0
    others: list[str] = field(default_factory=list)

    def add(self, hit: bool, cell: str, *, counterexample: bool) -> None:
        """Count a cell."""
        self.of += 1
        self.hits += hit
        if counterexample:
            self.others.append(cell)

    def __str__(self) -> str:
        return f"{self.hits} of {self.of}" if self.of else "not tried"


@dataclass
class Row:
    """One policy. Each count is over the cells of which it can be said at all."""

    policy: str
    cells: int = 0
    came_back: Count = field(default_factory=Count)
    changed: Count = field(default_factory=Count)
    behind: Count = field(default_factory=Count)
    same: Count = field(default_factory=Count)
    by_act: Count = field(default_factory=Count)

    @property
    def counts(self) -> tuple[Count, ...]:
        """The counts in the order of QUESTIONS."""
        return self.came_back, self.changed, self.behind, self.same, self.by_act


QUESTIONS = (
    ("came back", "came back after every reset that followed a migration"),
    ("changed unasked", "other firmware ran at some moment, without an act of the guest's user"),
    ("stayed behind", "the host had newer firmware than the guest began with, the guest was "
                      "rebooted without its user's act, and did not run it"),
    ("reset = restart", "a reset gave the same firmware, and came up, as shutdown and start did"),
    ("upgraded by the user", "the user staged newer firmware in the nvram, and it ran"),
)
COUNTEREXAMPLES = (
    "did not come back", "changed unasked", "stayed behind", "reset is not restart",
    "the user's upgrade did not run",
)


def decide(records: Iterable[Record]) -> list[Row]:
    """A row for each policy that was run, in the order of the model."""
    cells = [record for record in merged(records)
             if record["verdict"] not in (Verdict.UNSUPPORTED, Verdict.ERROR)]
    order = [policy.value for policy in Policy]
    found = {record["cell"]["policy"] for record in cells}
    rows = {name: Row(name) for name in
            [*(name for name in order if name in found), *sorted(found - set(order))]}
    for record in cells:
        _count(rows[record["cell"]["policy"]], record)
    _compare(rows, cells)
    return list(rows.values())


def _count(row: Row, record: Record) -> None:
    row.cells += 1
    cell, life = record["cell"]["id"], stretches(record)
    resets = list(_resets_after_migration(life))
    if resets:
        back = all(boot.boot is not None and boot.boot["up"] for boot in resets)
        row.came_back.add(back, cell, counterexample=not back)
    acted = any(stretch.step in _ACTS for stretch in life)
    running = [stretch.firmware for stretch in life if stretch.firmware is not None]
    if len(life) > 1 and running and not acted:
        changed = any(one != other for one, other in pairwise(running))
        row.changed.add(changed, cell, counterexample=changed)
    newest = _on_offer(record, life)
    if newest is not None and running and _newer(newest, running[0]):
        last = last_firmware(record)
        if not acted:
            behind = last != newest
            row.behind.add(behind, cell, counterexample=behind)
    if any(stretch.step == StepKind.UPGRADE_NVRAM for stretch in life):
        staged = _staged(record)
        if staged is not None and running and staged != running[0]:
            there = last_firmware(record) == staged
            row.by_act.add(there, cell, counterexample=not there)


def _resets_after_migration(life: Sequence[Stretch]) -> Iterator[Stretch]:
    migrated = False
    for stretch in life:
        if stretch.step == StepKind.MIGRATE:
            migrated = stretch.outcome == "completed"
        elif stretch.step == StepKind.START:
            migrated = False
        elif stretch.step == StepKind.RESET and migrated:
            yield stretch


def _on_offer(record: Record, life: Sequence[Stretch]) -> str | None:
    """The firmware that the host offers at the last boot; None if that cannot be told.

    It cannot where the guest was not rebooted, or by an upgrade of the host in a scenario of
    the user's own: a record does not say which firmware that upgrade brought.
    """
    reboots = [stretch for stretch in life[1:] if stretch.boots]
    if not reboots or reboots[-1].host is None:
        return None
    here = reboots[-1].host
    upgraded = {}
    if any(stretch.step == StepKind.UPGRADE_HOST for stretch in life):
        scenario = LIBRARY.get(record["cell"]["scenario"])
        if scenario is None:
            return None
        upgraded = {role_name(step.host): role_name(step.firmware_of) for step in scenario.steps
                    if step.kind is StepKind.UPGRADE_HOST and step.host is not None
                    and step.firmware_of is not None}
    host = record["cell"].get(upgraded.get(here, here)) or {}
    offered = host.get("firmware")
    return str(offered) if offered else None


def _staged(record: Record) -> str | None:
    scenario = LIBRARY.get(record["cell"]["scenario"])
    for step in scenario.steps if scenario else ():
        if step.kind is StepKind.UPGRADE_NVRAM and step.firmware_of is not None:
            name = (record["cell"].get(role_name(step.firmware_of)) or {}).get("firmware")
            return str(name) if name else None
    return None


def _newer(one: str, other: str) -> bool:
    """Whether one build is a newer version of the same firmware as another."""
    family = re.compile(r"^\D*")
    same = family.match(one), family.match(other)
    return (same[0] and same[0].group()) == (same[1] and same[1].group()) and (
        natural(one) > natural(other))


def _compare(rows: Mapping[str, Row], cells: Sequence[Record]) -> None:
    """Pair each cell that ends in a reset with the one that ends in shutdown and start."""
    found: dict[tuple[Any, ...], Record] = {}
    for record in cells:
        cell = record["cell"]
        values = tuple((key, value.get("host") if isinstance(value, Mapping) else value)
                       for key, value in sorted({**DEFAULTS, **cell}.items())
                       if key not in ("id", "scenario"))
        # The same hosts by name in another matrix can be others: builds tell.
        builds = tuple(value.get("digest") for value in cell.values() if isinstance(value, Mapping))
        found.setdefault((values, builds, cell["scenario"]), record)
    for (values, builds, scenario), record in found.items():
        for reset, restart in _SAME_BUT:
            other = found.get((values, builds, restart)) if scenario == reset else None
            if other is None or not record["boots"] or not other["boots"]:
                continue
            same = all(_ending(record)[part] == _ending(other)[part] for part in (0, 1))
            rows[record["cell"]["policy"]].same.add(
                same, record["cell"]["id"], counterexample=not same)


def _ending(record: Record) -> tuple[str | None, bool]:
    return last_firmware(record), bool(record["boots"][-1]["up"])


def counterexamples(rows: Sequence[Row]) -> list[tuple[str, str, list[str]]]:
    """(policy, what, ids of the cells) for each promise that some cell breaks."""
    return [(row.policy, what, count.others) for row in rows
            for what, count in zip(COUNTEREXAMPLES, row.counts, strict=True) if count.others]
