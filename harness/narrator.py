"""Plugin objects that the command line hands to pytest: one tells progress, one only looks.

pluggy's marker is pytest's own ``hookimpl``: so the room ``plugin`` stays the only one with pytest.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pluggy

from harness.report.outcome import Outcome, outcome_of
from harness.report.progress import Progress

GREEN, RED, USER_ERROR, RIG_BROKEN, INTERRUPTED = 0, 1, 2, 3, 130
# pytest.ExitCode
_TESTS_FAILED, _USAGE_ERROR, _NO_TESTS = 1, 4, 5

hookimpl = pluggy.HookimplMarker("pytest")


class Narrator:
    """Tells cells done and failures so far instead of pytest's dots, and judges the session.

    On a terminal it rewrites one line; elsewhere it writes one at each tenth of the cells.
    With ``silent`` it leaves the telling to pytest (``-v``).
    """

    def __init__(self, silent: bool = False) -> None:
        self._silent = silent
        self._progress = Progress(0)
        self._terminal: Any = None
        self._red = False
        self._verdicts: dict[tuple[str, str], str] = {}
        self._interrupted = False

    def status(self, code: int) -> int:
        """The command's exit status, from pytest's exit code and what was seen.

        A failed cell is a finding, and weighs more than a rig that broke in another cell; but
        not more than one that broke for good, so that other cells were not run.
        """
        if self._interrupted:
            return INTERRUPTED
        if code == RIG_BROKEN:
            return RIG_BROKEN
        if self._red:
            return RED
        if self._progress.counts[Outcome.ERROR]:
            return RIG_BROKEN
        return {0: GREEN, _TESTS_FAILED: RED, 2: USER_ERROR, _USAGE_ERROR: USER_ERROR,
                _NO_TESTS: USER_ERROR}.get(code, RIG_BROKEN)

    @hookimpl(trylast=True)
    def pytest_sessionstart(self, session: Any) -> None:
        """Find pytest's own reporter, through which all lines go."""
        self._terminal = session.config.pluginmanager.get_plugin("terminalreporter")

    def pytest_collection_finish(self, session: Any) -> None:
        """Without workers: the number of cells."""
        self._progress.total = len(session.items)
        if session.items and not self._silent:
            self._tell(True)

    @hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """With workers: each has collected all cells. xdist has the line at that moment."""
        self._progress.total = len(ids)

    @hookimpl(wrapper=True)
    def pytest_report_teststatus(self) -> Generator[None, Any, Any]:
        """Keep pytest's categories, and take its letters away."""
        status = yield
        if status is None or self._silent:
            return status
        return status[0], "", ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Count a cell, and tell."""
        record = getattr(report, "bootmatrix", None)
        if record is not None:
            outcome = outcome_of(record)
            bad = report.failed
            # A repeat that ends otherwise: flaky, a finding even where each verdict is known.
            about = str(record.get("matrix")), str(record["cell"]["id"])
            first = self._verdicts.setdefault(about, record["verdict"])
            self._red |= first != record["verdict"]
        elif report.failed:
            outcome, bad = Outcome.ERROR, True
        elif report.when == "call":
            outcome, bad = Outcome.PASSED, False
        else:
            return
        self._red |= bad and outcome is not Outcome.ERROR
        tenth = self._progress.add(outcome)
        if self._silent:
            return
        if bad:
            self._line(f"{outcome} {report.nodeid.partition('::')[2]}")
        self._tell(tenth)

    def pytest_keyboard_interrupt(self, excinfo: Any) -> None:
        """Tell Ctrl-C from xdist's way to stop at the first failure."""
        self._interrupted = excinfo.type is KeyboardInterrupt

    def _tell(self, milestone: bool) -> None:
        if self._terminal.isatty():
            self._terminal.rewrite(self._progress.line(), erase=True)
        elif milestone:
            self._line(self._progress.line())

    def _line(self, text: str) -> None:
        if self._terminal.isatty():
            self._terminal.rewrite(text, erase=True)
            self._terminal.write("\n")
        else:
            self._terminal.write_line(text)


class Selection:
    """Takes what pytest collected, for ``bootmatrix list -k``."""

    def __init__(self) -> None:
        self.cells: list[Any] = []

    def pytest_collection_finish(self, session: Any) -> None:
        """Keep the cells that are left after -k and -m."""
        self.cells = [item.cell for item in session.items if hasattr(item, "cell")]
