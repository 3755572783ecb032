"""From a matrix file to its cells: names resolved, rules applied, sampled, in a fixed order.

``load`` finds every mistake that the file alone shows; ``Matrix.cells`` asks for the machine
types of a QEMU build only where a cell's machine is newest-common. docs/matrix-file.md is the
manual. Nothing is read but the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from bootmatrix.arguments import machine_options, machine_type
from bootmatrix.boards import ARCHITECTURES, board_of
from bootmatrix.cell import AXES, Cell
from bootmatrix.errors import PartError, UserError
from bootmatrix.files import given_file, yaml_file
from bootmatrix.files.given_file import path_of
from bootmatrix.matrix import known, sampling
from bootmatrix.matrix.axes import DEFAULTS
from bootmatrix.matrix.document import Document, Loc
from bootmatrix.matrix.names import Axes, Names, Rule
from bootmatrix.matrix.schema import json_schema
from bootmatrix.matrix.sources import GivenBuilds
from bootmatrix.model import (
    BOARD_MACHINE,
    NEWEST_COMMON,
    OWN_MACHINE,
    Arch,
    BoardSource,
    Disk,
    HostSpec,
    Known,
    Limits,
    QemuSource,
    SavedSource,
    role_name,
)
from bootmatrix.steps import library
from bootmatrix.steps.base import Scenario

__all__ = ["Axes", "Matrix", "Rule", "json_schema", "load", "looks_like_matrix", "newest_common"]

MachinesOf = Callable[[HostSpec], Sequence[str]]
"""The machine types of a host's QEMU build; asked once for each of its builds."""

_UNKNOWN = "this entry matches no cell"
MOST_CELLS = 50_000
"""Combinations of the values of one set of axes: so many take some seconds, and some 100 MB."""


