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
