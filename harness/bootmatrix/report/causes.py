"""What failed cells have in common, and which cell beside them passed.

Cells are compared within their matrix, by the axes of bootmatrix.cell and what a ``known`` entry
can name of a host. One that passed because QEMU refused, as it must, is no good example.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, zip_longest
from typing import Any, cast

from bootmatrix.cell import AXES
from bootmatrix.matrix.axes import DEFAULTS
from bootmatrix.matrix.known import ROLE_KEYS
from bootmatrix.model import Verdict, role_name
from bootmatrix.records.model import HostRow, Record
from bootmatrix.records.outcome import Outcome, outcome_of
from bootmatrix.records.words import called, host_name, host_of, hosts_of, matrix_name, natural
from bootmatrix.report.story import refused

MOST_VALUES = 200
"""So many values of failed cells, the most frequent, are tried in pairs."""
_WAYS = {role_name(0): "from", role_name(1): "to"}
_FAILED = (Outcome.FAILED, Outcome.FLAKY, Outcome.KNOWN)
_PASSED = (Outcome.PASSED, Outcome.FIXED)

Columns = Mapping[str, Sequence[str | None]]
"""What each cell has on an axis; None where it has no such host."""


@dataclass(frozen=True)
class Neighbour:
    """A cell that passed, and differs from a failed one on this axis alone."""

    axis: str
    value: str
    cell: str

    def __str__(self) -> str:
        return f"passes {_WAYS.get(self.axis) or f'with {self.axis}'} {self.value or 'default'}"


@dataclass(frozen=True)
class Cause:
    """What failed cells have in common, and no cell that passed.

    ``cells`` are some or all ``of`` so many that ended alike. ``conditions`` are written as in a
    ``known`` entry. ``matrix`` is empty where there is but one.
    """

    cells: tuple[str, ...]
    of: int
    ended: str
    conditions: tuple[tuple[str, str], ...]
    matrix: str = ""

    def __str__(self) -> str:
        number = len(self.cells)
        many = f"all {number}" if number == self.of else f"{number} of {self.of}"
        what = " and ".join(f"{key} {value or 'default'}" for key, value in self.conditions)
        where = f"{self.matrix}: " if self.matrix else ""
        return f"{where}in {many} {self.ended} and in no passed cell: {what}"


def neighbours(records: Iterable[Record]) -> dict[str, Neighbour]:
    """To each failed cell, by what it is called, the nearest one that passed, if there is any.

    The axes come in the order of what they tell: what the guest is made of, the hosts, what is
    done. Of several values on an axis it is the one that stands next to the cell's own.
    """
    found: dict[str, Neighbour] = {}
    for cells, failed, passed in _matrices(records):
        columns = {axis: column for axis, column in _axes(cells).items() if len(set(column)) > 1}
        points = list(zip(*columns.values(), strict=True))
        for at, (axis, column) in enumerate(columns.items()):
            left = [n for n in failed if called(cells[n]) not in found and column[n] is not None]
            if not left:
                continue
            ranks = {value: rank for rank, value in enumerate(
                sorted({value for value in column if value is not None}, key=natural))}
            beside: dict[tuple[str | None, ...], dict[int, int]] = {}
            for n in passed:
                if (value := column[n]) is not None:
                    rest = points[n][:at] + points[n][at + 1 :]
                    beside.setdefault(rest, {}).setdefault(ranks[value], n)
            for n in left:
                own = ranks[str(column[n])]
                good = beside.get(points[n][:at] + points[n][at + 1 :])
                if good:
                    rank = min(good, key=lambda rank: (abs(rank - own), rank))
                    found[called(cells[n])] = _neighbour(axis, cells[good[rank]])
    return found


def causes(records: Iterable[Record]) -> list[Cause]:
    """What those have in common that ended alike: one value or two, in as many as there can be.

    At least in two cells, and in half of those for which nothing is found yet. Of known failures
    the matrix has said what they have in common.
    """
    records = list(records)
    several = len(set(map(matrix_name, records))) > 1
    return [replace(cause, matrix=matrix_name(cells[0])) if several else cause
            for cells, failed, passed in _matrices(records)
            for cause in _causes(cells, failed, passed)]


def _matrices(
    records: Iterable[Record],
) -> Iterator[tuple[Sequence[Record], Sequence[int], Sequence[int]]]:
    """The cells of each matrix, and which of them failed and passed, if there are both."""
    matrices: dict[str, list[Record]] = {}
    for record in records:
        matrices.setdefault(matrix_name(record), []).append(record)
    for cells in matrices.values():
        outcomes = list(map(outcome_of, cells))
        failed = [n for n, outcome in enumerate(outcomes)
                  if outcome in _FAILED and cells[n]["verdict"] not in
                  (Verdict.ERROR, Verdict.UNSUPPORTED)]
        if failed:
            passed = [n for n, outcome in enumerate(outcomes)
                      if outcome in _PASSED and not refused(cells[n])]
            if passed:
                yield cells, failed, passed


def _axes(cells: Sequence[Record]) -> Columns:
    """The axes, the most telling first; hosts are in the order of their QEMUs."""
    hosts = {role: [None if host is None else f"{host.get('qemu')} {host_name(host)}"
                    for host in column] for role, column in _hosts(cells)}
    guest = [name for name, axis in AXES.items() if axis.default is not None]
    return {**_values(cells, guest), **hosts,
            **_values(cells, (name for name in AXES if name not in guest))}


def _hosts(cells: Sequence[Record]) -> Iterator[tuple[str, list[HostRow | None]]]:
    """Each role, and the host that has it in each cell."""
    rows = list(map(list, map(hosts_of, cells)))
    for index, column in enumerate(zip_longest(*rows)):
        yield role_name(index), list(column)


def _values(cells: Sequence[Record], names: Iterable[str]) -> dict[str, list[str | None]]:
    rows: list[Mapping[str, Any]] = [record["cell"] for record in cells]
    return {name: [str(cell.get(name, DEFAULTS.get(name, ""))) for cell in rows] for name in names}


def _neighbour(axis: str, cell: Record) -> Neighbour:
    host = None if axis in AXES else host_of(cell, axis)
    value = _values([cell], [axis])[axis][0] if host is None else host_name(host)
    return Neighbour(axis, str(value), called(cell))


def _causes(
    cells: Sequence[Record], failed: Sequence[int], passed: Sequence[int]
) -> Iterator[Cause]:
    alike: dict[str, list[int]] = {}
    for n in failed:
        if (outcome := outcome_of(cells[n])) is not Outcome.KNOWN:
            alike.setdefault(f"{outcome} ({cells[n]['verdict']})", []).append(n)
    several = {ended: group for ended, group in alike.items() if len(group) > 1}
    if not several:
        return
    columns = {key: column for key, column in _conditions(cells).items() if len(set(column)) > 1}
    for ended, group in several.items():
        facts, left = _facts(columns, group, passed), len(group)
        while found := _common(facts, max(2, (left + 1) // 2)):
            conditions, covered = found
            left -= covered.bit_count()
            facts = [(fact, bad & ~covered, good) for fact, bad, good in facts]
            yield Cause(tuple(called(cells[n]) for at, n in enumerate(group) if covered >> at & 1),
                        len(group), ended, conditions)


def _conditions(cells: Sequence[Record]) -> Columns:
    """All that a ``known`` entry can name, of a host what was built first."""
    hosts = {f"{role}.{key}": [cast(Mapping[str, Any], host or {}).get(key) for host in column]
             for role, column in _hosts(cells) for key in reversed(ROLE_KEYS)}
    return {**hosts, **_values(cells, AXES)}


Fact = tuple[tuple[str, str], int, int]
"""A value on an axis; which of the failed cells have it, and which that passed: a bit for each."""


def _facts(columns: Columns, failed: Sequence[int], passed: Sequence[int]) -> list[Fact]:
    """What failed cells have; of values that the same cells have, the first."""
    found: dict[tuple[int, int], Fact] = {}
    for key, column in columns.items():
        bad, good = _bits(column, failed), _bits(column, passed)
        for value, cells in bad.items():
            if value is not None:
                both = cells, good.get(value, 0)
                found.setdefault(both, ((key, value), *both))
    return list(found.values())


def _bits(column: Sequence[str | None], cells: Sequence[int]) -> dict[str | None, int]:
    bits: dict[str | None, bytearray] = {}
    for at, n in enumerate(cells):
        of_value = bits.setdefault(column[n], bytearray(len(cells) // 8 + 1))
        of_value[at // 8] |= 1 << at % 8
    return {value: int.from_bytes(there, "little") for value, there in bits.items()}


def _common(
    facts: Sequence[Fact], least: int
) -> tuple[tuple[tuple[str, str], ...], int] | None:
    """The value, or else the pair of values, that most failed cells have and none that passed."""
    likely = sorted((fact for fact in facts if fact[1].bit_count() >= least),
                    key=lambda fact: -fact[1].bit_count())[:MOST_VALUES]
    best: tuple[tuple[tuple[str, str], ...], int] | None = None
    for one, bad, good in likely:
        if not good:
            best, least = ((one,), bad), bad.bit_count() + 1
            break
    for (one, bad, good), (other, bad_too, good_too) in combinations(likely, 2):
        both = bad & bad_too
        if both.bit_count() >= least and not good & good_too:
            best, least = ((one, other), both), both.bit_count() + 1
    if best is None:
        return None
    order = [fact for fact, _, _ in facts]
    return tuple(sorted(best[0], key=order.index)), best[1]
