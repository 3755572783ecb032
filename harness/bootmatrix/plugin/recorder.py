"""The recorder: takes the records as they arrive, from here or from workers, and sums them up."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bootmatrix.ending import finishing
from bootmatrix.errors import Status, UserError, in_a_line
from bootmatrix.matrix import SUFFIXES
from bootmatrix.model import BOARD_MACHINE
from bootmatrix.plugin.cells import STOPPED, UNREADABLE, CellItem
from bootmatrix.plugin.collection import past_times
from bootmatrix.plugin.options import add_markers
from bootmatrix.plugin.session import (
    find_run_dir,
    finished_of,
    given_dir,
    is_worker,
    only_looks,
    own_command,
    run_dir_key,
    same_words,
    shown,
)
from bootmatrix.plugin.spread import register as register_cluster
from bootmatrix.run.workers import side_by_side
from bootmatrix.terminal import visible

if TYPE_CHECKING:
    from bootmatrix.records.jsonl import RecordWriter
    from bootmatrix.records.model import Record


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and on the process that reports, the recorder."""
    add_markers(config)
    run_dir = config.stash[run_dir_key] = find_run_dir(config)
    if is_worker(config):
        config.pluginmanager.register(WorkerMemory(config), "bootmatrix-worker-memory")
    else:
        _check_selection(config)
        register_cluster(config)
        recorder = Recorder(config, run_dir)
        config.pluginmanager.register(recorder, "bootmatrix-recorder")
        config.add_cleanup(recorder.close)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell xdist's workers which directory the run's artifacts share."""
    node.workerinput["bootmatrix_run_dir"] = str(node.config.stash[run_dir_key])


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """More than cores, for what is nearly all waiting: where nothing but matrices is asked for."""
    files = [argument.partition("::")[0] for argument in config.args]
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ or not all(
            Path(file).suffix.lower() in SUFFIXES for file in files):
        return None
    return side_by_side()


def _check_selection(config: pytest.Config) -> None:
    """Raise UsageError at a mistake in -k, -m or the shard: a worker of xdist would break on it."""
    marks = config.pluginmanager.get_plugin("mark")
    try:
        if marks is not None:
            marks.pytest_collection_modifyitems(items=[], config=config)
        if given := config.getoption("bootmatrix_shard"):
            from bootmatrix.matrix.shards import Shard

            Shard.parse(given)
            past_times(config)
    except RecursionError:
        raise pytest.UsageError("-k or -m: an expression is too deep") from None
    except UserError as error:
        raise pytest.UsageError(visible(str(error))) from None


class WorkerMemory:
    """Lets a worker's memory stay what it is, however many cells it runs, and its boards end well.

    Its terminal reporter keeps every report, records and all, for a summary that a worker never
    writes; the controller has them by then.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Where it has boards it ends when they are seen to."""
        if has_boards(item.nodeid for item in session.items):
            _end_later()

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Let go of what has been sent."""
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if hasattr(report, "bootmatrix") and terminal is not None:
            terminal.stats.clear()


def has_boards(nodeids: Iterable[str]) -> bool:
    """Whether any of these is a cell of a board, by the machine in its id."""
    return any(f",{BOARD_MACHINE}," in nodeid for nodeid in nodeids)


def _end_later() -> None:
    """Let this worker see to a board when it is to end.

    execnet interrupts it, and has it exit ten seconds after that, whatever it does
    (WorkerGateway._terminate_execution).
    """
    from execnet.gateway_base import WorkerPool

    from bootmatrix.machines.bench.seat import CHIP_SECONDS

    wait = WorkerPool.waitall

    def longer(pool: WorkerPool, timeout: float | None = None) -> bool:
        return bool(wait(pool, CHIP_SECONDS if timeout == 10.0 else timeout))

    WorkerPool.waitall = longer  # type: ignore[assignment,method-assign]


