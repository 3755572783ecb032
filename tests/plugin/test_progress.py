"""What is told while cells run, and which status their session has."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bootmatrix.errors import Status
from bootmatrix.plugin.progress import ProgressReporter
from helpers.records import record


class Terminal:
    """pytest's, as far as it is used; ``lines`` are what stays, ``now`` the line rewritten."""

    def __init__(self, tty: bool) -> None:
        self.tty = tty
        self.lines: list[str] = []
        self.now = ""

    def isatty(self) -> bool:
        return self.tty

    def rewrite(self, text: str, erase: bool) -> None:
        assert erase
        self.now = text

    def write(self, text: str) -> None:
        assert text == "\n"
        self.lines.append(self.now)

    def write_line(self, text: str) -> None:
        self.lines.append(text)


def begun(
    cells: int, *, tty: bool = False, repeat: int = 1, **options: bool
) -> tuple[ProgressReporter, Terminal]:
    """A session that has collected so many cells."""
    terminal = Terminal(tty)
    reporter = ProgressReporter(**options)
    plugins = SimpleNamespace(get_plugin=lambda name: {"terminalreporter": terminal}.get(name))
    config = SimpleNamespace(pluginmanager=plugins, getoption=lambda name: repeat)
    reporter.pytest_sessionstart(SimpleNamespace(config=config))
    reporter.pytest_collection_finish(SimpleNamespace(items=[None] * cells, config=config))
    return reporter, terminal


def report(verdict: str | None = "pass", *, failed: bool = False, worker: Any = None,
           **values: Any) -> SimpleNamespace:
    """pytest's, of a cell that had this verdict."""
    of_cell = {} if verdict is None else {"bootmatrix": record(verdict=verdict, **values)}
    return SimpleNamespace(nodeid="m.yaml::the-cell", failed=failed, when="call", node=worker,
                           **of_cell)


def test_each_tenth_is_a_line_where_there_is_no_terminal() -> None:
    reporter, terminal = begun(40)
    for _ in range(8):
        reporter.pytest_runtest_logreport(report())
    assert terminal.lines == ["cells: 0/40, 0 failed", "cells: 4/40, 0 failed",
                              "cells: 8/40, 0 failed"]


def test_what_is_repeated_is_counted_in_runs() -> None:
    _, terminal = begun(6, repeat=3)
    assert terminal.lines == ["runs: 0/6, 0 failed"]


def test_a_terminal_has_one_line_and_failures_stay() -> None:
    reporter, terminal = begun(3, tty=True)
    reporter.pytest_runtest_logreport(report())
    assert (terminal.lines, terminal.now) == ([], "cells: 1/3, 0 failed")
    reporter.pytest_runtest_logreport(report("silent", failed=True))
    assert terminal.lines == ["failed the-cell"]
    assert terminal.now == "cells: 2/3, 1 failed"


def test_a_cell_before_which_the_rig_broke_was_not_run() -> None:
    reporter, terminal = begun(10)
    at = report(None, failed=True)
    at.bootmatrix_broken = "tcp://127.0.0.1:1: no scheduler answers"
    reporter.pytest_runtest_logreport(at)
    assert terminal.lines == ["cells: 0/10, 0 failed"]
    assert reporter.status(Status.RIG_BROKEN) == Status.RIG_BROKEN


def test_pytest_s_own_verbose_way_is_left_alone() -> None:
    reporter, terminal = begun(1, silent=True)
    reporter.pytest_runtest_logreport(report("silent", failed=True))
    assert terminal.lines == []
    assert reporter.status(1) == Status.RED


@pytest.mark.parametrize("silent", [False, True])
def test_letters_are_taken_away_and_categories_kept(silent: bool) -> None:
    told = ProgressReporter(silent=silent).pytest_report_teststatus()
    next(told)
    with pytest.raises(StopIteration) as ended:
        told.send(("passed", ".", "PASSED"))
    assert ended.value.value == (
        ("passed", ".", "PASSED") if silent else ("passed", "", ""))


def test_names_reach_the_terminal_filtered() -> None:
    reporter, terminal = begun(1)
    bad = report("silent", failed=True)
    bad.nodeid = "m.yaml::\x1b]0;title\x07x"
    reporter.pytest_runtest_logreport(bad)
    assert "\x1b" not in "".join(terminal.lines)


def test_who_waits_is_told_until_the_verdict_comes() -> None:
    reporter, terminal = begun(9)
    for worker, waits in (("gw0", (2, 120.0)), ("gw1", (1, 120.0))):
        reporter.pytest_runtest_logreport(SimpleNamespace(node=worker, bootmatrix_waits=waits))
    assert terminal.lines[-1] == (
        "3 cells wait for late guests: a boot is given up after 120 s")
    reporter.pytest_runtest_logreport(report("late", failed=True, worker="gw0"))
    reporter.pytest_runtest_logreport(
        SimpleNamespace(node="gw1", bootmatrix_waits=(1, 120.0)))
    assert terminal.lines[-1].startswith("2 cells wait ")


@pytest.mark.parametrize(("reports", "code", "status"), [
    ([report()], 0, Status.GREEN),
    ([report("silent", failed=True)], 1, Status.RED),
    ([report("silent", known="hangs")], 0, Status.GREEN),
    ([report("error", failed=True)], 1, Status.RIG_BROKEN),
    ([report("error", failed=True), report("silent", failed=True)], 1, Status.RED),
    ([report("unsupported")], 5, Status.USER_ERROR),
    ([report("unsupported"), report(policy="reread")], 0, Status.GREEN),
    ([report("silent", known="x"), report("late", known="x")], 0, Status.RED),
    ([report(None, failed=True)], 1, Status.RIG_BROKEN),
    ([report(None)], 0, Status.GREEN),
    ([report()], 4, Status.USER_ERROR),
    ([], 5, Status.USER_ERROR),
    ([report("silent", failed=True)], 3, Status.RIG_BROKEN),
], ids=["passed", "a finding", "a known one", "a rig that broke", "a finding weighs more",
        "nothing learnt", "something learnt", "flaky, though known", "a test of another kind",
        "that passed", "usage", "nothing", "broken for good"])  # fmt: skip
def test_the_status(reports: list[Any], code: int, status: Status) -> None:
    reporter, _ = begun(len(reports))
    for each in reports:
        reporter.pytest_runtest_logreport(each)
    assert reporter.status(code) == status


def test_a_part_of_many_may_have_learnt_nothing() -> None:
    reporter, _ = begun(1)
    reporter.pytest_runtest_logreport(report("unsupported"))
    assert reporter.status(0) == Status.GREEN


@pytest.mark.parametrize(("kind", "status"), [
    (KeyboardInterrupt, Status.INTERRUPTED), (RuntimeError, Status.USER_ERROR),
])  # fmt: skip
def test_ctrl_c_is_not_xdist_s_way_to_stop(kind: type[BaseException], status: Status) -> None:
    reporter, _ = begun(0)
    reporter.pytest_keyboard_interrupt(SimpleNamespace(type=kind))
    assert reporter.status(2) == status


def test_with_workers_all_have_collected_the_same() -> None:
    reporter, terminal = begun(0)
    reporter.pytest_xdist_node_collection_finished(None, ["a", "b"])
    reporter.pytest_runtest_logreport(report())
    assert terminal.lines == ["cells: 1/2, 0 failed"]
