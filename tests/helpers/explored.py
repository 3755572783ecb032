"""Explorations without a machine: hosts of fakes, and something that stands in for what runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from bootmatrix.cell import Cell
from bootmatrix.explore.home import Home
from bootmatrix.explore.lives import Life, Next, World, places_of
from bootmatrix.explore.search import Search
from bootmatrix.firmware.identity import KnownFirmware
from bootmatrix.model import Disk, HostSpec, Known, Verdict
from bootmatrix.policies import Policy
from bootmatrix.records.model import Record
from bootmatrix.steps.base import Step
from bootmatrix.steps.library import LIBRARY, parse
from helpers.fakes import MACHINE, SECONDS, hosts

SPECS = tuple(HostSpec(f"h{number}", f"h{number}") for number in range(3))


def cells(policies: Sequence[str] = ("stock", "guest-owned"), routes: Sequence[str] = ()) -> list[
        Cell]:
    """Cells on fakes; ``routes`` are like ``01``, from h0 to h1; all of them by default."""
    ways = routes or [f"{one}{other}" for one in "012" for other in "012" if one != other]
    return [Cell(tuple(SPECS[int(number)] for number in way), MACHINE, Policy(policy),
                 LIBRARY["migrate-reset"], Disk.IDE, seconds=SECONDS)
            for policy in policies for way in ways]


def world(directory: Path, of: Sequence[Cell] | None = None) -> World:
    """Where their lives can be lived."""
    made = hosts(directory)
    places, _ = places_of(cells() if of is None else of)
    return World(places, dict(zip(SPECS, made, strict=True)),
                 lambda there, machine: KnownFirmware([host.firmware for host in made]))


def life(within: World, raw: Sequence[Any], *names: int, policy: str = "stock") -> Life:
    """A life on the hosts of these numbers, its steps as a matrix file has them."""
    place = next(one for one in within.places if one.point.policy == policy)
    return Life(within, place, tuple(SPECS[name] for name in names), parse("own", raw).steps)


def nexts(of: Life, kind: str) -> list[tuple[Step, str]]:
    """The steps that can come next, each with the host that comes in, "" if none does."""
    return [(one.step, one.new.name if one.new else "") for one in of.possible(kind)]


def only(found: Sequence[Next]) -> Next:
    """The first and plainest."""
    return found[0]


Breaks = Callable[[Sequence[Step], Cell], int | None]
"""The index of the step that fails in a life, None where none does."""


@dataclass
class Lived:
    """Stands in for what runs a cell; ``ran`` are the cells, and whether in a hurry.

    A life that breaks ends in ``verdict``; in what is no hurry only as often as ``patient`` says.
    """

    breaks: Breaks
    verdict: str = "silent"
    reason: str = "boot 2 (reset on source): not a byte in 5 s"
    patient: Callable[[int], bool] = lambda repeat: True
    hasty: Callable[[int], bool] = lambda number: True
    ran: list[tuple[Cell, bool]] = field(default_factory=list)

    def __call__(self, cell: Cell, hasty: bool, repeat: int) -> Record:
        """The record."""
        self.ran.append((cell, hasty))
        steps = cell.scenario.steps
        index = self.breaks(steps, cell)
        if index is not None and not (
                self.hasty(len(self.ran)) if hasty else self.patient(repeat)):
            index = None
        done = steps if index is None else steps[: index + 1]
        record: dict[str, Any] = {
            "cell": {"id": cell.id, "machine": cell.machine, "policy": str(cell.policy),
                     "scenario": cell.scenario.name,
                     "source": {"host": cell.hosts[0].name, "firmware": "seabios-1.14.0-2"}},
            "verdict": Verdict.PASS if index is None else self.verdict,
            "reason": "all of it" if index is None else self.reason,
            "steps": [{"step": step.kind, "outcome": "ok"} for step in done],
        }
        if index is not None:
            record["failed_step"] = index + 1
        return cast(Record, record)


@dataclass
class Explored:
    """A search that runs nothing, and what it has said and kept."""

    search: Search
    lived: Lived
    said: list[str]
    records: list[Record]

    @property
    def findings(self) -> list[dict[str, Any]]:
        """What was found."""
        return self.search.home.all_findings()


def explored(
    directory: Path, lived: Lived, *, known: Sequence[Known] = (), seed: int = 7, worker: int = 0,
    longest: int = 6, of: Sequence[Cell] | None = None,
) -> Explored:
    """One that is not begun yet; what it finds is in ``directory``."""
    said: list[str] = []
    records: list[Record] = []
    matrix = cast(Any, SimpleNamespace(path=Path("mine.yaml"), known=known))
    directory.mkdir(exist_ok=True)
    search = Search(world(directory / "images", of), matrix, lived, Home(directory, worker),
                    records.append, said.append, seed, worker, longest)
    return Explored(search, lived, said, records)
