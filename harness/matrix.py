"""From a matrix file to its cells: names resolved, rules applied, sampled, in a fixed order.

``load`` finds every mistake that the file alone shows; ``Matrix.cells`` asks for the machine
types of a QEMU build only where a cell's machine is newest-common. docs/matrix-file.md is the
manual. Nothing is read but the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

from harness import sampling, scenarios
from harness.axes import PLAIN_AXES
from harness.boards import board_of
from harness.errors import UserError
from harness.matrix_file import Document, Loc
from harness.matrix_names import Axes, Names, Rule
from harness.matrix_schema import json_schema
from harness.model import (
    NEWEST_COMMON,
    Accel,
    Arch,
    Cell,
    Disk,
    GuestKind,
    HostSpec,
    Known,
    Nic,
    Policy,
    QemuSource,
    Scenario,
    role_name,
)
from harness.sources import Given

__all__ = ["Axes", "Matrix", "Rule", "json_schema", "load", "looks_like_matrix", "newest_common"]

MachinesOf = Callable[[HostSpec], Sequence[str]]
"""The machine types of a host's QEMU build; asked once for each of its builds."""

_FAMILY = {Arch.X86_64: "pc-q35", Arch.AARCH64: "virt", Arch.RISCV64: "virt"}
"""What newest-common is about, where no family is named."""


class _Point(NamedTuple):
    """A combination of values, its machine as the file has it: the hosts, and PLAIN_AXES."""

    hosts: tuple[HostSpec, ...]
    machine: str
    policy: Policy
    scenario: Scenario
    disk: Disk
    accel: Accel
    arch: Arch
    guest: GuestKind
    cpu: str
    smp: int
    nic: Nic

    def values(self, machine: str) -> dict[str, str]:
        """What rules and sampling look at: axis to value, only the axes that this cell has."""
        values = {role_name(index): host.name for index, host in enumerate(self.hosts)}
        for axis, value in zip(PLAIN_AXES, self[1:], strict=True):
            values[axis] = value.name if isinstance(value, Scenario) else str(value)
        values["machine"] = machine
        return values

    def cell(self, machine: str, seconds: float) -> Cell:
        """The cell on the machine type that its machine stands for."""
        return Cell(**self._replace(machine=machine)._asdict(), seconds=seconds)


