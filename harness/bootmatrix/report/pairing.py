"""Which cell, host and firmware of a run is which of another's: by name, as expected, by role."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Self

from bootmatrix.cell import BETWEEN_HOSTS
from bootmatrix.firmware.names import means
from bootmatrix.model import role_name
from bootmatrix.records.merged import HostBuild, Key, builds_of, key
from bootmatrix.records.model import HostRow, Record
from bootmatrix.records.words import host_name, hosts_of, natural, plural
from bootmatrix.report.story import ran


@dataclass(frozen=True)
class ExpectedChange:
    """A change that is wanted: globs of what was, and of what is.

    They are of firmware, of a QEMU's version or build, of a host's name, or of a machine type.
    """

    old: str
    new: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """It is written ``OLD=NEW``. Raises ValueError."""
        old, equals, new = text.partition("=")
        if not (old and equals and new) or "=" in new:
            raise ValueError(f"{text!r} is not OLD=NEW, such as seabios-1.16.2-1=seabios-1.16.3-2")
        return cls(old, new)

    def __str__(self) -> str:
        return f"{self.old}={self.new}"


@dataclass
class Expectations:
    """All that is expected, and which of it came.

    ``by_board``: nobody has said what, and a cell on another version of its machine type is the
    same cell.
    """

    expected: Sequence[ExpectedChange] = ()
    by_board: bool = False
    _seen: set[ExpectedChange] = field(default_factory=set)

    def firmware(self, old: str | None, new: str | None) -> bool:
        """Whether one firmware may have come in place of another."""
        return bool(old and new) and self._covers(means, [(str(old), str(new))])

    def qemu(self, old: HostRow, new: HostRow) -> bool:
        """Whether one QEMU may have come in place of another, by its version or its build."""
        return self._covers(_glob, [(str(old.get(name)), str(new.get(name)))
                                    for name in ("qemu", "build")])

    def host(self, old: str, new: str) -> bool:
        """Whether a host may have another name."""
        return self._covers(_glob, [(old, new)])

    def machine(self, old: str, new: str) -> bool:
        """Whether a cell may have another machine type, as `newest-common` of newer QEMUs has."""
        wanted = self._covers(_glob, [(old, new)])
        return wanted or (self.by_board and _board(old) == _board(new))

    def of_old(self, names: Iterable[str]) -> list[str]:
        """Those in whose place another is expected."""
        return sorted((name for name in names if self.by_board or any(
            _glob(one.old, name) for one in self.expected)), key=natural)

    def _covers(
        self, fits: Callable[[str, str], bool], changes: Sequence[tuple[str, str]]
    ) -> bool:
        found = [one for one in self.expected for old, new in changes
                 if old != new and fits(one.old, old) and fits(one.new, new)]
        self._seen.update(found)
        return bool(found)

    @property
    def unseen(self) -> list[str]:
        """What was expected, and is nowhere to be seen."""
        return [str(one) for one in self.expected if one not in self._seen]


def _board(machine: str) -> str:
    """What a machine type is a version of."""
    return re.sub(r"-\d[\d.]*$", "", machine)


def _glob(pattern: str, text: str) -> bool:
    return fnmatchcase(text, pattern)


@dataclass(frozen=True)
class Pair:
    """A cell as it was and as it is; None where one of the runs does not have it."""

    old: Record | None
    new: Record | None
    wishes: Expectations

    @cached_property
    def changes(self) -> list[tuple[str, HostRow, HostRow, str]]:
        """(role, host as it was, as it is, why it may be so) of hosts that have become others.

        Without a why they are another build under the same name, of which nobody spoke.
        """
        if self.old is None or self.new is None:
            return []
        found = []
        for index, (old, new) in enumerate(zip(hosts_of(self.old), hosts_of(self.new),
                                               strict=False)):
            if said(old) != said(new):
                found.append((role_name(index), old, new, self._why(old, new)))
        return found

    def _why(self, old: HostRow, new: HostRow) -> str:
        qemu = self.wishes.qemu(old, new)
        firmware = self.wishes.firmware(old.get("firmware"), new.get("firmware"))
        same = all(old.get(name) == new.get(name) for name in ("qemu", "build"))
        if qemu or (firmware and same):
            return "expected"
        return "compared by role" if host_name(old) != host_name(new) else ""

    @cached_property
    def _own(self) -> set[tuple[str | None, str | None]]:
        """Firmware of the host that has a role, before and after: by role it is the same."""
        return {(old.get("firmware"), new.get("firmware"))
                for _, old, new, why in self.changes if why}

    def alike(self, old: str | None, new: str | None) -> bool:
        """Whether the firmware that ran before is, by name, wish or role, the one that runs now."""
        wanted = self.wishes.firmware(old, new)
        return old == new or wanted or (old, new) in self._own

    def ran_alike(self) -> bool:
        """Whether at each boot the console and the ROM tell of the same firmware."""
        assert self.old is not None
        assert self.new is not None
        boots = self.old["boots"], self.new["boots"]
        return len(boots[0]) == len(boots[1]) and all(
            self.alike(old[witness], new[witness])
            for old, new in zip(*boots, strict=True) for witness in ("console", "rom"))

    def translated(self, text: str) -> str:
        """A reason of the old run, with what became another in it as it is called now."""
        if self.old is None or self.new is None:
            return text
        words = {_machine(self.old): _machine(self.new)}
        for _, one, other, why in self.changes:
            if why:
                words |= {str(one.get(name)): str(other.get(name))
                          for name in ("host", "qemu", "build", "firmware")}
        for before, after in zip(self.old["boots"], self.new["boots"], strict=False):
            if self.wishes.firmware(ran(before), ran(after)):
                words[str(ran(before))] = str(ran(after))
        words = {old: new for old, new in words.items() if old != new and len(old) > 1}
        if not words:
            return text
        choice = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
        return re.sub(rf"(?<![\w.+-])({choice})(?![\w+-]|\.\w)",
                      lambda found: words[found[0]], text)


def said(host: HostRow) -> str:
    """A host with its builds, in words."""
    build = host.get("build")
    return f"{host_name(host)}: QEMU {host.get('qemu')}{f' ({build})' * bool(build)}, " \
           f"{host.get('firmware')}"


def pairs(old: Sequence[Record], new: Sequence[Record], wishes: Expectations) -> Iterator[Pair]:
    """The cells of two runs, each once: those of one id, and then those of hosts in one role."""
    names = _renamed(old, new, wishes)
    before = {key(record): record for record in old}
    there = set(map(key, new))
    others = {about: record for about, record in before.items() if about not in there}
    machines = wishes.of_old({_machine(record) for record in old})
    for record in new:
        about = key(record)
        if about not in before:
            about = _as_before(record, names, machines, others, wishes)
            others.pop(about, None)
        yield Pair(before.pop(about, None), record, wishes)
    for record in before.values():
        yield Pair(record, None, wishes)


def _as_before(
    record: Record, names: Mapping[str, str], machines: Sequence[str],
    before: Mapping[Key, Record], wishes: Expectations,
) -> Key:
    """What the cell was about when its hosts, or its machine type, had their former names."""
    matrix, cell = key(record)
    hosts = [host_name(host) for host in hosts_of(record)]
    now = BETWEEN_HOSTS.join(hosts)
    if not cell.startswith(f"{now},"):
        return matrix, cell
    then = BETWEEN_HOSTS.join(names.get(host, host) for host in hosts)
    about = matrix, then + cell.removeprefix(now)
    if about in before:
        return about
    rest = cell.removeprefix(f"{now},{_machine(record)}")
    for machine in machines:
        other = matrix, f"{then},{machine}{rest}"
        if other in before and wishes.machine(machine, _machine(record)):
            return other
    return about


def _machine(record: Record) -> str:
    return str(record["cell"]["machine"])


@dataclass
class _Seen:
    """What a run's records tell of a host: its builds, and the roles that it has."""

    builds: set[tuple[str, ...]] = field(default_factory=set)
    roles: set[int] = field(default_factory=set)


