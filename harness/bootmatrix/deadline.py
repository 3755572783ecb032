"""One deadline, made at the top of an operation and passed down through it, and its clocks.

A clock here gives seconds that only grow. Which second it began with tells nothing.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bootmatrix.errors import DeadlineExceeded

Clock = Callable[[], float]

# A heart beats so often; without a beat the clock goes on for so long, then it stands still.
_BEAT_SECONDS = 0.1
_REACH_SECONDS = 0.3


class Awake:
    """The monotonic clock, without the time in which this process did not run.

    A thread of its own is its heart: while that does not beat, because the process was stopped,
    its host slept, or its processors were taken, nobody here could have seen anything happen.
    ``now`` is the clock that it is taken from. Without ``beats`` somebody else calls ``beat``.
    """

    def __init__(self, now: Clock = time.monotonic, *, beats: bool = True) -> None:
        self._now = now
        self._beats = beats
        self._last = now(), 0.0  # when the heart has beaten last, and what was the time then
        self._heart: threading.Thread | None = None

    def __call__(self) -> float:
        """The time."""
        if self._heart is None and self._beats:
            self._start()
        at, time_then = self._last
        return time_then + min(self._now() - at, _REACH_SECONDS)

    def beat(self) -> None:
        """Let the clock go on."""
        at, time_then = self._last
        now = self._now()
        self._last = now, time_then + min(now - at, _REACH_SECONDS)

    def _start(self) -> None:
        self.beat()
        self._heart = threading.Thread(target=self._live, name="heart", daemon=True)
        self._heart.start()

    def _live(self) -> None:
        while True:
            time.sleep(_BEAT_SECONDS)
            self.beat()

    def forked(self) -> None:
        """In a new process, which has inherited no thread."""
        self._heart = None


awake = Awake()
"""The clock of all that nobody knows a better one for."""
os.register_at_fork(after_in_child=awake.forked)


@dataclass(frozen=True)
class Deadline:
    """A point in time that all parts of one operation share.

    ``at`` is in seconds of ``clock``.
    """

    at: float
    clock: Clock = field(default=awake, repr=False)

    @classmethod
    def after(cls, seconds: float, clock: Clock = awake) -> Deadline:
        """The deadline ``seconds`` from now."""
        return cls(clock() + seconds, clock)

    @property
    def remaining(self) -> float:
        """Seconds left, never negative. It takes at least so long: look again afterwards."""
        return max(0.0, self.at - self.clock())

    @property
    def expired(self) -> bool:
        """Whether no time is left."""
        return self.clock() >= self.at

    def sooner(self, seconds: float) -> Deadline:
        """The earlier of this deadline and ``seconds`` from now."""
        return Deadline(min(self.at, self.clock() + seconds), self.clock)

    def by(self, clock: Clock) -> Deadline:
        """What is left of it, by another clock."""
        return Deadline.after(self.remaining, clock)

    def until(self, waits: Callable[[float], bool]) -> bool:
        """Whether something comes in time: ``waits`` waits for it, for so many seconds at most.

        What had come when no time was left, and nobody had looked, has come.
        """
        while not self.expired:
            if waits(self.remaining):
                return True
        return waits(0)

    def check(self, waiting_for: str) -> None:
        """Raise DeadlineExceeded, naming what was waited for, if no time is left."""
        if self.expired:
            raise DeadlineExceeded(f"not in time: {waiting_for}")


def slowest(*clocks: Clock) -> Clock:
    """A clock for what several machines do together: of the one that comes forward least."""
    begun = [clock() for clock in clocks]
    return lambda: min(clock() - at for clock, at in zip(clocks, begun, strict=True))


def hurried(clock: Clock, factor: float, at_most: Clock = awake) -> Clock:
    """A clock that goes ``factor`` times as fast as another, but no faster than ``at_most``."""
    return slowest(at_most, lambda: factor * clock())