@dataclass(frozen=True)
class Matrix:
    """A matrix file, read and checked. ``boot_timeout`` and ``patience`` are in seconds.

    ``debug_log`` and ``limits`` are a cell's.

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
    patience: float | None
    debug_log: bool
    limits: Limits
    sample: str | int | None
    given: frozenset[HostSpec]
    _document: Document = field(repr=False, compare=False)
    _places: Mapping[str, Loc] = field(repr=False, compare=False)
    _texts: Mapping[str, str] = field(repr=False, compare=False)
    _expanded: list[Cell] = field(default_factory=list, repr=False, compare=False)
    _used: set[Loc] = field(default_factory=set, repr=False, compare=False)

    def cells(self, machines_of: MachinesOf) -> tuple[Cell, ...]:
        """The cells to run: the product of the axes, included ones after it, then the sample.

        The product goes in axis order (source, destination, host-3, ..., then that of
        bootmatrix.cell.AXES; the last changes fastest), values in the order of the file.
        Raises UserError for a matrix without cells, and for hosts without a common machine.
        ``machines_of`` is asked when this is called for the first time.
        """
        if not self._expanded:
            self._expanded.extend(self._expand(_Resolver(machines_of, self._document)))
        return tuple(self._expanded)

    def idle(self, machines_of: MachinesOf) -> list[UserError]:
        """The entries of exclude, include and known that match no cell, each with its place.

        Of a ``known`` entry it is what it says of axes and of hosts' names; which builds those
        have, only running tells (see ``idle_known``). With ``given`` hosts there are other cells
        than the file means, and nothing is said.
        """
        self.cells(machines_of)
        if self.given:
            return []
        sections = (("exclude", self.exclude, "matches no cell"),
                    ("include", self.include, "adds no cell"), ("known", self.known, _UNKNOWN))
        return [self._document.error((section, index), text) for section, entries, text in sections
                for index in range(len(entries)) if (section, index) not in self._used]

    def idle_known(self, ran: Iterable[Mapping[str, Any]]) -> list[UserError]:
        """Those of ``known`` that match none of all cells, as records describe them."""
        left = {index: entry for index, entry in enumerate(self.known)
                if ("known", index) in self._used}
        for cell in ran:
            flat = known.flatten({**DEFAULTS, **cell})
            left = {n: entry for n, entry in left.items() if not known.matches(entry, flat)}
        return [self._document.error(("known", index), _UNKNOWN) for index in left]

    @property
    def before_asking(self) -> tuple[Cell, ...]:
        """The cells before QEMUs are asked which machine type newest-common is; none if none is.

        A family with a dash (``pc-q35-``) stands for it. What a rule drops by the machine type,
        and a sample leaves out, is still there.
        """
        cells = [point for _, _, points in self._points for point in points]
        if self._expanded or not any(map(_family, cells)):
            return ()
        return tuple(replace(cell, machine=f"{family}-") if (family := _family(cell)) else cell
                     for cell in cells)

    def _expand(self, resolve: _Resolver) -> tuple[Cell, ...]:
        cells: dict[str, Cell] = {}
        rows: list[dict[str, str]] = []
        for axes, rules, points in self._points:
            for point in points:
                machine = resolve(point, axes)
                cell = point if machine == point.machine else replace(point, machine=machine)
                values = _values(cell)
                if self._dropped(values, [rule for rule in rules if rule.needs_machine]):
                    continue
                if cells.setdefault(cell.id, cell) is cell:
                    rows.append(values)
                    self._used.add(axes.loc)
        if not cells and self.given:
            names = ", ".join(sorted(host.name for host in self.given))
            raise UserError(f"no cell remains with {names}", file=self.path,
                            hint="a rule of exclude drops each of them")
        if not cells:
            raise self._document.error(
                ("exclude",), "no cell remains: these rules drop every one", key=True
            )
        self._used.update(
            ("known", index) for index, entry in enumerate(self.known)
            if any(known.could_match(entry, {
                **{f"{role_name(n)}.host": host.name for n, host in enumerate(cell.hosts)},
                "id": cell.id, **{axis: str(value) for axis, value in cell.values.items()}})
                for cell in cells.values()))
        return _sampled(tuple(cells.values()), rows, self.sample)

    def _dropped(self, values: Mapping[str, str], rules: Iterable[Rule]) -> bool:
        """Whether a rule matches the cell; each that does is one that is of use."""
        matching = [rule for rule in rules if rule.matches(_full(values))]
        if matching:
            self._used.update(("exclude", index) for index, rule in enumerate(self.exclude)
                              if rule in matching)
        return bool(matching)

    @cached_property
    def used_hosts(self) -> tuple[HostSpec, ...]:
        """The hosts that cells use, in the file's order; sampling may leave some of them out.

        A host is there for each architecture that it is used with.
        """
        used = {host for _, _, points in self._points for point in points for host in point.hosts}
        of_each = (replace(host, arch=arch) for host in self.hosts for arch in Arch)
        return tuple(host for host in of_each if host in used)

    def qemu_names(self) -> tuple[str, ...]:
        """The catalogue's QEMU builds that the cells' hosts use; each once, in the file's order."""
        qemus = (host.qemu for host in self.used_hosts)
        return tuple(dict.fromkeys(qemu for qemu in qemus if isinstance(qemu, str)))

    def own_guest(self, name: str) -> dict[str, Any]:
        """A guest of the file's own as the file has it, but with absolute paths."""
        entry = self._document.entry.guests[name]
        data = entry.model_dump(mode="json", by_alias=True, exclude_unset=True)
        for key in ("command-line", "libvirt", "disk"):
            if data.get(key):
                data[key] = str((self.path.parent / path_of(data[key])).absolute())
        return data

    def place(self, host: HostSpec, field: str, error: UserError) -> UserError:
        """The error about a host's ``qemu`` or ``firmware``, with where it stands in the file."""
        if host.name in self._texts:
            return UserError(f"--host {self._texts[host.name]}: {field}: {error}")
        loc = (*self._places[host.name], field)
        if field == "qemu" and isinstance(host.qemu, BoardSource):
            return self._document.error((*loc[:-1], "board", "env"), str(error))
        if field == "qemu" and isinstance(host.qemu, SavedSource):
            return self._document.error((*loc[:-1], "saved", "guest"), str(error))
        entry = getattr(self._document.entry.hosts[str(loc[1])], field)
        part = (error.part,) if isinstance(error, PartError) else ()
        keys = [key for key in (*part, "path", "root", "descriptor", "directory", "image", "suite")
                if getattr(entry, key, None)]
        return self._document.error((*loc, *keys[:1]), str(error))

    @cached_property
    def _points(self) -> tuple[tuple[Axes, tuple[Rule, ...], list[Cell]], ...]:
        """The sets of axes, each with its rules and its cells before machines are known.

        The machine of such a cell is the one of the file, newest-common as well.
        """
        parts = (self.axes, self.exclude), *((axes, ()) for axes in self.include)
        return tuple((axes, rules, _points(self, axes, rules)) for axes, rules in parts)