def _renamed(old: Sequence[Record], new: Sequence[Record], wishes: Expectations) -> dict[str, str]:
    """The former names of hosts, of which only the one run has the one, and the other the other.

    First what is expected, then hosts of the same builds, then those that alone have their
    roles, then the only one that is left. Where it could be one or another, it is none.
    """
    before, after = _hosts(old), _hosts(new)
    gone = [name for name in before if name not in after]
    come = [name for name in after if name not in before]
    rules: tuple[Callable[[str, str], bool], ...] = (
        lambda one, other: wishes.host(one, other),
        lambda one, other: before[one].builds == after[other].builds,
        lambda one, other: before[one].roles == after[other].roles,
        lambda one, other: True,
    )
    names: dict[str, str] = {}
    for rule in rules:
        found = [(one, other) for one in gone for other in come if rule(one, other)]
        times = Counter(one for one, _ in found), Counter(other for _, other in found)
        for one, other in found:
            if times[0][one] == times[1][other] == 1:
                names[other] = one
                gone.remove(one)
                come.remove(other)
    return names


def _hosts(records: Sequence[Record]) -> dict[str, _Seen]:
    found: dict[str, _Seen] = {}
    for record in records:
        for index, host in enumerate(hosts_of(record)):
            seen = found.setdefault(host_name(host), _Seen())
            seen.builds.add(tuple(str(host.get(name)) for name in ("qemu", "build", "firmware")))
            seen.roles.add(index)
    return found


