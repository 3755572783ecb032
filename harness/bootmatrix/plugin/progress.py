"""What the command line hands to pytest: tells progress, and judges the session."""

from __future__ import annotations

import os
from collections.abc import Generator
from functools import cache
from typing import Any

import pytest

from bootmatrix.errors import Status
from bootmatrix.records.outcome import Outcome, outcome_of
from bootmatrix.report.progress import Progress, waiting
from bootmatrix.terminal import visible

_STATUSES = {
    pytest.ExitCode.OK: Status.GREEN, pytest.ExitCode.TESTS_FAILED: Status.RED,
    pytest.ExitCode.INTERRUPTED: Status.USER_ERROR, pytest.ExitCode.USAGE_ERROR: Status.USER_ERROR,
    pytest.ExitCode.NO_TESTS_COLLECTED: Status.USER_ERROR,
}  # fmt: skip
"""Of a session, where no cell says more. pytest calls what could not be collected interrupted."""


class ProgressReporter:
    """Tells cells done and failures so far instead of pytest's dots, and judges the session.

    On a terminal it rewrites one line; elsewhere it writes one at each tenth of the cells.
    With ``silent`` it leaves the telling to pytest (``-v``). That no cell can be run the recorder
    says, by pytest's exit code.
    """

    def __init__(self, silent: bool = False) -> None:
        self._silent = silent
        self._progress = Progress(0)
        self._repeat = 1
        self._terminal: Any = None
        self._waits: dict[Any, int] = {}  # the cells that wait for a late guest, by worker
        self._red = False
        self._verdicts: dict[tuple[str, str], str] = {}
        self._interrupted = False
        self.cells: dict[str, dict[str, Any]] = {}
        """What was run, as records describe it: by the matrix's absolute path and the id."""

    def status(self, code: int) -> int:
        """The command's exit status, from pytest's exit code and what was seen.

        A failed cell is a finding, and weighs more than a rig that broke in another cell; but
        not more than one that broke for good, so that other cells were not run.
        """
        if self._interrupted:
            return Status.INTERRUPTED
        if code == Status.RIG_BROKEN:
            return Status.RIG_BROKEN
        if self._red:
            return Status.RED
        if self._progress.counts[Outcome.ERROR]:
            return Status.RIG_BROKEN
        return _STATUSES.get(pytest.ExitCode(code), Status.RIG_BROKEN)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self, session: Any) -> None:
        """Find pytest's own reporter, through which all lines go, and have xdist's tell it once.

        With -q what xdist says of its workers is always the same line.
        """
        plugins = session.config.pluginmanager
        self._repeat = session.config.getoption("bootmatrix_repeat")
        self._terminal = plugins.get_plugin("terminalreporter")
        workers = plugins.get_plugin("terminaldistreporter")
        if workers is not None and not self._silent:
            workers.write_line = cache(workers.write_line)

    def pytest_collection_finish(self, session: Any) -> None:
        """Without workers: the number of cells."""
        self._progress.begin(len(session.items), self._repeat)
        if session.items and not self._silent:
            self._show(True)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """With workers: each has collected all cells. xdist has the line at that moment."""
        self._progress.begin(len(ids), self._repeat)

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self) -> Generator[None, Any, Any]:
        """Keep pytest's categories, and take its letters away."""
        status = yield
        if status is None or self._silent:
            return status
        return status[0], "", ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Count a cell, and tell."""
        worker = getattr(report, "node", None)
        if waits := getattr(report, "bootmatrix_waits", None):
            self._waits[worker], patience = waits
            self._line(waiting(sum(self._waits.values()), patience))
            return
        if getattr(report, "outcome", None) == "rerun":
            return  # pytest-rerunfailures: another report of this cell comes
        record = getattr(report, "bootmatrix", None)
        if record is not None:
            outcome = outcome_of(record)
            bad = report.failed
            # A repeat that ends otherwise: flaky, a finding even where each verdict is known.
            about = str(record.get("matrix")), str(record["cell"]["id"])
            matrix = os.path.abspath(about[0])  # noqa: PTH100  # links stay as they are
            self.cells.setdefault(matrix, {})[about[1]] = record["cell"]
            first = self._verdicts.setdefault(about, record["verdict"])
            self._red |= first != record["verdict"]
        elif getattr(report, "bootmatrix_broken", None):
            return  # it was not run, as little as those behind it: the recorder says why
        elif report.failed:
            outcome, bad = Outcome.ERROR, True
        elif report.when == "call":
            outcome, bad = Outcome.PASSED, False
        else:
            return
        self._red |= bad and outcome is not Outcome.ERROR
        tenth = self._progress.add(outcome)
        if self._waits.get(worker):  # which has no others left
            self._waits[worker] -= 1
        if self._silent:
            return
        if bad:
            self._line(f"{outcome} {report.nodeid.partition('::')[2]}")
        self._show(tenth)

    def pytest_keyboard_interrupt(self, excinfo: Any) -> None:
        """Tell Ctrl-C from xdist's way to stop at the first failure."""
        self._interrupted = excinfo.type is KeyboardInterrupt

    def _show(self, milestone: bool) -> None:
        if self._terminal.isatty():
            self._terminal.rewrite(self._progress.line(), erase=True)
        elif milestone:
            self._line(self._progress.line())

    def _line(self, text: str) -> None:
        text = visible(text)
        if self._terminal.isatty():
            self._terminal.rewrite(text, erase=True)
            self._terminal.write("\n")
        else:
            self._terminal.write_line(text)
