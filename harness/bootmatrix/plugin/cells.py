"""A cell as pytest's item: run, put off while it is waited for, and judged by its record."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _pytest._code import Traceback, TracebackEntry
from _pytest.runner import runtestprotocol

from bootmatrix.errors import HarnessError, UserError, in_a_line
from bootmatrix.files.given_file import Unreadable
from bootmatrix.files.run_files import logs, open_log
from bootmatrix.model import BoardSource
from bootmatrix.plugin.console_tail import console_tail
from bootmatrix.plugin.fixtures import tell_of_guests
from bootmatrix.plugin.session import (
    RigLike,
    finished_of,
    is_worker,
    own_command,
    reused_options,
    rig_of,
    shown,
)
from bootmatrix.run.rig import Begun
from bootmatrix.terminal import visible

if TYPE_CHECKING:
    from bootmatrix.cell import Cell
    from bootmatrix.model import Known
    from bootmatrix.records.model import Record

ALLURE = "allure_listener"
UNREADABLE = "unreadable"
STOPPED = "the rig broke: no other cell is run"
collected_key = pytest.StashKey[set[Path]]()
_put_off_key = pytest.StashKey["list[CellItem]"]()


def name_in_run(config: pytest.Config, path: Path) -> str:
    """What a matrix file is called in this run; all of the run are collected by now."""
    from bootmatrix.run.resume import unique_names

    collected = config.stash[collected_key]
    return unique_names(collected)[path]


@cache
def _mark(axis: str, values: tuple[tuple[str, str], ...]) -> pytest.MarkDecorator:
    """A mark; thousands of cells share a few dozen of them."""
    mark: pytest.MarkDecorator = getattr(pytest.mark, axis)(**dict(values))
    return mark


class CellItem(pytest.Item):
    """One cell of a matrix."""

    fixturenames = ()  # labgrid's plugin asks each item for them

    def __init__(
        self, cell: Cell, known: Sequence[Known], repeat: int, **kwargs: Any
    ) -> None:
        from bootmatrix.matrix import axes

        super().__init__(**kwargs)
        self.cell = cell
        self._known = known
        self.repeat = repeat
        self.record: Record | None = None
        self.replayed = False
        self.begun: Begun | None = None
        self.put_off = False
        self.may_wait = False
        self.broken: str | None = None
        self._axes: list[tuple[str, object]] = []
        hosts = [{"name": host.name, "qemu": str(host.qemu)} | (
            {"firmware": str(host.firmware)} if host.firmware else {}) for host in cell.hosts]
        marks = [("host", host) for host in hosts]
        marks += zip(("source", "destination"), hosts, strict=False)
        plain = cell.values
        marks += [(axis, {"name": str(value)}) for axis, value in plain.items()]
        for axis, values in marks:
            self.add_marker(_mark(axis, tuple(values.items())))
            self.extra_keyword_matches.add(values["name"])
            if axis != "host" and not axes.is_default(axis, plain.get(axis)):
                self._axes.append((axis, values["name"]))
        self.user_properties += self._axes

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where the item comes from: the matrix file."""
        # Not the bare name: pytest would take its dots for those of a Python path.
        return self.path, None, f"cell {self.name}"

    def runtest(self) -> None:
        """Run the cell, and let its outcome decide."""
        rig = rig_of(self.config)
        rig.matrix = name_in_run(self.config, self.path)
        try:
            rig.prepare(dict.fromkeys(self.cell.hosts))
            record = self._earlier(rig)
            if record is None:
                from bootmatrix.records.times import now
                from bootmatrix.run.resume import fingerprint

                if self.begun is None:
                    self.begun = rig.begin(self.cell, self._known, self.repeat)
                    self.put_off = self.may_wait and self.begun.waits
                    if self.put_off:
                        return  # its record comes later: see pytest_runtest_protocol
                begun, self.begun, self.put_off = self.begun, None, False
                record = begun.record()
                if self.config.getoption("bootmatrix_repeat") > 1:
                    record["repeat"] = self.repeat
                record["ended"] = now()
                record["matrix"] = str(shown(self.path))
                if rig.matrix != self.path.name:
                    record["matrix_name"] = rig.matrix
                if shard := self.config.getoption("bootmatrix_shard"):
                    record["shard"] = shard
                if reused := reused_options(self.config):
                    record["options"] = [
                        word for option, value in reused for word in (option.flag, value)]
                record["fingerprint"] = fingerprint(self.cell)
            else:
                self.replayed = True
        except (HarnessError, UserError) as error:
            self.broken = str(error)
            self.session.shouldstop = STOPPED
            raise RigBroken(self.broken) from None
        except OSError as error:  # a full disk, most likely: no other cell would fare better
            self.broken = in_a_line(error)[0]
            self.session.shouldstop = STOPPED
            raise RigBroken(self.broken) from None
        except Exception as error:
            raise RigBroken(in_a_line(error)[0]) from None
        from bootmatrix.records.words import versions

        self.record = record
        if self.config.pluginmanager.hasplugin(ALLURE):
            self._tell_allure(record)
        self.user_properties = self._axes + versions(record) + [
            (key, record.get(key)) for key in ("verdict", "reason", "artifacts")]
        self._decide(record)

    def _tell_allure(self, record: Record) -> None:
        """The axes as its parameters, the cell's files and command lines as its attachments."""
        import allure

        from bootmatrix.records.words import command_line
        from bootmatrix.run.bounds import LOG_BYTES

        for axis, value in self._axes:
            allure.dynamic.parameter(axis, value)
        if qemus := record.get("qemus"):
            allure.attach(visible("\n".join(map(command_line, qemus))), "command lines",
                          allure.attachment_type.TEXT)
        run = str(rig_of(self.config).run_dir)
        place = str(_artifacts(Path(run), record))
        for name in logs(place, run):
            # None of ours is larger: they are cut.
            with suppress(Unreadable), open_log(f"{place}/{name}", run, 2 * LOG_BYTES) as log:
                allure.attach(log.read(), name, allure.attachment_type.TEXT)

    @property
    def is_finished(self) -> bool:
        """Whether the run that is gone on with may have its record."""
        finished = finished_of(self.config)
        if finished is None:
            return False
        return finished.has(self.path, self.cell, self.repeat)

    def send(self, rig: RigLike) -> Begun | None:
        """Give the cell to a rig that runs it elsewhere; None where its protocol is due now."""
        rig.matrix = name_in_run(self.config, self.path)
        try:
            rig.prepare(dict.fromkeys(self.cell.hosts))
            if self._earlier(rig) is None:
                self.begun = rig.begin(self.cell, self._known, self.repeat)
        except Exception:  # which its protocol meets again, and tells
            self.begun = None
        return self.begun

    def _earlier(self, rig: RigLike) -> Record | None:
        """The record that this cell has from the run that is gone on with."""
        finished = finished_of(self.config)
        if finished is None:
            return None
        return finished.record(self.path, self.cell, rig.describe(self.cell), self.repeat)

    def _decide(self, record: Record) -> None:
        from bootmatrix.records.outcome import Outcome, outcome_of
        from bootmatrix.records.words import declared

        outcome = outcome_of(record)
        if outcome is Outcome.KNOWN:
            pytest.xfail(declared(record))  # does nothing with --runxfail
        if outcome is Outcome.UNSUPPORTED:
            pytest.skip(record["reason"])
        strict = outcome is Outcome.FIXED and self.config.getoption("strict_known")
        if strict or outcome in (Outcome.FAILED, Outcome.ERROR, Outcome.KNOWN):
            raise CellFailed(record)

    def repr_failure(
        self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None
    ) -> Any:
        """What happened, for people; a traceback only where the harness itself is wrong."""
        if isinstance(excinfo.value, CellFailed):
            from bootmatrix.report.failure import failure
            from bootmatrix.run.directory import RECORDS

            record = excinfo.value.record
            run_dir = rig_of(self.config).run_dir
            artifacts = _artifacts(run_dir, record)
            return failure(record, artifacts=str(shown(artifacts)), command=own_command(),
                           records=str(shown(run_dir / RECORDS)),
                           tail=console_tail(artifacts, run_dir))
        if isinstance(excinfo.value, pytest.xfail.Exception):
            return str(excinfo.value)  # pytest would read all the source on the way to pytest.xfail
        if isinstance(excinfo.value, RigBroken):
            return f"the rig broke; nothing was learnt about the firmware:\n{excinfo.value}"
        return super().repr_failure(excinfo, style)