def other_builds(found: Sequence[Pair]) -> list[str]:
    """The hosts that have become others, in words, and in how many cells."""
    counts: Counter[str] = Counter()
    for pair in found:
        for line in {f"{said(old)}; now {said(new)}{f' ({why})' if why else ''}"
                     for _, old, new, why in pair.changes}:
            counts[line] += 1
        if pair.old and pair.new and _machine(pair.old) != _machine(pair.new):
            why = "compared by board" if pair.wishes.by_board else "expected"
            counts[f"machine {_machine(pair.old)}; now {_machine(pair.new)} ({why})"] += 1
    return [f"{line}: {plural(counts[line], 'cell')}" for line in sorted(counts, key=natural)]


def are_two_runs(one: Sequence[Record], other: Sequence[Record]) -> bool:
    """Whether two files are of two runs, and not parts of one, or repeats of its cells.

    Then a host of theirs has other builds, or all cells are each other's, though none is called
    as in the other: their machine types are other versions, or all hosts have other names.
    """
    if any(map(_differ, *_builds(one, other))):
        return True
    if {key(record) for record in one} & {key(record) for record in other} or all(
            "shard" in record for record in (*one, *other)):
        return False
    names = _hosts(one).keys(), _hosts(other).keys()
    return (names[0] == names[1] or names[0].isdisjoint(names[1])) and all(
        pair.old and pair.new for pair in pairs(one, other, Expectations(by_board=True)))


def _builds(*runs: Sequence[Record]) -> list[list[HostBuild]]:
    """The builds of the hosts that all runs have, in one order; of several the last."""
    found = [{host_name(host): build for record in run
              for host, build in zip(hosts_of(record), builds_of(record), strict=True)}
             for run in runs]
    both = [name for name in found[0] if all(name in one for one in found)]
    return [[one[name] for name in both] for one in found]


def _differ(one: HostBuild, other: HostBuild) -> bool:
    # A baseline tells of no digests: what one of both does not know is no difference.
    return any(old != new and None not in (old, new)
               for old, new in zip(one, other, strict=True))
