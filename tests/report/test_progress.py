"""How far a run is, in one line."""

from __future__ import annotations

from bootmatrix.records.outcome import Outcome
from bootmatrix.report.progress import Progress


def test_progress() -> None:
    progress = Progress(20)
    assert progress.line() == "cells: 0/20, 0 failed"
    assert [progress.add(Outcome.PASSED) for _ in range(4)] == [False, True, False, True]
    progress.add(Outcome.KNOWN)
    progress.add(Outcome.ERROR)
    assert progress.line() == "cells: 6/20, 0 failed, 1 rig error, 1 known"
    assert Progress(0).line() == "cells: 0/0, 0 failed"


def test_the_time_that_is_left_is_told_when_there_is_a_guess() -> None:
    now = 100.0
    progress = Progress(0, clock=lambda: now)
    progress.begin(20)
    now = 200.0
    progress.begin(20)  # the second worker's
    for _ in range(7):
        progress.add(Outcome.PASSED)
    assert progress.left() is None, "too few"
    progress.add(Outcome.PASSED)
    assert progress.line() == "cells: 8/20, 0 failed, about 2 min 30 s left"
    now = 104.0
    assert progress.left() is None, "too soon"
    now = 110.0
    assert progress.line().endswith("about 15 s left")
    for _ in range(12):
        progress.add(Outcome.PASSED)
    assert progress.line() == "cells: 20/20, 0 failed"