@dataclass(frozen=True)
class Matrix:
    """A matrix file, read and checked. ``boot_timeout`` is in seconds for each boot.

    ``sample`` is ``"pairwise"``, a number of cells, or None for all of them. Where hosts are
    ``given`` (on the command line), each cell has at least one of them.
    """

    path: Path
    hosts: tuple[HostSpec, ...]
    axes: Axes
    exclude: tuple[Rule, ...]
    include: tuple[Axes, ...]
    scenarios: tuple[Scenario, ...]
    known: tuple[Known, ...]
    boot_timeout: float
    sample: str | int | None
    given: frozenset[HostSpec]
    _document: Document = field(repr=False, compare=False)
    _places: Mapping[str, Loc] = field(repr=False, compare=False)
    _texts: Mapping[str, str] = field(repr=False, compare=False)

    def cells(self, machines_of: MachinesOf) -> tuple[Cell, ...]:
        """The cells to run: the product of the axes, included ones after it, then the sample.

        The product goes in axis order (source, destination, host-3, ..., machine, policy,
        scenario, disk, accel, arch, guest, cpu, smp, nic; the last changes fastest), values in
        the order of the file.
        Raises UserError for a matrix without cells, and for hosts without a common machine.
        """
        resolve = _Resolver(machines_of, self._document)
        cells: dict[str, Cell] = {}
        rows: list[dict[str, str]] = []
        for axes, rules in self._parts():
            for point in _points(axes, rules, self.given):
                machine = resolve(point, axes)
                values = point.values(machine)
                if any(rule.needs_machine and rule.matches(values) for rule in rules):
                    continue
                cell = point.cell(machine, self.boot_timeout)
                if cells.setdefault(cell.id, cell) is cell:
                    rows.append(values)
        if not cells and self.given:
            names = ", ".join(sorted(host.name for host in self.given))
            raise UserError(f"no cell remains with {names}", file=self.path,
                            hint="a rule of exclude drops each of them")
        if not cells:
            raise self._document.error(
                ("exclude",), "no cell remains: these rules drop every one", key=True
            )
        return _sampled(tuple(cells.values()), rows, self.sample)

    def used_hosts(self) -> tuple[HostSpec, ...]:
        """The hosts that cells use, in the file's order; sampling may leave some of them out.

        A host is there for each architecture that it is used with.
        """
        used = {
            host
            for axes, rules in self._parts()
            for point in _points(axes, rules, self.given)
            for host in point.hosts
        }
        of_each = (replace(host, arch=arch) for host in self.hosts for arch in Arch)
        return tuple(host for host in of_each if host in used)

    def qemu_names(self) -> tuple[str, ...]:
        """The catalogue's QEMU builds that the cells' hosts use; each once, in the file's order."""
        qemus = (host.qemu for host in self.used_hosts())
        return tuple(dict.fromkeys(qemu for qemu in qemus if isinstance(qemu, str)))

    def place(self, host: HostSpec, field: str, error: UserError) -> UserError:
        """The error about a host's ``qemu`` or ``firmware``, with where it stands in the file."""
        if host.name in self._texts:
            return UserError(f"--host {self._texts[host.name]}: {field}: {error}")
        loc = (*self._places[host.name], field)
        entry = getattr(self._document.entry.hosts[str(loc[1])], field)
        keys = [key for key in ("path", "descriptor", "directory", "image", "suite")
                if getattr(entry, key, None)]
        return self._document.error((*loc, *keys[:1]), str(error))

    def _parts(self) -> Iterator[tuple[Axes, tuple[Rule, ...]]]:
        yield self.axes, self.exclude
        for axes in self.include:
            yield axes, ()


def load(path: Path, given: Given | None = None) -> Matrix:
    """Read a matrix file. Raises UserError with line and column for every mistake in it.

    ``given`` is what the command line has to say: builds by name, and hosts.
    """
    document = Document(path)
    names = Names(document, given or Given())
    return Matrix(
        path=path,
        hosts=names.hosts,
        axes=names.axes,
        exclude=names.exclude,
        include=names.include,
        scenarios=names.own,
        known=names.known,
        boot_timeout=document.entry.boot_timeout,
        sample=document.entry.sample,
        given=frozenset(names.given),
        _document=document,
        _places=names.places,
        _texts=names.texts,
    )


def looks_like_matrix(path: Path) -> bool:
    """Whether a YAML file has ``hosts:`` and ``axes:`` at its top level; cheap, never raises."""
    try:
        text = path.read_bytes()
    except OSError:
        return False
    return all(
        re.search(rb"^([\"']?)" + key + rb"\1[ \t]*:", text, re.MULTILINE)
        for key in (b"hosts", b"axes")
    )


def newest_common(family: str, machine_lists: Iterable[Sequence[str]]) -> str | None:
    """The newest versioned type of a family (``pc-q35``) that stands in every list, or None.

    Versions are compared number by number: pc-q35-10.0 is newer than pc-q35-9.2.
    """
    common: dict[tuple[int, ...], str] | None = None
    for machines in machine_lists:
        versions = {
            tuple(map(int, machine[len(family) + 1 :].split("."))): machine
            for machine in machines
            if re.fullmatch(re.escape(family) + r"-\d+(\.\d+)*", machine)
        }
        common = versions if common is None else {
            version: name for version, name in common.items() if version in versions
        }
    return common[max(common)] if common else None


# ---- from axes to cells -----------------------------------------------------------------