class CellFailed(AssertionError):
    """A cell whose record says that it is to fail; to Allure what is no assertion is broken."""

    def __init__(self, record: Record) -> None:
        super().__init__(f"{record['verdict']}: {record['reason']}")
        self.record = record


class RigBroken(Exception):
    """A cell that could not be run at all."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a cell; one whose verdict is waited for is put off, and the next ones go on meanwhile."""
    if not isinstance(item, CellItem) or _rerun(item):
        return None
    # Allure takes each time that an item is begun for a test of its own.
    item.may_wait = not item.config.pluginmanager.hasplugin(ALLURE)
    put_off = item.session.stash.setdefault(_put_off_key, [])
    hook = item.ihook
    hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    if item.put_off:
        put_off.append(item)
        return True
    for report in reports:
        hook.pytest_runtest_logreport(report=report)
    hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _rerun(item: pytest.Item) -> bool:
    """Whether pytest-rerunfailures runs the item, which waits for its verdict then."""
    return bool(item.config.getoption("reruns", None) or item.get_closest_marker("flaky"))


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """When all others are done, wait for the cells that were put off."""
    done = yield
    waiting = session.stash.get(_put_off_key, [])
    while waiting and not (session.shouldfail or session.shouldstop):
        item = next((one for one in waiting if one.begun and not one.begun.waits), waiting[0])
        waiting.remove(item)
        _tell_xdist(item)
        waits = sum(one.begun is not None and one.begun.waits for one in (item, *waiting))
        # Who waits for a board does so for its turn, and not for a guest that may be late.
        real = any(isinstance(host.qemu, BoardSource) for host in item.cell.hosts)
        if item.begun is not None and item.begun.waits and not real:
            _tell_wait(item, waits)
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        if session.shouldfail and not is_worker(session.config):
            raise session.Failed(session.shouldfail)
        if session.shouldstop and not is_worker(session.config):
            raise session.Interrupted(session.shouldstop)
    return done


