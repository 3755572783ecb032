"""Which policy should one choose? Counted from records alone, with the cells that say no."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from bootmatrix.cell import AXES
from bootmatrix.matrix.axes import DEFAULTS
from bootmatrix.model import BootBy, Verdict, role_name
from bootmatrix.policies import Policy
from bootmatrix.policies.base import Secret
from bootmatrix.records.merged import merged
from bootmatrix.records.model import Record
from bootmatrix.records.scenario import scenario_of
from bootmatrix.records.words import called, host_of, hosts_of, natural
from bootmatrix.report.story import Stage, last_firmware, refused, stages
from bootmatrix.steps import STEPS
from bootmatrix.steps.migrate import Migrate
from bootmatrix.steps.reset import Reset
from bootmatrix.steps.start import Start
from bootmatrix.steps.upgrade_host import UpgradeHost
from bootmatrix.steps.upgrade_nvram import UpgradeNvram
from bootmatrix.steps.write_boot_entry import WriteBootEntry

_ACTS = tuple(name for name, step in STEPS.items() if step.by_user)
_BY_ENTRY = (BootBy.ORDER, BootBy.NEXT)
_SAME_BUT = (("migrate-reset", "migrate-restart"), ("host-upgrade-reset", "host-upgrade-restart"))


@dataclass
class Count:
    """How many of how many cells; ``others`` are the ids of those that the promise fails in.

    ``late`` are those in which it was kept, but long after the usual time for a boot.
    """

    of: int = 0
    hits: int = 0
    others: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)

    def add(self, hit: bool, cell: str, *, counterexample: bool) -> None:
        """Count a cell."""
        self.of += 1
        self.hits += hit
        if counterexample:
            self.others.append(cell)

    def __str__(self) -> str:
        late = f", {len(self.late)} late" if self.late else ""
        return f"{self.hits} of {self.of}{late}" if self.of else "not tried"


@dataclass
class PolicyRow:
    """One policy. Each count is over the cells of which it can be said at all.

    ``beyond`` are the questions of SOME_ASK that some cell, of whatever policy, gives an answer to.
    """

    policy: str
    cells: int = 0
    came_back: Count = field(default_factory=Count)
    changed: Count = field(default_factory=Count)
    behind: Count = field(default_factory=Count)
    same: Count = field(default_factory=Count)
    by_act: Count = field(default_factory=Count)
    refused: Count = field(default_factory=Count)
    locked: Count = field(default_factory=Count)
    unused: Count = field(default_factory=Count)
    beyond: tuple[str, ...] = ()

    @property
    def counts(self) -> tuple[Count, ...]:
        """The counts in the order of ``questions``."""
        return (self.came_back, self.changed, self.behind, self.same, self.by_act, self.refused,
                *(getattr(self, name) for name in self.beyond))


QUESTIONS = (
    ("came back", "came back after every reset that followed a migration; late: much later than "
                  "a boot usually takes"),
    ("changed unasked", "other firmware ran at some moment, without an act of the guest's user"),
    ("stayed behind", "the host had newer firmware than the guest began with, the guest was "
                      "rebooted without its user's act, and did not run it"),
    ("reset = restart", "a reset gave the same firmware, and came up, as shutdown and start did"),
    ("upgraded by the user", "the user staged newer firmware in the nvram, and it ran"),
    ("refused", "QEMU refused the migration: nothing migrated, and the cell counts nowhere else"),
)
SOME_ASK = {
    "locked": (
        "stayed locked", "of guests with a TPM: a disk whose key is sealed there stayed locked "
                         "after a reset or start, without an act of the guest's user"),
    "unused": (
        "entry unused", "of guests that wrote a boot entry of their own: at no boot after it did "
                        "the firmware start what it names"),
}
"""Questions of which some guests only know: the PolicyRow's count, its title, and what it means."""
COUNTEREXAMPLES = (
    "did not come back", "changed unasked", "stayed behind", "reset is not restart",
    "the user's upgrade did not run", "the migration was refused",
)


def questions(rows: Sequence[PolicyRow]) -> tuple[tuple[str, str], ...]:
    """What these rows count, and what it means."""
    return (*QUESTIONS, *(SOME_ASK[name] for name in (rows[0].beyond if rows else ())))


def decide(records: Iterable[Record]) -> list[PolicyRow]:
    """A row for each policy that was run, in the order of the model."""
    cells = [record for record in merged(records)
             if record["verdict"] not in (Verdict.UNSUPPORTED, Verdict.ERROR)]
    order = [policy.value for policy in Policy]
    found = {record["cell"]["policy"] for record in cells}
    rows = {name: PolicyRow(name) for name in
            [*(name for name in order if name in found), *sorted(found - set(order))]}
    for record in cells:
        _count(rows[record["cell"]["policy"]], record)
    _compare(rows, cells)
    beyond = tuple(name for name in SOME_ASK
                   if any(getattr(row, name).of for row in rows.values()))
    for row in rows.values():
        row.beyond = beyond
    return list(rows.values())