class Recorder:
    """Takes the records as they arrive, from here or from workers, and sums them up.

    It also stops a run that cannot go on, and says which cells were not run.
    """

    def __init__(self, config: pytest.Config, run_dir: Path) -> None:
        from bootmatrix.run.directory import RECORDS, RunDirectory

        self.run_dir = run_dir
        self._directory = RunDirectory(run_dir)
        self._config = config
        self._begun = time.monotonic()
        self._notices: list[str] = []
        self._planned: list[str] = []
        self._recorded: set[str] = set()
        self._broken: str | None = None
        self._lost = ""
        self._crashed: list[str] = []
        self._fresh: set[str] = set()
        self._ran = 0
        self._ended: set[str] = set()
        self._records: dict[tuple[str, str, int], Record] = {}
        self._copy: RecordWriter | None = None
        try:
            # A directory of one's own choice can be another run's: this is told at once.
            if given_dir(config) is not None and not only_looks(config):
                self._directory.claim(resume=config.getoption("bootmatrix_resume") is not None)
            self._goes_on = finished_of(config, self._notices.append) is not None
            given: Path | None = config.getoption("bootmatrix_records")
            if given is not None:
                copy = config.invocation_params.dir / given
                if copy.resolve() == (run_dir / RECORDS).resolve():
                    raise UserError("the run's own records go there", file=given,
                                    hint="they are written anyway: no option is needed")
                from bootmatrix.records.jsonl import RecordWriter

                self._copy = RecordWriter(copy)
                self._copy.open()
        except UserError as error:
            self._directory.release()
            raise pytest.UsageError(visible(str(error))) from None

    @property
    def records(self) -> list[Record]:
        """Of the cells that this session has: those of the run gone on with come as if they ran."""
        return list(self._records.values())

    @cached_property
    def _file(self) -> RecordWriter:
        """The run's own records, from its first cell on: what writes them is slow to import."""
        from bootmatrix.records.jsonl import RecordWriter
        from bootmatrix.run.directory import RECORDS

        return RecordWriter(self.run_dir / RECORDS, append=self._goes_on)

    @property
    def _writers(self) -> list[RecordWriter]:
        """Those that are there."""
        return [writer for writer in (self.__dict__.get("_file"), self._copy) if writer is not None]

    def close(self) -> None:
        """Close the records' files, and remove what killed workers have left."""
        for writer in self._writers:
            writer.close()
        self._sweep()
        self._directory.release()

    def _sweep(self) -> None:
        from bootmatrix.run.directory import sweep

        sweep(self.run_dir)

    def _claim(self) -> None:
        """Make the directory this run's, now that there are cells to be run."""
        from bootmatrix.run.directory import CELLS

        try:
            if not only_looks(self._config):
                resume = self._config.getoption("bootmatrix_resume") is not None
                self._directory.claim(resume=resume)
                self._file.open()
                (self.run_dir / CELLS).mkdir(exist_ok=True)  # now it can be gone on with
        except (UserError, OSError) as error:
            raise pytest.UsageError(visible(in_a_line(error)[0])) from None

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Tidy up after the run that is gone on with, which may have been killed."""
        self._session = session
        self._guard_junit()
        if only_looks(session.config) or not self.run_dir.is_dir():
            return
        self._sweep()
        if finished := finished_of(self._config):
            finished.tidy()
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        for notice in self._notices:
            if terminal is not None:
                terminal.write_line(visible(notice))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Without workers: the cells that are to be run."""
        self._planned = [item.nodeid for item in session.items if isinstance(item, CellItem)]
        if self._planned:
            self._claim()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: Sequence[str]) -> None:
        """With workers, each of which has collected all of them."""
        named = (nodeid.partition("::") for nodeid in ids)
        self._planned = ["::".join((file, name)) for file, _, name in named
                         if file.lower().endswith(SUFFIXES) and name != UNREADABLE]
        if has_boards(self._planned):
            # A worker that is ended while it writes a chip leaves half an image in it.
            from bootmatrix.machines.bench.seat import CHIP_SECONDS

            node.nodemanager.EXIT_TIMEOUT = CHIP_SECONDS
        if self._planned:
            self._claim()

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: Any) -> None:
        """A worker ended by itself, or was killed; another takes its place."""
        self._ended.add(crashitem)
        cell = crashitem.partition("::")[2]
        self._crashed.append(f"stopped: worker {report.node.gateway.id} ended by itself, or was "
                             f"killed, while it ran {cell}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write a record down at once: nothing is lost at a crash."""
        if broken := getattr(report, "bootmatrix_broken", None):
            if self._broken is not None and report.failed:  # another worker: it is said once
                report.longrepr = STOPPED
            self._stop(broken)
        record = getattr(report, "bootmatrix", None)
        if record is None:
            if hasattr(report, "bootmatrix") and report.failed and not broken:
                self._ended.add(report.nodeid)  # as after pytest-timeout's end
            return
        if not report.bootmatrix_replayed and not self._write(report, record):
            self._ended.add(report.nodeid)
            return
        self._keep(record)
        self._recorded.add(report.nodeid)
        try:
            if self._copy is not None:
                self._copy.write(record | {"run": str(shown(self.run_dir))})
        except UserError as error:  # which is a copy: the record is there
            self._stop(str(error))

    def _write(self, report: Any, record: Record) -> bool:
        """Whether it is written; what cannot be fails, for nothing says later what it was."""
        try:
            self._file.write(record)
        except UserError as error:
            report.outcome, report.longrepr = "failed", f"it is not recorded: {error}"
            report.bootmatrix = None
            self._stop(str(error))
            return False
        self._fresh.add(report.nodeid)
        self._ran += record["verdict"] != "unsupported"
        return True

    def _keep(self, record: Record) -> None:
        about = str(record.get("matrix")), str(record["cell"]["id"]), record.get("repeat", 1)
        self._records[about] = record

    def _stop(self, why: str) -> None:
        """End the run after the cells that run right now: every other would fail alike."""
        if self._broken is None:
            self._broken = why
            workers = self._config.pluginmanager.get_plugin("dsession")
            (workers or self._session).shouldstop = STOPPED

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Iterator[None]:
        """A broken rig has an exit status of its own, and so have records that are not there.

        What was seen is told to its end, also to who has asked for an end in the meantime.
        """
        for writer in self._writers:
            try:
                writer.check()
            except UserError as error:
                self._stop(str(error))
        if self._broken is not None:
            session.exitstatus = int(Status.RIG_BROKEN)
        elif (session.exitstatus == pytest.ExitCode.OK and self._learnt_nothing
              and not self._is_part):
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED  # as if there were no cells
        with finishing():
            return (yield)

    def _guard_junit(self) -> None:
        """Let no JUnit file that cannot be written take with it what the run is about to say.

        pytest writes it before its summary, and an error there ends all.
        """
        plugins = self._config.pluginmanager
        for junit in plugins.get_plugins():
            if type(junit).__name__ == "LogXML":
                plugins.unregister(junit)
                junit.pytest_sessionfinish = self._guarded(junit, junit.pytest_sessionfinish)
                plugins.register(junit)

    def _guarded(self, junit: Any, write: Callable[[], None]) -> Callable[[], None]:
        def finish() -> None:
            try:
                write()
            except OSError as error:
                self._lost = f"{shown(Path(junit.logfile))}: cannot be written: {error.strerror}"
                if self._session.exitstatus in (
                        pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
                    self._session.exitstatus = int(Status.RIG_BROKEN)

        return finish

    @property
    def _learnt_nothing(self) -> bool:
        """Whether none of the cells can be run; tests beside them change nothing."""
        if not self._recorded:
            return False
        from bootmatrix.records.outcome import Outcome, outcome_of

        return all(outcome_of(record) is Outcome.UNSUPPORTED for record in self.records)

    @property
    def _is_part(self) -> bool:
        """Whether it is one of several shards: such can have none that can be run, by chance."""
        from bootmatrix.matrix.shards import Shard

        given = self._config.getoption("bootmatrix_shard")
        return bool(given) and Shard.parse(given).count > 1

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """A cell that passes against its declaration is counted apart."""
        record = getattr(report, "bootmatrix", None)
        if record is None or not report.passed or record["known"] is None:
            return None
        from bootmatrix.records.outcome import Outcome, outcome_of

        return ("fixed", "!", "FIXED") if outcome_of(record) is Outcome.FIXED else None

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter, exitstatus: int
    ) -> None:
        """The table, and what stands under it."""
        if self._recorded:
            self._tell_records(terminalreporter)
        left = [nodeid for nodeid in self._planned if nodeid not in self._recorded]
        if only_looks(self._config) or exitstatus == pytest.ExitCode.USAGE_ERROR:
            return
        if self._broken is not None:
            terminalreporter.write_line(visible(f"stopped: the rig broke: {self._broken}"))
        for line in (*self._crashed, self._lost):
            if line:
                terminalreporter.write_line(visible(line))
        if self._broken is None and self._learnt_nothing:
            terminalreporter.write_line("none of these cells can be run: nothing was learnt")
        if left:
            from bootmatrix.report.summary import unfinished
            from bootmatrix.run.directory import RECORDS

            there = (self.run_dir / RECORDS).exists()
            options, behind = same_words(self._config, failed=self._has_failed)
            terminalreporter.write_line(unfinished(
                {self._typed(nodeid): nodeid in self._ended for nodeid in left}, own_command(),
                str(shown(self.run_dir)) if there else None, options, behind,
                repeated=self._config.getoption("bootmatrix_repeat") > 1))

    @property
    def _has_failed(self) -> bool:
        """Whether a cell has that is not run again when one goes on."""
        from bootmatrix.records.outcome import Outcome, outcome_of

        strict = [Outcome.FIXED] * self._config.getoption("strict_known")
        return any(outcome_of(record) in (Outcome.FAILED, *strict) for record in self.records)

    def _typed(self, nodeid: str) -> str:
        """A node id, which is relative to pytest's root, with the matrix as one types it here."""
        matrix, _, cell = nodeid.partition("::")
        return f"{shown(self._config.rootpath / matrix)}::{cell}"

    def _tell_records(self, terminalreporter: pytest.TerminalReporter) -> None:
        from bootmatrix.records.merged import merged
        from bootmatrix.report.summary import summary
        from bootmatrix.report.table import Style

        writer = self._config.get_terminal_writer()
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        style = Style(width=writer.fullwidth, colour=writer.hasmarkup,
                      ascii=not encoding.lower().startswith("utf"))
        terminalreporter.section("which firmware ran", sep="=")
        terminalreporter.write_line(summary(
            merged(self.records), style, seconds=time.monotonic() - self._begun,
            artifacts=str(shown(self.run_dir)), command=own_command(),
            earlier=len(self.records) - len(self._fresh), ran=self._ran))