def _tell_xdist(item: CellItem) -> None:
    """Which item the reports of a worker are about from now on."""
    for plugin in item.config.pluginmanager.get_plugins():
        if hasattr(plugin, "item_index") and hasattr(plugin, "sendevent"):
            plugin.item_index = item.session.items.index(item)


def _tell_wait(item: CellItem, waits: int) -> None:
    """Tell who tells progress how many cells wait: xdist's controller hears of reports alone."""
    report = pytest.TestReport(item.nodeid, item.location, {}, "passed", None, "setup")
    report.bootmatrix_waits = [waits, item.cell.longest]  # type: ignore[attr-defined]
    item.ihook.pytest_runtest_logreport(report=report)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give the record to the report: as plain data it also travels from xdist's workers."""
    report = yield
    if isinstance(item, CellItem) and report.when == "call":
        # The session keeps its items to the end; a worker need not keep their records.
        report.bootmatrix, item.record = item.record, None  # type: ignore[attr-defined]
        report.bootmatrix_replayed = item.replayed  # type: ignore[attr-defined]
        report.bootmatrix_broken = item.broken  # type: ignore[attr-defined]
        if report.bootmatrix is not None and not item.replayed:
            # What is waited for beside other cells is no time of this one's.
            report.duration = report.bootmatrix["seconds"]
        if report.skipped and isinstance(report.longrepr, tuple):
            report.longrepr = (str(item.path), 1, visible(report.longrepr[2]))
        elif report.longrepr is not None:
            report.longrepr = visible(str(report.longrepr))
        if hasattr(report, "wasxfail"):
            report.wasxfail = visible(report.wasxfail)
    elif "bootmatrix" in getattr(item, "fixturenames", ()):
        tell_of_guests(item, report)
        _show(report.longrepr)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_internalerror(excrepr: Any) -> None:
    """What broke pytest itself can be about what a guest said."""
    _show(excrepr)


@pytest.hookimpl(tryfirst=True)
def pytest_keyboard_interrupt(excinfo: Any) -> None:
    """Leave out of an interruption's traceback what Python has no line number for.

    What a compiler adds of its own can have none (PEP 626), and Ctrl-C comes anywhere; pytest
    subtracts one from it, whatever it is.
    """
    excinfo.traceback = Traceback(entry for entry in excinfo.traceback if _has_line(entry))


def _has_line(entry: TracebackEntry) -> bool:
    try:
        return entry.lineno >= 0
    except TypeError:
        return False


def _show(failure: Any) -> None:
    """Let what guests said in a failure that pytest tells steer nothing: see ``visible``."""
    if not hasattr(failure, "reprtraceback"):
        return  # none, or text
    one = (failure.reprtraceback, failure.reprcrash, None)
    for traceback, crash, _ in getattr(failure, "chain", [one]):
        for entry in traceback.reprentries:
            for part in (entry, getattr(entry, "reprlocals", None)):
                if part is not None:
                    part.lines = [visible(line) for line in part.lines]
        if crash is not None:
            crash.message = visible(crash.message)


def _artifacts(run_dir: Path, record: Record) -> Path:
    """Where a record says that its cell's artifacts are, which can be anywhere."""
    return Path(os.path.normpath(run_dir / (record.get("artifacts") or "")))