def load(path: Path, given: GivenBuilds | None = None) -> Matrix:
    """Read a matrix file. Raises UserError with line and column for every mistake in it.

    ``given`` is what the command line has to say: builds by name, and hosts.
    """
    document = Document(path)
    names = Names(document, given or GivenBuilds())
    for axes in (names.axes, *names.include):
        if (number := _combinations(axes)) > MOST_CELLS:
            raise document.error(
                axes.loc, f"there are {number} combinations of these values", key=True,
                hint=f"at most {MOST_CELLS}, of which sample: can pick some",
            )
    return Matrix(
        path=path,
        hosts=names.hosts,
        axes=names.axes,
        exclude=names.exclude,
        include=names.include,
        scenarios=names.own,
        known=names.known,
        boot_timeout=document.entry.boot_timeout,
        patience=document.entry.patience,
        debug_log=document.entry.debug_log == "on",
        limits=names.limits,
        sample=document.entry.sample,
        given=frozenset(names.given),
        _document=document,
        _places=names.places,
        _texts=names.texts,
    )


def looks_like_matrix(path: Path, *, named: bool = False) -> bool:
    """Whether a YAML file has two of ``schema:``, ``hosts:``, ``axes:`` at its top level.

    The third may be mistyped, which is to be told. One that was ``named`` is read as YAML where it
    does not look like that at first sight: it can be in flow form, or have line ends of its own.
    Cheap, never raises.
    """
    try:
        text = given_file.read(path, yaml_file.LARGEST)
    except given_file.Unreadable:
        return False
    if named and not _at_first_sight(text):
        with suppress(UserError):
            tree = yaml_file.parse(path, yaml_file.read_text(path))
            return isinstance(tree, Mapping) and len(tree.keys() & {"schema", "hosts", "axes"}) > 1
    return _at_first_sight(text)


def _at_first_sight(text: bytes) -> bool:
    return sum(
        re.search(rb"^([\"']?)" + key + rb"\1[ \t]*:", text, re.MULTILINE) is not None
        for key in (b"schema", b"hosts", b"axes")
    ) > 1


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


def _combinations(axes: Axes) -> int:
    """How many points the product of the axes has, before any rule drops some."""
    lengths = [len(values) for axis, values in axes.values.items() if axis != "scenario"]
    hosts = [prod(map(len, axes.hosts[: scenario.hosts_needed])) for scenario in axes.scenarios]
    return prod(lengths) * sum(hosts)


