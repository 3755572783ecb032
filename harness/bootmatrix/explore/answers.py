"""What became of lives: kept by how they begin, so that no two are run that must end alike.

A life that failed at a step fails however it would have gone on, and all that a life has passed its
beginnings pass, too. That is where lives share their beginnings, and what makes shrinking quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bootmatrix.explore.failures import Failure


@dataclass
class _Node:
    """A life after one step."""

    passed: bool = False
    failure: Failure | None = None
    after: dict[str, _Node] = field(default_factory=dict)


@dataclass(frozen=True)
class LifeOutcome:
    """What became of a life: the index of the step that failed, and how; None where it passed."""

    failed: int | None = None
    failure: Failure | None = None


PASSED = LifeOutcome()


class Answers:
    """Those of one run. ``place`` tells lives apart whose steps are called alike."""

    def __init__(self) -> None:
        self._roots: dict[str, _Node] = {}

    def of(self, place: str, way: Sequence[str]) -> LifeOutcome | None:
        """What becomes of a life; None where nobody knows yet."""
        node = self._roots.get(place, _Node())
        for index, step in enumerate(way):
            if step not in node.after:
                return None
            node = node.after[step]
            if node.failure is not None:
                return LifeOutcome(index, node.failure)
        return PASSED if node.passed else None

    def add(self, place: str, way: Sequence[str], answer: LifeOutcome) -> None:
        """Keep what became of a life."""
        node = self._roots.setdefault(place, _Node())
        for index, step in enumerate(way):
            node = node.after.setdefault(step, _Node())
            if answer.failed == index:
                node.failure = answer.failure
                return
            node.passed = True

    def forget(self, place: str, way: Sequence[str]) -> None:
        """Let go of a failure that did not happen again."""
        node = self._roots.get(place, _Node())
        for step in way:
            node = node.after.get(step, _Node())
            node.failure = None

