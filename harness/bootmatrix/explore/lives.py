"""What a guest's life can be on the hosts and axes of a matrix, and which step can come next. Pure.

A step is possible where a matrix file could have it: the same code checks its step lists.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import Any

from bootmatrix.cell import AXES, Cell
from bootmatrix.firmware.identity import KnownFirmware
from bootmatrix.matrix import unsupported
from bootmatrix.model import BoardSource, Host, HostSpec, SavedSource
from bootmatrix.run.cell_run import plan_of
from bootmatrix.steps import STEPS
from bootmatrix.steps.base import (
    Ability,
    Choice,
    Flag,
    GuestState,
    Number,
    Option,
    Role,
    Scenario,
    Step,
    StepError,
)
from bootmatrix.steps.library import advance, applies_to
from bootmatrix.steps.migration_fails import MigrationFails
from bootmatrix.steps.plan import Expected
from bootmatrix.steps.start import Start

SEEDS = range(4)
"""Of what a step does at random, such as where a stream is cut: so many are tried."""
_NOBODY = Scenario("life", ())


@dataclass
class Place:
    """A point of the matrix without its hosts and its steps, and the hosts that are used there.

    ``routes`` are the ways from host to host that its cells go, or could go.
    """

    point: Cell
    hosts: dict[HostSpec, None] = field(default_factory=dict)
    routes: set[tuple[HostSpec, HostSpec]] = field(default_factory=set)

    def add(self, cell: Cell) -> None:
        """One more cell of the matrix."""
        self.hosts |= dict.fromkeys(cell.hosts)
        self.routes |= {(one, other) for index, one in enumerate(cell.hosts)
                        for other in cell.hosts[index + 1:]}
        self.routes |= {(cell.hosts[one], cell.hosts[other])
                        for one, other in _moves(cell.scenario.steps)}


def _moves(steps: Sequence[Step]) -> Iterator[tuple[int, int]]:
    """From where to where a guest goes in these steps, by migration or by a start elsewhere."""
    state = GuestState()
    for step in steps:
        before = state.host if state.started else None
        step.advance(state)
        if before is not None and before != state.host:
            yield before, state.host


Known = Callable[[Sequence[Host], str], KnownFirmware]
"""The firmware that can be recognised on hosts, with a machine type."""


@dataclass
class World:
    """All places of a matrix, in its order, and the builds behind its hosts.

    ``abilities`` is what machines can do there.
    """

    places: Sequence[Place]
    builds: Mapping[HostSpec, Host]
    known: Known
    abilities: Collection[Ability] = tuple(Ability)
    _recognised: dict[Any, KnownFirmware] = field(default_factory=dict)
    _possible: dict[Any, tuple[Next, ...]] = field(default_factory=dict)

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of steps that any life here can have, the table's order."""
        found: set[str] = set()
        for place in self.places:
            lives = [Life(self, place)]
            for kind in ("start", "migrate", "shutdown"):
                lives += [life.then(next_) for life in lives
                          if (next_ := life.first_possible(kind)) is not None]
            # What one place has, no other one is asked for: that would take long in a large matrix.
            found.update(kind for kind in STEPS if kind not in found and any(
                life.first_possible(kind) is not None for life in lives))
        return tuple(kind for kind in STEPS if kind in found)

    @property
    def nowhere(self) -> str | None:
        """Why no life can begin at any place, by the first of them; None if one can."""
        lives = [Life(self, place) for place in self.places]
        if any(life.first_possible(Start.kind) is not None for life in lives):
            return None
        host = next(iter(lives[0].place.hosts))
        return lives[0].then(Next(Start(0), host)).impossible

    @cached_property
    def numbers(self) -> dict[Cell, int]:
        """The places' numbers, by their points."""
        return {place.point: number for number, place in enumerate(self.places)}

    def recognised(self, hosts: Sequence[HostSpec], machine: str) -> KnownFirmware:
        """Their firmware, by name; asked once."""
        key = frozenset(hosts), machine
        if key not in self._recognised:
            self._recognised[key] = self.known([self.builds[host] for host in hosts], machine)
        return self._recognised[key]