def _points(matrix: Matrix, axes: Axes, rules: tuple[Rule, ...]) -> list[Cell]:
    """The product of the axes without what cannot be or is excluded before machines are known.

    A scenario that needs fewer hosts than there are axes gets one point for each choice of
    those it needs; it stands where the surplus axes have their first value.
    """
    early = tuple(rule for rule in rules if not rule.needs_machine)
    found: list[tuple[tuple[int, ...], Cell]] = []
    for needed in {scenario.hosts_needed for scenario in axes.scenarios}:
        surplus = (0,) * (len(axes.hosts) - needed)
        homeless = _homeless(matrix, axes, needed)
        archs = {point.arch for _, point in homeless}
        for place in product(*(range(len(values)) for values in axes.hosts[:needed])):
            hosts = tuple(axes.hosts[role][index] for role, index in enumerate(place))
            if matrix.given and matrix.given.isdisjoint(hosts):
                continue
            on = {arch: tuple(_with(host, arch) for host in hosts) for arch in archs}
            found.extend(
                (place + surplus + key, replace(point, hosts=on[point.arch]))
                for key, point in homeless
            )
    found.sort(key=lambda placed: placed[0])
    points = [point for _, point in found]
    if not early:
        return points
    return [
        point
        for point in points
        if not matrix._dropped(_values(point), early)
    ]


def _homeless(
    matrix: Matrix, axes: Axes, needed: int
) -> list[tuple[tuple[int, ...], Cell]]:
    """The product of all axes but the hosts, for scenarios on so many hosts, with its indices."""
    points = []
    for placed in product(*map(enumerate, axes.values.values())):
        key, values = zip(*placed, strict=True)
        point = Cell((), **_of_own_machine(dict(zip(axes.values, values, strict=True))),
                     seconds=matrix.boot_timeout, patience=matrix.patience,
                     debug_log=matrix.debug_log, limits=matrix.limits)
        if point.scenario.hosts_needed == needed and library.applies_to(
                point.scenario, point.policy):
            points.append((key, point))
    return points


def _of_own_machine(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a point; a guest with a machine of its own has its type and its disk."""
    own = values["guest"].machine
    if own is None:
        return values
    machine = own.machine if values["machine"] == OWN_MACHINE else values["machine"]
    disk = Disk.OWN if own.has_disk else values["disk"]
    return values | {"machine": machine, "arch": own.arch, "disk": disk}


def _values(cell: Cell) -> dict[str, str]:
    """What rules and sampling look at: axis to value, only the axes that this cell has."""
    hosts = {role_name(index): host.name for index, host in enumerate(cell.hosts)}
    return hosts | {axis: str(value) for axis, value in cell.values.items()}


def _full(values: Mapping[str, str]) -> dict[str, str]:
    """The same with the axes that a record leaves out where they are the default."""
    return {**_SPARSE, **values}


_SPARSE = {name: str(DEFAULTS[name]) for name, axis in AXES.items() if axis.sparse}


def _with(host: HostSpec, arch: Arch) -> HostSpec:
    return host if host.arch is arch else replace(host, arch=arch)


_Build = tuple[str | QemuSource, Arch]


def _family(point: Cell) -> str | None:
    """Of which machine types newest-common is the newest; None for a point that names its own."""
    name, _, family = machine_type(point.machine).partition(":")
    return (family or ARCHITECTURES[point.arch].newest) if name == NEWEST_COMMON else None


class _Resolver:
    """Turns newest-common into the machine type it stands for on a cell's hosts."""

    def __init__(self, machines_of: MachinesOf, document: Document) -> None:
        self._ask = machines_of
        self._document = document
        self._machines: dict[_Build, tuple[str, ...]] = {}
        self._resolved: dict[tuple[str, tuple[_Build, ...]], str | None] = {}

    def __call__(self, point: Cell, axes: Axes) -> str:
        family = _family(point)
        if family is None:
            return point.machine
        if any(isinstance(host.qemu, BoardSource) for host in point.hosts):
            return BOARD_MACHINE  # beside a QEMU it is one that the QEMU does not have
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
        return machine + machine_options(point.machine)

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
    axes = (*map(role_name, range(hosts)), *AXES)
    table = [[row.get(axis) for axis in axes] for row in rows]
    if isinstance(sample, int):
        picked = sampling.spread(table, [cell.id for cell in cells], sample)
    else:
        picked = sampling.pairwise(table)
    return tuple(cells[index] for index in sorted(picked))
