"""One monotonic deadline, made at the top of an operation and passed down through it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.errors import DeadlineExceeded


@dataclass(frozen=True)
class Deadline:
    """A point in time that all parts of one operation share.

    ``at`` is in seconds of ``clock``, which tests replace by a fake one.
    """

    at: float
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    @classmethod
    def after(cls, seconds: float, clock: Callable[[], float] = time.monotonic) -> Deadline:
        """The deadline ``seconds`` from now."""
        return cls(clock() + seconds, clock)

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - self.clock())

    @property
    def expired(self) -> bool:
        """Whether no time is left."""
        return self.clock() >= self.at

    def sooner(self, seconds: float) -> Deadline:
        """The earlier of this deadline and ``seconds`` from now."""
        return Deadline(min(self.at, self.clock() + seconds), self.clock)

    def check(self, waiting_for: str) -> None:
        """Raise DeadlineExceeded, naming what was waited for, if no time is left."""
        if self.expired:
            raise DeadlineExceeded(f"not in time: {waiting_for}")
