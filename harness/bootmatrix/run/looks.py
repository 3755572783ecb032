"""The looks at a step that missed its usual time, or came by one of its clocks alone.

Each is a guest of its own that does the cell's steps up to that one: the first leaves the processor
to others. Where the machine is so busy that it hides what the guest waits for, one comes before all
others, and one is slowed down; patience.late compares what was seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from bootmatrix.engines.confinement import Priority
from bootmatrix.errors import EngineError
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.run.answers import Seen
from bootmatrix.run.patience import (
    BEFORE,
    BESIDE,
    SLOWED,
    Patience,
    Wait,
    Watch,
    late,
    missed,
    slowed,
    surely_late,
)
from bootmatrix.witnesses.observation import StepObserved

WatchWith = Callable[[str, GuestSetup, Priority], Watch]
"""How a guest of that name and setup is watched, with a priority."""


@dataclass
class Looks:
    """The looks at one step of a cell, the last of ``steps`` (a number).

    ``key`` is that of patience.key_of. ``own`` is what was seen of the step in the cell itself,
    ``usual`` its usual time and ``longest`` how long it is waited for, in seconds.
    """

    patience: Patience
    watch_with: WatchWith
    setup: GuestSetup
    steps: int
    key: str
    own: StepObserved
    usual: float
    longest: float
    first: Wait = field(init=False)

    def __post_init__(self) -> None:
        # What came, but by one of the clocks alone, is told at once by one that comes first.
        self._first = BESIDE if missed([self.own]) else BEFORE
        self.first = self._ask(self._first, (self.own,))

    def late(self, answer: Seen) -> tuple[bool, Sequence[StepObserved]]:
        """Whether the step is late, by its first answer and those of more looks if they are needed.

        And all that was seen of it.
        """
        number = self._first
        seen: tuple[StepObserved, ...] = (self.own, answer[-1])
        while (following := self._following(number, seen)) is not None:
            number, more = following, self._ask(following, seen).answer()
            if len(more) == self.steps:
                seen = (*seen, replace(more[-1], slowed=number == SLOWED))
        return surely_late(self.usual, *seen), seen

    def _following(self, number: int, seen: Sequence[StepObserved]) -> int | None:
        """The next look, if what was ``seen`` until this one does not tell."""
        return None if number == SLOWED or late(self.usual, *seen) is not None else number + 1

    def _ask(self, number: int, seen: Sequence[StepObserved]) -> Wait:
        setup = self.setup.patient(self.longest, urgent=number != BESIDE,
                                   share=slowed(*seen) if number == SLOWED else 0.0)
        if number == BESIDE:
            priority = Priority.LOW
        else:
            priority = Priority.HIGH if setup.urgent else Priority.USUAL
        watch = self.watch_with(f"{self.key}-{number}", setup, priority)

        def look(can_be_ended_by: Callable[[Callable[[], None]], None]) -> Sequence[StepObserved]:
            found = watch(can_be_ended_by)
            if len(found) == self.steps and not missed(found):
                # What has to be looked at next is not begun only when somebody asks for it.
                following = self._following(number, (*seen, found[-1]))
                if following is not None:
                    with suppress(EngineError):  # who asks for it is told
                        self._ask(following, (*seen, found[-1]))
            return found

        return self.patience.ask(self.key, look, number)
