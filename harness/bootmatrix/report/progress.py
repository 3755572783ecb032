"""How far a run is, in one line: cells done, failures and known ones so far."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from bootmatrix.records.outcome import Outcome
from bootmatrix.records.words import plural

TOLD = (Outcome.FAILED, Outcome.ERROR, Outcome.KNOWN, Outcome.FIXED, Outcome.UNSUPPORTED)


@dataclass
class Progress:
    """Counts outcomes. ``total`` is the number of cells to run."""

    total: int
    counts: Counter[Outcome] = field(default_factory=Counter)

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
        parts = [f"cells: {self.done}/{self.total}"]
        for outcome in TOLD:
            number = self.counts[outcome]
            if outcome is Outcome.ERROR and number:
                parts.append(plural(number, "rig error"))
            elif number or outcome is Outcome.FAILED:
                parts.append(f"{number} {outcome}")
        return ", ".join(parts)

    def _tenths(self) -> int:
        return 10 * self.done // self.total if self.total else 10


def waiting(cells: int, patience: float) -> str:
    """``3 cells wait for late guests: a boot is given up after 120 s``."""
    verb = "waits" if cells == 1 else "wait"
    return (f"{plural(cells, 'cell')} {verb} for late guests: a boot is given up after "
            f"{patience:.0f} s")
