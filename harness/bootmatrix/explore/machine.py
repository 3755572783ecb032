"""Lives made up, driven to what is rare, and shrunk: by hypothesis, which only this file knows.

A machine's rules are the steps. They only write the life down; when it is over it is lived, or
looked up: that is why a life that shrinks does not have to be lived for each of its parts. A step
that is not possible where it comes is left out. So what a step is written by (a rule and a number)
does not depend on those before it, of which any can be taken away: else a life hardly shrinks.
"""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any
from unittest import SkipTest

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity, settings, target
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.database import DirectoryBasedExampleDatabase
from hypothesis.internal.conjecture.providers import HypothesisProvider
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from bootmatrix.cell import AXES
from bootmatrix.explore.failures import Failure
from bootmatrix.explore.lives import Life, Next, Place, World, unusual

_PHASES = (Phase.reuse, Phase.generate, Phase.target, Phase.shrink)
_RULES_FOR_A_STEP = 2
"""So many are drawn for each step of a life: about half of them are possible where they come."""
_COPIES = 3
"""Of each rule. Hypothesis leaves some out of each life, half of them on average, which is good for
variety; but a life needs a start, and something that can follow it.
"""
_WHICH = st.integers(0, 1023)
_TIMES_ANEW = 2  # in vain
_ODD = 3  # one step of so many can be an unusual one


class LifeFailed(Exception):
    """A life that failed. Hypothesis tells failures apart by their type: each kind has its own."""

    def __init__(self, life: Life, failure: Failure) -> None:
        super().__init__(str(failure))
        self.life = life
        self.failure = failure


class Enough(BaseException):
    """No more lives are wanted. It is no failure: hypothesis lets it through."""


_TYPES: dict[Failure, type[LifeFailed]] = {}


def failed(life: Life, failure: Failure) -> LifeFailed:
    """What a failed life raises."""
    kind = _TYPES.setdefault(failure.kind, type("LifeFailed", (LifeFailed,), {}))
    return kind(life, failure)


@dataclass(frozen=True)
class Wishes:
    """What is asked of lives.

    ``possible`` are the steps of a kind that may come next in one, ``live`` lives it, and gives
    what is rare in it; it raises what ``failed`` has made, or Enough.
    """

    world: World
    possible: Callable[[Life, str], tuple[Next, ...]]
    live: Callable[[Life], float]


def explore(wishes: Wishes, seed: int, steps: int, lives: int, home: Path) -> LifeFailed | None:
    """Make up so many lives of at most so many steps; the first failure, as short as it gets.

    ``home`` is where hypothesis keeps lives, that failed ones are tried first the next time.
    Raises Enough.
    """
    found = _run(wishes, seed, steps, lives, home, _PHASES)
    tired = 0
    # Hypothesis gives up after 200 tries in a row that were in vain. What it has tried is known by
    # now, so that to begin anew takes no runs, and goes other ways.
    while found is not None and tired < _TIMES_ANEW:
        seed += 1
        shorter = _run(wishes, seed, steps, lives, home, (Phase.reuse, Phase.shrink))
        if shorter is None:
            break
        tired = tired + 1 if _size(shorter.life) == _size(found.life) else 0
        found = shorter
    return found


def _size(life: Life) -> tuple[int, tuple[str, ...]]:
    return len(life.steps), life.way


def _run(
    wishes: Wishes, seed: int, steps: int, lives: int, home: Path, phases: tuple[Phase, ...]
) -> LifeFailed | None:
    set_hypothesis_home_dir(home)
    options = settings(
        max_examples=lives, stateful_step_count=_RULES_FOR_A_STEP * steps + 1, deadline=None,
        phases=phases, database=DirectoryBasedExampleDatabase(home / "examples"),
        report_multiple_bugs=False, suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet, print_blob=False)
    before = random.getstate()
    try:
        with warnings.catch_warnings(), _by_the_seed_alone():
            warnings.simplefilter("ignore")  # that shrinking is slow, for example: it is real
            run_state_machine_as_test(_machine(wishes, seed, steps), settings=options)
    except LifeFailed as found:
        return found
    except SkipTest:  # it was to try again what it keeps, and keeps nothing
        return None
    finally:
        random.setstate(before)
    return None


@contextmanager
def _by_the_seed_alone() -> Iterator[None]:
    """Keep hypothesis from drawing numbers that it finds in the source of what is imported.

    It has one number in twenty from there: the lives of a seed were others after each change of a
    constant anywhere, and reading all that source took longer than to make up fifty lives.
    """
    name = "_maybe_draw_constant"
    before = getattr(HypothesisProvider, name)
    setattr(HypothesisProvider, name, lambda *_, **__: None)
    try:
        yield
    finally:
        setattr(HypothesisProvider, name, before)


def _machine(wishes: Wishes, seed: int, steps: int) -> type[RuleBasedStateMachine]:
    """The machine of one search: a rule for each kind of step."""

    class LifeMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.life: Life | None = None

        @initialize(data=st.data())
        def place(self, data: st.DataObject) -> None:
            self.life = Life(wishes.world, _drawn(data, wishes.world))
            self.step("start", data.draw(_WHICH))

        def step(self, kind: str, which: int) -> None:
            if self.life is not None and len(self.life.steps) < steps:
                nexts = wishes.possible(self.life, kind)
                if nexts:
                    self.life = self.life.then(_selected(nexts, which))

        def teardown(self) -> None:
            # Not the life of an example that hypothesis has given up in the middle.
            if sys.exc_info()[0] is None and self.life is not None and self.life.steps:
                target(wishes.live(self.life), label="rare")

    # A life begins with a start, and what most often cannot come is no good as the plainest rule.
    kinds = sorted(wishes.world.kinds, key="start".__eq__)
    for copy, (number, kind) in product(range(_COPIES), enumerate(kinds)):
        # Hypothesis has rules in the order of their names, and lives shrink towards the first.
        name = f"step_{copy}_{number:02}_{kind.replace('-', '_')}"
        setattr(LifeMachine, name, _rule(kind, name))
    return hypothesis.seed(seed)(LifeMachine)


def _rule(kind: str, name: str) -> Any:
    """The rule that is a kind of step."""

    def step(machine: Any, which: int) -> None:
        machine.step(kind, which)

    step.__name__ = name
    return rule(which=_WHICH)(step)


def _selected(nexts: Sequence[Next], which: int) -> Next:
    """One of the steps, most often a plain one; 0 is the first and plainest."""
    plain = [one for one in nexts if unusual(one.step) == unusual(nexts[0].step)]
    which, odd = divmod(which, _ODD)
    among = nexts if odd == _ODD - 1 else plain
    return among[which % len(among)]


def _drawn(data: st.DataObject, world: World) -> Place:
    """One of the places, axis by axis, that each can shrink to the first value that will do."""
    left = list(world.places)
    for axis in AXES:
        values = list(dict.fromkeys(getattr(place.point, axis) for place in left))
        if len(values) > 1:
            value = data.draw(st.sampled_from(values))
            left = [place for place in left if getattr(place.point, axis) == value]
    return left[0]
