"""The steps that a failed life needs: delta debugging, which looks at steps and at nothing else.

It comes before hypothesis's own shrinking, which takes one thing after the other away from a long
life, each time with a run of nearly all of it. Here the shortest lives come first. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from bootmatrix.explore.lives import Life, Next
from bootmatrix.model import HostSpec
from bootmatrix.steps.base import Role, Step
from bootmatrix.steps.start import Start

Fails = Callable[[Life], Life | None]
"""What is left of a life that fails in the way that is looked for, cut behind that; else None."""
Possible = Callable[[Life, str], tuple[Next, ...]]
"""The steps of a kind that may come next in a life."""


def needed(life: Life, fails: Fails, possible: Possible) -> Life:
    """A part of a failed life that fails, too, and needs each of its steps.

    ``life`` ends in the step that fails. What is returned is a life for which ``fails`` was true,
    or ``life`` itself.
    """
    # One step between a start and what fails is what most failures need, and soon tried.
    for other in _short(life, possible):
        if (found := fails(other)) is not None:
            return found
    size = len(life.steps) // 2
    while size:
        shorter = _without(life, size, fails, possible)
        if shorter is None:
            size //= 2
        else:
            life, size = shorter, min(size, len(shorter.steps) // 2)
    return life


def _short(life: Life, possible: Possible) -> Iterator[Life]:
    """Lives of a start and the last step, and of one step between; each once."""
    *before, last = life.steps
    starts: list[Step] = [Start(role) for role in range(len(life.hosts))]
    seen = set[tuple[str, ...]]()
    for between in ([], *([step] for step in reversed(before))):
        for start in starts if not between else life.steps[:1]:
            other = _made(life, [start, *between, last], possible)
            if other is not None and len(other.steps) < len(life.steps) and other.way not in seen:
                seen.add(other.way)
                yield other


def _without(life: Life, size: int, fails: Fails, possible: Possible) -> Life | None:
    """The life without so many steps in a row, wherever it still fails; None if nowhere."""
    most = len(life.steps) - 1
    for begin in range(0, most, size):
        left = [*life.steps[:begin], *life.steps[min(begin + size, most):]]
        other = _made(life, left, possible)
        if other is not None and len(other.steps) < len(life.steps):
            found = fails(other)
            if found is not None:
                return found
    return None


def _made(life: Life, steps: Iterable[Step], possible: Possible) -> Life | None:
    """A life of these steps of another one, on the same hosts; what cannot come is left out.

    None where it would not end in the last of them.
    """
    made = Life(life.world, life.place)
    came = False
    for step in steps:
        next_ = _moved(step, life.hosts, made)
        came = next_ in possible(made, step.kind)
        if came:
            made = made.then(next_)
    return made if came else None


def _moved(step: Step, hosts: Sequence[HostSpec], to: Life) -> Next:
    """The step that does the same on the same hosts in another life, where their roles differ."""
    there = [*to.hosts]
    values = {}
    for option in step.options:
        if isinstance(option, Role):
            host = hosts[getattr(step, option.field)]
            if host not in there:
                there.append(host)
            values[option.field] = there.index(host)
    new = there[len(to.hosts)] if len(there) > len(to.hosts) else None
    return Next(replace(step, **values), new)