def _points(
    axes: Axes, rules: tuple[Rule, ...], given: frozenset[HostSpec]
) -> list[_Point]:
    """The product of the axes without what cannot be or is excluded before machines are known.

    A scenario that needs fewer hosts than there are axes gets one point for each choice of
    those it needs; it stands where the surplus axes have their first value.
    """
    early = tuple(rule for rule in rules if not rule.needs_machine)
    found: list[tuple[tuple[int, ...], _Point]] = []
    for needed in {scenario.hosts_needed for scenario in axes.scenario}:
        surplus = (0,) * (len(axes.hosts) - needed)
        homeless = _homeless(axes, needed)
        for place in product(*(range(len(values)) for values in axes.hosts[:needed])):
            hosts = tuple(axes.hosts[role][index] for role, index in enumerate(place))
            if given and given.isdisjoint(hosts):
                continue
            on = {arch: tuple(_with(host, arch) for host in hosts) for arch in axes.arch}
            found.extend(
                (place + surplus + key, point._replace(hosts=on[point.arch]))
                for key, point in homeless
            )
    found.sort(key=lambda placed: placed[0])
    points = [point for _, point in found]
    if not early:
        return points
    return [
        point
        for point in points
        if not any(rule.matches(point.values(point.machine)) for rule in early)
    ]


def _homeless(axes: Axes, needed: int) -> list[tuple[tuple[int, ...], _Point]]:
    """The product of all axes but the hosts, for scenarios on so many hosts, with its indices."""
    others = [tuple(enumerate(getattr(axes, axis))) for axis in PLAIN_AXES]
    points = []
    for placed in product(*others):
        key, values = zip(*placed, strict=True)
        point = _Point((), *values)
        if point.scenario.hosts_needed == needed and scenarios.applies_to(
                point.scenario, point.policy):
            points.append((key, point))
    return points


def _with(host: HostSpec, arch: Arch) -> HostSpec:
    return host if host.arch is arch else replace(host, arch=arch)


_Build = tuple[str | QemuSource, Arch]


class _Resolver:
    """Turns newest-common into the machine type it stands for on a cell's hosts."""

    def __init__(self, machines_of: MachinesOf, document: Document) -> None:
        self._ask = machines_of
        self._document = document
        self._machines: dict[_Build, tuple[str, ...]] = {}
        self._resolved: dict[tuple[str, tuple[_Build, ...]], str | None] = {}

    def __call__(self, point: _Point, axes: Axes) -> str:
        name, _, family = point.machine.partition(":")
        if name != NEWEST_COMMON:
            return point.machine
        family = family or _FAMILY[point.arch]
        board = board_of(family, point.arch)
        if board is not None and not board.versioned:
            raise self._document.error(
                (*axes.loc, "machine"),
                f"{point.machine}: {point.arch}'s {family} has no versions",
                hint=f"name it: {family}",
            )
        builds = tuple((host.qemu, host.arch) for host in point.hosts)
        if (family, builds) not in self._resolved:
            self._resolved[family, builds] = newest_common(
                family, map(self._machines_of, point.hosts))
        machine = self._resolved[family, builds]
        if machine is None:
            names = " and ".join(host.name for host in point.hosts)
            raise self._document.error(
                (*axes.loc, "machine"),
                f"{names} have no versioned {family} machine type in common",
                hint="exclude these hosts together, or name a machine type",
            )
        return machine

    def _machines_of(self, host: HostSpec) -> tuple[str, ...]:
        build = host.qemu, host.arch
        if build not in self._machines:
            self._machines[build] = tuple(self._ask(host))
        return self._machines[build]


def _sampled(
    cells: tuple[Cell, ...], rows: Sequence[Mapping[str, str]], sample: str | int | None
) -> tuple[Cell, ...]:
    if sample is None or (isinstance(sample, int) and sample >= len(cells)):
        return cells
    hosts = max(len(cell.hosts) for cell in cells)
    axes = (*map(role_name, range(hosts)), *PLAIN_AXES)
    table = [[row.get(axis) for axis in axes] for row in rows]
    if isinstance(sample, int):
        picked = sampling.spread(table, [cell.id for cell in cells], sample)
    else:
        picked = sampling.pairwise(table)
    return tuple(cells[index] for index in sorted(picked))