def places_of(cells: Iterable[Cell]) -> tuple[list[Place], list[str]]:
    """The places of a matrix' cells, and what is left out of them, in words.

    What a real board, or a saved guest, is given cannot be made up as a QEMU's guest can.
    """
    found: dict[Cell, Place] = {}
    left_out: dict[str, None] = {}
    for cell in cells:
        odd = next((host for host in cell.hosts
                    if isinstance(host.qemu, BoardSource | SavedSource)), None)
        if odd is not None:
            what = "a real board" if isinstance(odd.qemu, BoardSource) else "a saved guest"
            left_out[f"{odd.name}: {what} has no life that could be made up"] = None
            continue
        point = replace(cell, hosts=(), scenario=_NOBODY)
        found.setdefault(point, Place(point)).add(cell)
    return list(found.values()), list(left_out)


@dataclass(frozen=True)
class Next:
    """A step that can come next, and the host that it brings into the life, if it does."""

    step: Step
    new: HostSpec | None = None


@dataclass(frozen=True)
class Life:
    """A guest's life so far: where, on which hosts in the order of their roles, and its steps."""

    world: World
    place: Place
    hosts: tuple[HostSpec, ...] = ()
    steps: tuple[Step, ...] = ()

    @cached_property
    def state(self) -> GuestState:
        """The guest after the steps, as far as their order depends on it."""
        state = GuestState()
        for index, step in enumerate(self.steps):
            advance(state, index, step)
        return state

    @cached_property
    def how(self) -> tuple[Any, ...]:
        """The same as a key: lives with it, on the same hosts, can go on alike."""
        return self.place.point, self.hosts, *vars(self.state).values()

    @cached_property
    def plainness(self) -> tuple[Any, ...]:
        """What orders lives, the plainest first: by steps, options, hosts, values of axes."""
        hosts = list(self.place.hosts)
        return (len(self.steps), sum(map(unusual, self.steps)), len(self.hosts),
                self.world.numbers[self.place.point], [hosts.index(host) for host in self.hosts])

    def end_in(self, other: Life) -> int | None:
        """After how many steps another life has had all of this one's; None if it never has."""
        if other.place.point != self.place.point:
            return None
        way = enumerate(other.way, 1)
        ends = [next((number for number, step in way if step == mine), None) for mine in self.way]
        return ends[-1] if ends else None

    def then(self, next_: Next) -> Life:
        """The life with one step more."""
        hosts = self.hosts if next_.new is None else (*self.hosts, next_.new)
        return replace(self, hosts=hosts, steps=(*self.steps, next_.step))

    def first(self, number: int) -> Life:
        """Its first steps alone, and the hosts that they name."""
        steps = self.steps[:number]
        most = max((role for step in steps for role in step.roles), default=-1)
        return replace(self, steps=steps, hosts=self.hosts[: most + 1])

    def cell(self, name: str = "life") -> Cell:
        """The cell of this life. A mode of migration is that of lives that migrate."""
        moves = any(isinstance(step, unsupported.MOVES) for step in self.steps)
        mode = self.place.point.migration if moves else AXES["migration"].default
        return replace(self.place.point, hosts=self.hosts, migration=mode,
                       scenario=Scenario(name, self.steps))

    @property
    def built(self) -> list[Host]:
        """Its hosts' builds."""
        return [self.world.builds[host] for host in self.hosts]

    @cached_property
    def plan(self) -> tuple[Expected, ...]:
        """What must hold after each step; it ends at one that QEMU must refuse."""
        point = self.place.point
        return plan_of(self.cell(), self.built, self.world.recognised(self.hosts, point.machine))

    @property
    def is_over(self) -> bool:
        """Whether its last step must be refused, so that nothing can follow."""
        return bool(self.steps) and self.plan[-1].refusal is not None

    @property
    def impossible(self) -> str | None:
        """Why it cannot be lived on these builds, in these steps; None if it can."""
        return unsupported.reason(self.cell(), self.built, self.world.abilities)

    @cached_property
    def way(self) -> tuple[str, ...]:
        """Each step in words that name hosts and not roles: alike in all lives that begin alike."""
        return tuple(said(step, self.hosts) for step in self.steps)

    def possible(self, kind: str) -> tuple[Next, ...]:
        """The steps of a kind that can come next, the plainest first."""
        if self.is_over:
            return ()
        last = self.steps[-1] if self.steps else None
        if last is not None and last.kind == kind and not (
                last.boots or isinstance(last, unsupported.MOVES)):
            return ()  # once more in a row it changes nothing
        # What can be done to a guest depends on how it is, and not on how it has come to that.
        key = *self.how, kind
        found = self.world._possible.get(key)
        if found is None:
            found = self.world._possible[key] = tuple(sorted(
                self._found(STEPS[kind]), key=lambda one: unusual(one.step)))
        return found

    def first_possible(self, kind: str) -> Next | None:
        """Some step of a kind that can come next, if one can."""
        return None if self.is_over else next(self._found(STEPS[kind]), None)

    def _found(self, kind: type[Step]) -> Iterator[Next]:
        if not applies_to(Scenario("", (_any(kind),)), self.place.point.policy):
            return
        fresh = [host for host in self.place.hosts if host not in self.hosts]
        for step in self._tried(kind):
            arrives = self._arrives(step)  # whichever host that is: asked once
            if arrives is None:
                continue
            for new in fresh if len(self.hosts) in step.roles else (None,):
                next_ = Next(step, new)
                if self._is_route(next_, arrives) and self.then(next_).impossible is None:
                    yield next_

    def _tried(self, kind: type[Step]) -> Iterator[Step]:
        """Every step of a kind, whether it makes sense or not."""
        if not self.hosts and kind is not Start:
            return
        roles = range(len(self.hosts) + 1)
        for values in product(*(_values(option, roles) for option in kind.options)):
            yield kind(**{option.field: value
                          for option, value in zip(kind.options, values, strict=True)})

    def _arrives(self, step: Step) -> int | None:
        """Where the guest is after a step; None if that makes no sense here, as in a step list."""
        state = copy(self.state)
        try:
            advance(state, len(self.steps), step)
        except StepError:
            return None
        if isinstance(step, MigrationFails):
            return step.host
        return state.host if state.coming is None else state.coming

    def _is_route(self, next_: Next, arrives: int) -> bool:
        """Whether the matrix has a guest go the way of a step."""
        hosts = self.hosts if next_.new is None else (*self.hosts, next_.new)
        before, after = hosts[self.state.host] if self.state.started else None, hosts[arrives]
        if before is not None and before != after and (before, after) not in self.place.routes:
            return False
        return next_.new is None or not self.hosts or any(
            {(one, next_.new), (next_.new, one)} & self.place.routes for one in self.hosts)


