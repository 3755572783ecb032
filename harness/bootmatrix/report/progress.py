"""How far a run is, in one line: cells done, failures and known ones so far."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from bootmatrix.records.outcome import Outcome
from bootmatrix.records.words import duration, plural

# Fewer cells, or less time, tell nothing of how long the others take.
_TELLING_CELLS, _TELLING_SECONDS = 8, 5.0

_A_MINUTE = 59.5

SHOWN = (Outcome.FAILED, Outcome.ERROR, Outcome.KNOWN, Outcome.FIXED, Outcome.UNSUPPORTED)


@dataclass
class Progress:
    """Counts outcomes. ``total`` is the number of cells to run, or of runs if they are repeated."""

    total: int
    what: str = "cells"
    counts: Counter[Outcome] = field(default_factory=Counter)
    clock: Callable[[], float] = time.monotonic
    _begun: float | None = field(default=None, init=False)

    def begin(self, total: int, repeat: int = 1) -> None:
        """So many are to be run, each cell ``repeat`` times; time counts from the first call on."""
        self.total = total
        self.what = "cells" if repeat == 1 else "runs"
        if self._begun is None:
            self._begun = self.clock()

    @property
    def done(self) -> int:
        """How many cells have an outcome."""
        return self.counts.total()

    def add(self, outcome: Outcome) -> bool:
        """Count one cell; whether another tenth of the cells is done with it."""
        before = self._tenths()
        self.counts[outcome] += 1
        return self._tenths() > before

    def line(self) -> str:
        """``cells: 37/120, 2 failed, 8 known``; failures are told even while there are none."""
        parts = [f"{self.what}: {self.done}/{self.total}"]
        for outcome in SHOWN:
            number = self.counts[outcome]
            if outcome is Outcome.ERROR and number:
                parts.append(plural(number, "rig error"))
            elif number or outcome is Outcome.FAILED:
                parts.append(f"{number} {outcome}")
        if (left := self.left()) is not None:
            parts.append(f"about {f'{left:.0f} s' if left < _A_MINUTE else duration(left)} left")
        return ", ".join(parts)

    def left(self) -> float | None:
        """The seconds that the others take if they are as those before; None: too early to tell."""
        if self._begun is None or not _TELLING_CELLS <= self.done < self.total:
            return None
        took = self.clock() - self._begun
        return took / self.done * (self.total - self.done) if took >= _TELLING_SECONDS else None

    def _tenths(self) -> int:
        return 10 * self.done // self.total if self.total else 10


def waiting(cells: int, patience: float) -> str:
    """``3 cells wait for late guests: a boot is given up after 120 s``."""
    verb = "waits" if cells == 1 else "wait"
    return (f"{plural(cells, 'cell')} {verb} for late guests: a boot is given up after "
            f"{patience:.0f} s")