def _count(row: PolicyRow, record: Record) -> None:
    row.cells += 1
    cell, life = called(record), stages(record)
    if any(stage.step == Migrate.kind for stage in life):
        row.refused.add(refused(record), cell, counterexample=refused(record))
    if refused(record):
        return
    resets = list(_resets_after_migration(life))
    if resets:
        boots = [reset.boot for reset in resets if reset.boot is not None]
        back = len(boots) == len(resets) and all(boot["up"] for boot in boots)
        row.came_back.add(back, cell, counterexample=not back)
        if back and any(boot.get("usual") for boot in boots):
            row.came_back.late.append(cell)
    acted = any(stage.step in _ACTS for stage in life)
    running = [stage.firmware for stage in life if stage.firmware is not None]
    if len(life) > 1 and running and not acted:
        changed = any(one != other for one, other in pairwise(running))
        row.changed.add(changed, cell, counterexample=changed)
    measured = [tpm for boot in record["boots"] if (tpm := boot.get("tpm"))]
    if len(measured) > 1 and not acted:
        locked = any(tpm.get("secret") == Secret.LOCKED_OUT for tpm in measured)
        row.locked.add(locked, cell, counterexample=locked)
    used = list(_used_entries(life))
    if used:
        row.unused.add(not any(used), cell, counterexample=not any(used))
    newest = _on_offer(record, life)
    if newest is not None and running and _newer(newest, running[0]):
        last = last_firmware(record)
        if not acted:
            behind = last != newest
            row.behind.add(behind, cell, counterexample=behind)
    if any(stage.step == UpgradeNvram.kind for stage in life):
        staged = _staged(record)
        if staged is not None and running and staged != running[0]:
            there = last_firmware(record) == staged
            row.by_act.add(there, cell, counterexample=not there)


def _used_entries(life: Sequence[Stage]) -> Iterator[bool]:
    """Of each boot after the guest wrote an entry that tells: whether it was by one of its own."""
    written = False
    for stage in life:
        written = written or stage.step == WriteBootEntry.kind
        program = stage.boot.get("program") if stage.boot else None
        if written and program:
            yield program.get("booted_by") in _BY_ENTRY


def _resets_after_migration(life: Sequence[Stage]) -> Iterator[Stage]:
    migrated = False
    for stage in life:
        if stage.step == Migrate.kind:
            migrated = stage.outcome == "completed"
        elif stage.step == Start.kind:
            migrated = False
        elif stage.step == Reset.kind and migrated:
            yield stage


def _on_offer(record: Record, life: Sequence[Stage]) -> str | None:
    """The firmware that the host offers at the last boot; None if that cannot be told.

    It cannot where the guest was not rebooted, or where an upgrade of the host was a step of
    the user's own scenario: a record of schema 1 does not say which firmware it brought.
    """
    reboots = [stage for stage in life[1:] if stage.boots]
    if not reboots or reboots[-1].host is None:
        return None
    role = reboots[-1].host
    upgraded = {}
    if any(stage.step == UpgradeHost.kind for stage in life):
        scenario = scenario_of(record)
        if scenario is None:
            return None
        upgraded = {role_name(step.host): role_name(step.firmware_of) for step in scenario.steps
                    if isinstance(step, UpgradeHost)}
    offered = (host_of(record, upgraded.get(role, role)) or {}).get("firmware")
    return str(offered) if offered else None


def _staged(record: Record) -> str | None:
    scenario = scenario_of(record)
    for step in scenario.steps if scenario else ():
        if isinstance(step, UpgradeNvram):
            name = (host_of(record, role_name(step.firmware_of)) or {}).get("firmware")
            return str(name) if name else None
    return None


def _newer(one: str, other: str) -> bool:
    """Whether one build is a newer version of the same firmware as another."""
    family = re.compile(r"^\D*")
    same = family.match(one), family.match(other)
    return (same[0] and same[0].group()) == (same[1] and same[1].group()) and (
        natural(one) > natural(other))


def _compare(rows: Mapping[str, PolicyRow], cells: Sequence[Record]) -> None:
    """Pair each cell that ends in a reset with the one that ends in shutdown and start."""
    found: dict[tuple[Any, ...], Record] = {}
    for record in cells:
        cell, hosts = record["cell"], list(hosts_of(record))
        values = tuple(cell.get(axis, DEFAULTS.get(axis))
                       for axis in (*AXES, "boot_timeout") if axis != "scenario")
        values += tuple(host.get("host") for host in hosts)
        # The same hosts by name in another matrix can be others: builds tell.
        builds = tuple(host.get("digest") for host in hosts)
        found.setdefault((values, builds, cell["scenario"]), record)
    for (values, builds, scenario), record in found.items():
        for reset, restart in _SAME_BUT:
            other = found.get((values, builds, restart)) if scenario == reset else None
            if other is None or not record["boots"] or not other["boots"]:
                continue
            if refused(record) or refused(other):
                continue
            same = all(_ending(record)[part] == _ending(other)[part] for part in (0, 1))
            rows[record["cell"]["policy"]].same.add(
                same, called(record), counterexample=not same)


def _ending(record: Record) -> tuple[str | None, bool]:
    return last_firmware(record), bool(record["boots"][-1]["up"])


def counterexamples(rows: Sequence[PolicyRow]) -> list[tuple[str, str, list[str]]]:
    """(policy, what, ids of the cells) for each promise that some cell breaks."""
    return [
        (row.policy, what, cells) for row in rows
        for what, cells in (
            (COUNTEREXAMPLES[0], row.came_back.others),
            ("came back, but late", row.came_back.late),
            *((what, count.others) for what, count in
              zip((*COUNTEREXAMPLES[1:], *(SOME_ASK[name][0] for name in row.beyond)),
                  row.counts[1:], strict=True)),
        ) if cells
    ]  # fmt: skip