def _any(kind: type[Step]) -> Step:
    """Some step of a kind; which one, nobody asks."""
    return kind(**{option.field: _values(option, [0])[0] for option in kind.options})


def _values(option: Option, roles: Sequence[int]) -> Sequence[Any]:
    """The values of an option that are tried, the usual one first."""
    if isinstance(option, Role):
        return roles
    if isinstance(option, Choice):
        return option.values
    if isinstance(option, Flag):
        return (False, True)
    if isinstance(option, Number):
        return SEEDS
    return ((),)  # capabilities and parameters: which ones QEMU has, it would have to be asked


def unusual(step: Step) -> int:
    """How many of a step's options are not what they are if nobody says anything."""
    return len(_unusual(step))


def said(step: Step, hosts: Sequence[HostSpec]) -> str:
    """A step with its hosts by name, and the options that are unusual."""
    roles = (f"{option.name} {hosts[getattr(step, option.field)].name}"
             for option in step.options if isinstance(option, Role))
    return " ".join((step.kind, *roles, *_unusual(step).values()))


def sort_of(step: Step) -> str:
    """A step by its kind and its unusual options, wherever it goes: ``reset by cf9``."""
    words = [word for option, word in _unusual(step).items() if not isinstance(option, Number)]
    return " ".join((step.kind, *words))


def _unusual(step: Step) -> dict[Option, str]:
    """The options that are not what they are if nobody says anything, in words."""
    found = {}
    for option in step.options:
        value = getattr(step, option.field)
        if not isinstance(option, Role) and value != _values(option, ())[0]:
            found[option] = option.name if value is True else (
                f"{option.name} {option.written(value)}")
    return found
