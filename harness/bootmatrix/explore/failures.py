"""When two failed lives have failed in the same way. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from bootmatrix.explore.lives import Life, Next, sort_of
from bootmatrix.matrix import known
from bootmatrix.matrix.axes import DEFAULTS
from bootmatrix.model import Known, Verdict
from bootmatrix.records.model import Record
from bootmatrix.records.words import steady
from bootmatrix.steps.base import Step

# A guest that was not waited for can be any of these in the end.
_DOWN = (Verdict.SILENT, Verdict.NO_BOOT, Verdict.NOT_RESET, Verdict.LATE)
_WHERE = re.compile(r"^(boot \d+ \([^)]*\)|[a-z-]+): ")
_ROLE = re.compile(r"\b(source|destination|host-\d+)\b")
_BUILD = re.compile(r"\S*\d\S*")


@dataclass(frozen=True)
class Failure:
    """What failed lives have in common that fail alike.

    ``step`` is the kind of the step that is to blame, ``what`` the reason without what differs from
    life to life: roles, builds, numbers. ``firmware`` is what had to run there, ``route`` from
    which QEMU to which the guest was to go in it, "" where it went nowhere.
    """

    verdict: str
    step: str
    what: str
    board: str
    firmware: str
    route: str = ""

    @property
    def kind(self) -> Failure:
        """What stays the same while a life is shrunk: with which builds it fails so may change."""
        return replace(self, firmware="", route="")

    def __str__(self) -> str:
        where = self.route or self.firmware or "no firmware"
        return f"{self.verdict} at {self.step} ({self.board}, {where})"

    @property
    def plain(self) -> dict[str, str]:
        """As data."""
        return asdict(self)


def of(record: Record, life: Life) -> tuple[int, Failure] | None:
    """The index of the step that failed, and how; None of a life that passed, or taught nothing."""
    if record["verdict"] in (Verdict.PASS, Verdict.UNSUPPORTED):
        return None
    # A rig that breaks does so in the step that was not done any more.
    index = record.get("failed_step", len(record.get("steps", ())) + 1) - 1
    index = min(index, len(life.plan) - 1)
    board = life.place.point.board
    return index, Failure(
        record["verdict"], life.steps[index].kind, what(record["reason"]),
        board.name if board else "", *_ran(life, index))


def _ran(life: Life, index: int) -> tuple[str, str]:
    """The firmware that had to run after a step, and the route that the guest took in it."""
    expected = life.plan[index]
    before = life.plan[index - 1].qemu if index else ""
    goes = getattr(life.steps[index], "host", None) if not expected.boots else None
    to = life.world.builds[life.hosts[goes]].qemu.version if goes is not None else ""
    route = f"{before} to {to}" if before and to and before != to else ""
    return expected.firmware or "", route


def what(reason: str) -> str:
    """A reason without the place that it is about, and without what differs from life to life."""
    text = _WHERE.sub("", steady(reason))
    return " ".join(_BUILD.sub("N", _ROLE.sub("HOST", text)).split())[:300]


def is_declared(entries: Sequence[Known], record: Record) -> Known | None:
    """The entry of the matrix that declares what happened; None where none does.

    A life whose guest was down was not waited for: it may be late as well as silent.
    """
    verdict = Verdict(record["verdict"])
    flat = known.flatten({**DEFAULTS, **record["cell"]})
    alike = _DOWN if verdict in _DOWN else (verdict,)
    for entry in entries:
        if known.matches(entry, flat) and set(alike) & set(entry.verdict):
            return entry
    return None


@dataclass(frozen=True)
class KnownFailure:
    """A way to fail that needs no more looking at: declared by the matrix, or found before.

    ``core`` are the steps of the shortest life that fails so, by their sort; the last one fails.
    ``name`` is what it is called: the finding, or what the matrix says.
    """

    failure: Failure
    core: tuple[str, ...]
    name: str
    declared: bool = False

    def covers(self, failure: Failure, steps: Sequence[Step]) -> bool:
        """Whether a life that fails so in the last of these steps is another case of it."""
        return failure == self.failure and self._in(steps[:-1])

    def foresees(self, life: Life, next_: Next) -> bool:
        """Whether a life would fail so at its next step."""
        if next_.step.kind != self.failure.step or not self._in(life.steps):
            return False
        board = life.place.point.board
        if board is None or board.name != self.failure.board:
            return False
        longer = life.then(next_)
        firmware, route = _ran(longer, len(life.steps))
        if route != self.failure.route:
            return False
        # Where it goes decides what is wrong with a move, what runs all else.
        return bool(route) or firmware == self.failure.firmware

    def _in(self, steps: Sequence[Step]) -> bool:
        """Whether its steps but the last are among these, in their order, as plain or less so."""
        rest = iter(map(sort_of, steps))
        return all(any(_is_a(other, one) for other in rest) for one in self.core[:-1])

    @property
    def plain(self) -> dict[str, Any]:
        """As data."""
        return asdict(self)

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> KnownFailure:
        """The inverse of ``plain``. Raises ValueError."""
        try:
            return cls(Failure(**data["failure"]), tuple(data["core"]), str(data["name"]),
                       bool(data["declared"]))
        except (TypeError, KeyError) as error:
            raise ValueError(f"not a way to fail: {error}") from None


def _is_a(sort: str, plainer: str) -> bool:
    """Whether a step is another one, or that with more that is unusual."""
    (kind, *words), (other, *fewer) = sort.split(), plainer.split()
    return kind == other and set(fewer) <= set(words)
