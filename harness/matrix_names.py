"""What the names in a matrix file refer to: its entries resolved to hosts, scenarios and rules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeVar

from harness import known, scenarios
from harness.matrix_file import Document, Loc
from harness.matrix_schema import AxesEntry, KnownEntry
from harness.model import (
    NEWEST_COMMON,
    Accel,
    Disk,
    HostSpec,
    Known,
    Policy,
    Scenario,
    Verdict,
    role_index,
    role_name,
)

PLAIN_AXES = ("machine", "policy", "scenario", "disk", "accel")
_BETWEEN_HOSTS = "-to-"  # joins the hosts in a cell's id
_GLOB = re.compile(r"[*?\[]")
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Axes:
    """The values of each axis; ``hosts`` holds those of source, destination, host-3, ...

    ``loc`` is where in the file these axes stand.
    """

    hosts: tuple[tuple[HostSpec, ...], ...]
    machine: tuple[str, ...]
    policy: tuple[Policy, ...]
    scenario: tuple[Scenario, ...]
    disk: tuple[Disk, ...] = (Disk.AHCI,)
    accel: tuple[Accel, ...] = (Accel.TCG,)
    loc: Loc = ("axes",)


@dataclass(frozen=True)
class Rule:
    """An exclude rule: for each axis named, the globs (or ``=axis``) of which one must match."""

    conditions: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def needs_machine(self) -> bool:
        """Whether the rule looks at the machine type, which newest-common leaves open."""
        return any("machine" in (axis, *_references(globs)) for axis, globs in self.conditions)

    def matches(self, values: Mapping[str, str]) -> bool:
        """Whether all conditions hold; one on an axis that the cell does not have never does."""
        return all(
            axis in values
            and any(
                values[axis] == values.get(glob[1:])
                if glob.startswith("=")
                else fnmatchcase(values[axis], glob)
                for glob in globs
            )
            for axis, globs in self.conditions
        )


def _references(globs: Iterable[str]) -> list[str]:
    """The axes that ``=axis`` values refer to."""
    return [glob[1:] for glob in globs if glob.startswith("=")]


class Names:
    """A document with its names resolved; raises UserError at the first that means nothing.

    ``hosts`` are all hosts, ``own`` the file's own scenarios; ``axes``, ``exclude``,
    ``include`` and ``known`` are the sections of these names.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        entry = self._entry = document.entry
        for name in entry.hosts:
            if _BETWEEN_HOSTS in name:
                raise document.error(
                    ("hosts", name), f"a host's name cannot hold {_BETWEEN_HOSTS!r}", key=True
                )
        self._hosts = {
            name: HostSpec(name, host.qemu, host.firmware) for name, host in entry.hosts.items()
        }
        self._scenarios: dict[str, Scenario] = dict(scenarios.LIBRARY)
        self.hosts = tuple(self._hosts.values())
        self.own = tuple(self._own_scenario(name) for name in entry.scenarios)
        self.axes = self._base_axes()
        self.exclude = tuple(self._rule(*numbered) for numbered in enumerate(entry.exclude))
        self.include = tuple(
            self._axes(("include", index), included, self.axes)
            for index, included in enumerate(entry.include)
        )
        self.known = tuple(self._known(*numbered) for numbered in enumerate(entry.known))

    def _own_scenario(self, name: str) -> Scenario:
        loc: Loc = ("scenarios", name)
        if name in scenarios.LIBRARY:
            raise self._document.error(
                loc, "the library has a scenario of this name", key=True, hint="choose another"
            )
        try:
            scenario = scenarios.parse(name, self._entry.scenarios[name])
        except scenarios.StepError as error:
            raise self._document.error(
                (*loc, *error.where), error.message, found=error.found, accepted=error.accepted,
                key=bool(error.where) and error.found == error.where[-1],
            ) from None
        self._scenarios[name] = scenario
        return scenario

    def _base_axes(self) -> Axes:
        entry = self._entry.axes
        for name, value, hint in (
            ("machine", entry.machine, "for example pc-q35-5.2, newest-common or default"),
            ("scenario", entry.scenario, "for example migrate-reset"),
        ):
            if not value:
                raise self._document.error(("axes", name), "is missing", hint=hint)
        every = (self.hosts, self.hosts)
        defaults = Axes(hosts=every, machine=(), policy=tuple(Policy), scenario=())
        return self._axes(("axes",), entry, defaults)

    def _axes(self, loc: Loc, entry: AxesEntry, base: Axes) -> Axes:
        """The axes at ``loc``, those left out taken from ``base``."""
        axes = Axes(
            hosts=self._host_axes(loc, entry, base),
            machine=tuple(self._once((*loc, "machine"), entry.machine)) or base.machine,
            policy=tuple(self._once((*loc, "policy"), entry.policy)) or base.policy,
            scenario=tuple(
                self._lookup((*loc, "scenario"), entry.scenario, "scenario", self._scenarios)
            )
            or base.scenario,
            disk=tuple(self._once((*loc, "disk"), entry.disk)) or base.disk,
            accel=tuple(self._once((*loc, "accel"), entry.accel)) or base.accel,
            loc=loc,
        )
        for index, machine in enumerate(axes.machine):
            if ":" in machine and not machine.startswith(f"{NEWEST_COMMON}:"):
                raise self._document.error(
                    (*loc, "machine", index), f"no machine type: {machine!r}",
                    hint=f"only {NEWEST_COMMON}:FAMILY has a colon",
                )
        for index, scenario in enumerate(axes.scenario):
            if scenario.hosts_needed > len(axes.hosts):
                missing = role_name(len(axes.hosts))
                raise self._document.error(
                    (*loc, "scenario", index), f"{scenario.name} needs a host for {missing}",
                    hint=f"give the axis {missing}: [{', '.join(self._hosts)}]",
                )
        if not any(
            scenarios.applies_to(scenario, policy)
            for scenario in axes.scenario
            for policy in axes.policy
        ):
            names = ", ".join(scenario.name for scenario in axes.scenario)
            raise self._document.error(
                (*loc, "policy"), f"no cell remains: {names} is about an nvram",
                hint="policies with one: "
                + ", ".join(policy.value for policy in Policy if policy.keeps_nvram),
            )
        return axes

    def _host_axes(
        self, loc: Loc, entry: AxesEntry, base: Axes
    ) -> tuple[tuple[HostSpec, ...], ...]:
        further = entry.model_extra or {}
        written = {"source": entry.source, "destination": entry.destination}
        for name in further:
            try:
                role_index(name)
            except ValueError:
                accepted = ("source", "destination", "host-3", *PLAIN_AXES)
                raise self._document.error(
                    (*loc, name), "no such axis", found=name, accepted=accepted, key=True
                ) from None
        last = max(map(role_index, further), default=1)
        values = []
        for index in range(max(last + 1, len(base.hosts))):
            role = role_name(index)
            names = further.get(role) or written.get(role) or []
            if names:
                values.append(tuple(self._lookup((*loc, role), names, "host", self._hosts)))
            elif index < len(base.hosts):
                values.append(base.hosts[index])
            else:
                raise self._document.error(
                    (*loc, role_name(last)), f"there is no axis {role} before it", key=True
                )
        return tuple(values)

    def _lookup(
        self, loc: Loc, names: Sequence[str], word: str, values: Mapping[str, _Value]
    ) -> Iterator[_Value]:
        for index, name in enumerate(self._once(loc, names)):
            if name not in values:
                raise self._document.error(
                    (*loc, index), f"no {word} has the name {name!r}", found=name,
                    accepted=tuple(values),
                )
            yield values[name]

    def _once(self, loc: Loc, values: Sequence[_Value]) -> Sequence[_Value]:
        for index, value in enumerate(values):
            if value in values[:index]:
                raise self._document.error((*loc, index), f"{value} is listed twice")
        return values

    def _rule(self, index: int, rule: Mapping[str, list[str]]) -> Rule:
        loc: Loc = ("exclude", index)
        names = (*map(role_name, range(len(self.axes.hosts))), *PLAIN_AXES)
        if not rule:
            raise self._document.error(loc, "an empty rule would drop every cell")
        for axis, globs in rule.items():
            if axis not in names:
                raise self._document.error(
                    (*loc, axis), "no such axis", found=axis, accepted=names, key=True
                )
            for position, glob in enumerate(globs):
                if glob.startswith("="):
                    if glob[1:] not in names or glob[1:] == axis:
                        raise self._document.error(
                            (*loc, axis, position), f"{glob!r} names no other axis",
                            found=glob[1:], accepted=[name for name in names if name != axis],
                        )
                else:
                    self._check_literal((*loc, axis, position), axis, glob)
        return Rule(tuple((axis, tuple(globs)) for axis, globs in rule.items()))

    def _known(self, index: int, entry: KnownEntry) -> Known:
        loc: Loc = ("known", index)
        for key, globs in entry.when.items():
            if not known.accepts_key(key):
                raise self._document.error(
                    (*loc, "when", key), "no value of a cell", found=key,
                    accepted=known.accepted_keys(), key=True,
                )
            axis = key.removesuffix(".host")
            for position, glob in enumerate(globs):
                if "." not in axis:
                    self._check_literal((*loc, "when", key, position), axis, glob)
        for position, verdict in enumerate(entry.verdict):
            if verdict in (Verdict.PASS, Verdict.ERROR):
                raise self._document.error(
                    (*loc, "verdict", position), f"{verdict.value} is no incompatibility",
                    accepted=[v.value for v in Verdict if v not in (Verdict.PASS, Verdict.ERROR)],
                )
        when = tuple((key, tuple(globs)) for key, globs in entry.when.items())
        return Known(when, tuple(entry.verdict), entry.reason, entry.link)

    def _check_literal(self, loc: Loc, axis: str, glob: str) -> None:
        """A value without wildcards must be one that the axis could have at all."""
        closed: dict[str, Iterable[str]] = {
            "policy": Policy, "disk": Disk, "accel": Accel, "scenario": self._scenarios,
        }
        if axis in ("machine", "id") or _GLOB.search(glob):
            return
        accepted = tuple(str(value) for value in closed.get(axis, self._hosts))
        if glob not in accepted:
            raise self._document.error(
                loc, f"{axis} is never {glob!r}", found=glob, accepted=accepted
            )
