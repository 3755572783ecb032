"""What lives have had in them, and what never came though it could have. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bootmatrix.explore.lives import Life, Next, sort_of
from bootmatrix.records.model import Record

KINDS = ("pair of steps", "step, policy and QEMUs", "refusal", "steps between boots", "place")
"""What is counted. Of the first two it is known what would have been possible."""
_LONG_GAP = 8

Feature = tuple[str, str]
"""One of KINDS, and which one."""


@dataclass
class Coverage:
    """How many lives have had each feature; ``possible`` are those that a life could have had."""

    counts: Counter[Feature] = field(default_factory=Counter)
    possible: set[Feature] = field(default_factory=set)

    def offered(self, life: Life, nexts: Iterable[Next]) -> None:
        """These steps could have come next in a life."""
        for next_ in nexts:
            self.possible.update(_of_step(life, next_))

    def rarity(self, life: Life) -> float:
        """How much of a life is rare: what no life had before counts one, what many had little."""
        # In their order: the same life must be as rare in each process, to the last bit.
        there = dict.fromkeys(features(life))
        return sum(1 / (1 + self.counts[feature]) for feature in there)

    def add(self, life: Life, done: int, record: Record | None = None) -> None:
        """A life of which so many steps were done, and what QEMU refused in it."""
        there = set(features(life.first(done))) if done else set()
        for step in () if record is None else record.get("steps", ()):
            if step["outcome"].startswith("refused: "):
                refusal = step["outcome"].removeprefix("refused: ").partition(":")[0]
                there.add(("refusal", f"{step['step']}: {refusal}"))
        self.counts.update(there)
        self.possible |= there

    def merge(self, other: Coverage) -> None:
        """What another process has counted."""
        self.counts += other.counts
        self.possible |= other.possible

    def never(self, kind: str) -> list[str]:
        """What no life has had of a kind, though it was possible."""
        return sorted(name for what, name in self.possible
                      if what == kind and not self.counts[what, name])

    def had(self, kind: str) -> int:
        """How many of a kind lives have had."""
        return sum(what == kind for what, _ in self.counts)

    @property
    def plain(self) -> dict[str, Any]:
        """As data: for each kind what was had, how often, and what was not."""
        return {kind: {
            "had": {name: number for (what, name), number in sorted(self.counts.items())
                    if what == kind},
            "never": self.never(kind),
        } for kind in KINDS}

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Coverage:
        """The inverse of ``plain``. Raises ValueError."""
        found = cls()
        try:
            for kind in KINDS:
                found.counts.update({(kind, str(name)): int(number)
                                     for name, number in data[kind]["had"].items()})
                found.possible.update((kind, str(name)) for name in data[kind]["never"])
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"no coverage: {error}") from None
        found.possible |= set(found.counts)
        return found


def features(life: Life) -> Iterator[Feature]:
    """What is in a life, as far as it is known before it is run."""
    values = {axis: str(value) for axis, value in life.place.point.values.items()
              if axis not in ("policy", "scenario") and value != ""}
    yield "place", " ".join(values.values())
    gap = 0
    for number, step in enumerate(life.steps):
        yield from _of_step(life.first(number), _next(life, number))
        if step.boots and number:
            yield "steps between boots", str(gap) if gap < _LONG_GAP else f"{_LONG_GAP} or more"
        gap = 0 if step.boots else gap + 1


def _next(life: Life, number: int) -> Next:
    """A step of a life as one that comes after those before it."""
    before, after = life.first(number), life.first(number + 1)
    new = after.hosts[-1] if len(after.hosts) > len(before.hosts) else None
    return Next(life.steps[number], new)


def _of_step(life: Life, next_: Next) -> Iterator[Feature]:
    sort = sort_of(next_.step)
    if life.steps:
        yield "pair of steps", f"{sort_of(life.steps[-1])}, {sort}"
    hosts = life.hosts if next_.new is None else (*life.hosts, next_.new)
    roles = next_.step.roles or ((life.state.host,) if life.state.started else ())
    names = dict.fromkeys((*((life.state.host,) if life.state.running else ()), *roles))
    qemus = " to ".join(life.world.builds[hosts[role]].qemu.version for role in names)
    yield "step, policy and QEMUs", f"{sort}, {life.place.point.policy}, {qemus}"
