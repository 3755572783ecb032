"""The pytest face: collects matrix files, runs their cells as items, tells what came of them.

It imports only what pytest has loaded anyway until a matrix is collected. The command line
imports it before pytest does, which needs no rewriting of asserts here: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from harness.errors import HarnessError, UserError
from harness.rig import Rig

if TYPE_CHECKING:
    from harness.builds import Builds
    from harness.engines import Engine
    from harness.images import ImageStore
    from harness.lab import Lab
    from harness.matrix import Matrix
    from harness.model import Cell, HostSpec, Known
    from harness.resume import Finished
    from harness.sources import Given

AXES = {
    "host": "a host that the guest runs on",
    "source": "the host that the guest starts on",
    "destination": "the host that the guest moves to",
    "machine": "the machine type",
    "policy": "the rule that decides which firmware runs at a boot",
    "scenario": "what is done to the guest",
    "disk": "how the guest's disk is attached",
    "accel": "QEMU's accelerator",
    "arch": "what the QEMUs emulate",
    "guest": "what runs once the firmware is done",
    "cpu": "the CPU model, empty for QEMU's own choice",
    "smp": "how many CPUs there are",
    "nic": "the guest's network card",
}
TAIL_LINES = 12
RIG_BROKEN = 3
"""The exit status of a run that was stopped because no cell could be run any more."""
STOPPED = "the rig broke: no other cell is run"


class RigLike(Protocol):
    """What the plugin asks of a rig."""

    run_dir: Path
    share: bool

    def check(self, matrix: Matrix) -> None:
        """Raise UserError if the matrix names a build that cannot be."""

    def machines(self, host: HostSpec) -> tuple[str, ...]:
        """The machine types of a host's QEMU build."""

    def prepare(self, hosts: Iterable[HostSpec], say: Callable[[str], None] = ...) -> None:
        """Make ready what hosts need, telling ``say``. Raises HarnessError and UserError."""

    def describe(self, cell: Cell) -> dict[str, Any]:
        """The cell as its record describes it, with the builds that it has today."""

    def run(self, cell: Cell, known: Sequence[Known], repeat: int = 1) -> dict[str, Any]:
        """Run a cell; its run record as JSON data. HarnessError: no cell can be run any more."""

    def close(self) -> None:
        """End what was opened."""


RigFactory = Callable[[str | None, Path, str], RigLike]
"""Makes a rig from the engine's name, the artifacts' directory, and the worker's name."""

rig_key = pytest.StashKey[RigLike]()
rig_factory_key = pytest.StashKey[RigFactory]()  # tests put one of their own here
finished_key = pytest.StashKey["Finished | None"]()
recorder_key = pytest.StashKey["Recorder"]()


# ---- options and configuration --------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options with a long prefix, so that no other plugin's can collide with them."""
    group = parser.getgroup("bootmatrix", "firmware matrices (bootmatrix)")
    group.addoption("--bootmatrix-engine", choices=("docker", "bubblewrap"),
                    help="run QEMUs in this engine (default: docker if it answers)")
    group.addoption("--bootmatrix-records", metavar="FILE", type=Path,
                    help="write one run record (JSON) a line to FILE")
    group.addoption("--bootmatrix-run-dir", metavar="DIR", type=Path,
                    help="put consoles, command lines and records into DIR "
                         "(default: a new directory in runs/)")
    group.addoption("--bootmatrix-resume", metavar="DIR", type=Path,
                    help="go on with the run whose directory this is: cells that stand finished "
                         "there are not run again, and count")
    group.addoption("--bootmatrix-cell", metavar="ID", action="append",
                    help="run only the cell with exactly this id (repeatable)")
    group.addoption("--bootmatrix-share", action="store_true",
                    help="boot cells that begin alike once, and feed the saved guest to each "
                         "destination: faster, but no live migration")
    group.addoption("--bootmatrix-qemu", metavar="NAME=PATH", action="append",
                    help="a QEMU of your own, for matrices and --bootmatrix-host (repeatable)")
    group.addoption("--bootmatrix-firmware", metavar="NAME=PATH", action="append",
                    help="a firmware image of your own, or a directory of them (repeatable)")
    group.addoption("--bootmatrix-host", metavar="QEMU[/FIRMWARE]", action="append",
                    help="only cells to or from this host, which need not be in the matrix "
                         "(repeatable)")
    group.addoption("--bootmatrix-repeat", metavar="N", type=int, default=1,
                    help="run each cell N times; verdicts that differ are reported as flaky")
    group.addoption("--bootmatrix-shard", metavar="K/N",
                    help="run only part K of N of the cells; the same part in every run")
    group.addoption("--bootmatrix-shard-times", metavar="FILE", type=Path,
                    help="balance the parts by the times of these records, or of a history")
    group.addoption("--strict-known", action="store_true",
                    help="fail a cell that passes though the matrix declares it as known to fail")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and on the process that reports, the recorder."""
    for axis, meaning in AXES.items():
        config.addinivalue_line("markers", f"{axis}(name): {meaning}, in cells of a matrix")
    if _is_worker(config):
        config.pluginmanager.register(Forgetter(config), "bootmatrix-forgetter")
    else:
        recorder = config.stash[recorder_key] = Recorder(config, _run_dir(config))
        config.pluginmanager.register(recorder, "bootmatrix-recorder")
        config.add_cleanup(recorder.close)


class Forgetter:
    """Lets a worker's memory stay what it is, however many cells it runs.

    Its terminal reporter keeps every report, records and all, for a summary that a worker never
    writes; the controller has them by then.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Let go of what has been sent."""
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if hasattr(report, "bootmatrix") and terminal is not None:
            terminal.stats.clear()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell xdist's workers which directory the run's artifacts share."""
    node.workerinput["bootmatrix_run_dir"] = str(node.config.stash[recorder_key].run_dir)


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _run_dir(config: pytest.Config) -> Path:
    """The directory of this run's artifacts, absolute; it is made when there are some."""
    if _is_worker(config):
        return Path(config.workerinput["bootmatrix_run_dir"])  # type: ignore[attr-defined]
    given: Path | None = (config.getoption("bootmatrix_resume")
                          or config.getoption("bootmatrix_run_dir"))
    if given is not None:
        return config.invocation_params.dir / given
    name = datetime.now().astimezone().strftime("%Y-%m-%dT%H-%M-%S")
    # Without an ini file pytest's root is the matrix's directory: no place for artifacts.
    home = config.rootpath if config.inipath else config.invocation_params.dir
    return home / "runs" / name


def _finished(config: pytest.Config, say: Callable[[str], None] | None = None) -> Finished | None:
    """The finished cells of the run that is gone on with; None if this is a new run."""
    if finished_key not in config.stash:
        finished = None
        if config.getoption("bootmatrix_resume") is not None:
            from harness.resume import Finished

            finished = Finished(_run_dir(config), say or _unheard)
        config.stash[finished_key] = finished
    return config.stash[finished_key]


def _rig(config: pytest.Config) -> RigLike:
    if rig_key not in config.stash:
        worker = config.workerinput["workerid"] if _is_worker(config) else "main"  # type: ignore[attr-defined]
        run_dir = (_run_dir(config) if _is_worker(config)
                   else config.stash[recorder_key].run_dir)
        make = config.stash.get(rig_factory_key, Rig)
        rig = make(config.getoption("bootmatrix_engine"), run_dir, worker)
        rig.share = config.getoption("bootmatrix_share")
        config.add_cleanup(rig.close)
        config.stash[rig_key] = rig
    return config.stash[rig_key]


# ---- collection -----------------------------------------------------------------------------


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> MatrixFile | None:
    """Collect matrix files that are named on the command line, or lie under ``matrices/``."""
    if file_path.suffix not in (".yaml", ".yml"):
        return None
    if not parent.session.isinitpath(file_path):
        root = parent.config.rootpath
        inside = file_path.relative_to(root) if file_path.is_relative_to(root) else file_path
        if "matrices" not in inside.parent.parts:
            return None
    from harness.matrix import looks_like_matrix

    if not looks_like_matrix(file_path):
        return None
    return MatrixFile.from_parent(parent, path=file_path)


OWN = ("qemu", "firmware", "host")
"""The options about builds of the user's own."""


def _given(config: pytest.Config) -> Given:
    """The builds and hosts of the user's own that the options name."""
    from harness.sources import parse

    return parse(*(config.getoption(f"bootmatrix_{kind}") or () for kind in OWN))


def _own_options(config: pytest.Config) -> list[str]:
    """Those options as the command line has them."""
    return [word for kind in OWN for value in config.getoption(f"bootmatrix_{kind}") or ()
            for word in (f"--{kind}", value)]


class MatrixFile(pytest.File):
    """A matrix file; its items are its cells."""

    matrix: Matrix

    def collect(self) -> Iterator[CellItem]:
        """The matrix's cells in its order. A mistake in the file is told in one line."""
        from harness.matrix import load

        rig = _rig(self.config)
        wanted = self.config.getoption("bootmatrix_cell")
        try:
            self.matrix = load(_shown(self.path), _given(self.config))
            rig.check(self.matrix)
            cells = self.matrix.cells(rig.machines)
            if finished := _finished(self.config):
                finished.check(self.path, cells, _named_files(self.config))
        except (UserError, HarnessError) as error:
            raise self.CollectError(str(error)) from None
        for cell in cells:
            if not wanted or cell.id in wanted:
                for repeat in range(1, max(1, self.config.getoption("bootmatrix_repeat")) + 1):
                    name = cell.id if repeat == 1 else f"{cell.id}#{repeat}"
                    yield CellItem.from_parent(self, name=name, cell=cell, repeat=repeat)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the cells that -k and -m have left, leave those of this shard."""
    given: str | None = config.getoption("bootmatrix_shard")
    if not given:
        return
    from harness.shards import Shard

    try:
        times = _past_times(config)
        shard = Shard.parse(given)
    except UserError as error:
        raise pytest.UsageError(str(error)) from None
    cells = [item for item in items if isinstance(item, CellItem)]
    mine = shard.pick((item.cell.id for item in cells), times)
    others = [item for item in cells if item.cell.id not in mine]
    if others:
        config.hook.pytest_deselected(items=others)
        left = {id(item) for item in others}
        items[:] = [item for item in items if id(item) not in left]


def _past_times(config: pytest.Config) -> dict[str, float]:
    """The seconds that each cell took in the past, by ids."""
    given: Path | None = config.getoption("bootmatrix_shard_times")
    if given is None:
        return {}
    path = config.invocation_params.dir / given
    from harness.history import History, is_history
    from harness.record_files import load
    from harness.report.merged import merged

    if is_history(path):
        with History(path) as history:
            return history.times()
    return {record["cell"]["id"]: float(record["seconds"])
            for record in merged(load([path], cut_off=_unheard, mixed=True))
            if record.get("seconds")}


def _named_files(config: pytest.Config) -> list[str]:
    """The names of the files that are collected; none if a directory is, whose files can be any."""
    paths = [Path(argument.partition("::")[0]) for argument in config.args]
    return [] if any(path.is_dir() for path in paths) else [path.name for path in paths]


@cache
def _mark(axis: str, values: tuple[tuple[str, str], ...]) -> pytest.MarkDecorator:
    """A mark; thousands of cells share a few dozen of them."""
    mark: pytest.MarkDecorator = getattr(pytest.mark, axis)(**dict(values))
    return mark


class CellItem(pytest.Item):
    """One cell of a matrix."""

    parent: MatrixFile

    def __init__(self, cell: Cell, repeat: int, **kwargs: Any) -> None:
        from harness import axes

        super().__init__(**kwargs)
        self.cell = cell
        self.repeat = repeat
        self.record: dict[str, Any] | None = None
        self.replayed = False
        self.broken: str | None = None
        hosts = [{"name": host.name, "qemu": str(host.qemu)} | (
            {"firmware": str(host.firmware)} if host.firmware else {}) for host in cell.hosts]
        marks = [("host", host) for host in hosts]
        marks += zip(("source", "destination"), hosts, strict=False)
        plain = axes.values(cell)
        marks += [(axis, {"name": str(value)}) for axis, value in plain.items()]
        for axis, values in marks:
            self.add_marker(_mark(axis, tuple(values.items())))
            self.extra_keyword_matches.add(values["name"])
            if axis != "host" and not axes.is_default(axis, plain.get(axis)):
                self.user_properties.append((axis, values["name"]))

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where the item comes from: the matrix file."""
        # Not the bare name: pytest would take its dots for those of a Python path.
        return self.path, None, f"cell {self.name}"

    def runtest(self) -> None:
        """Run the cell, and let its outcome decide."""
        rig = _rig(self.config)
        try:
            rig.prepare(dict.fromkeys(self.cell.hosts))
            record = self._earlier(rig)
            if record is None:
                from harness.resume import fingerprint

                record = rig.run(self.cell, self.parent.matrix.known, self.repeat)
                if self.config.getoption("bootmatrix_repeat") > 1:
                    record["repeat"] = self.repeat
                record["matrix"] = str(_shown(self.path))
                if options := _own_options(self.config):
                    record["options"] = options
                record["fingerprint"] = fingerprint(self.cell)
            else:
                self.replayed = True
        except (HarnessError, UserError) as error:
            self.broken = str(error)
            self.session.shouldstop = STOPPED
            raise RigBroken(self.broken) from None
        self.record = record
        self.user_properties += [
            (key, record[key]) for key in ("verdict", "reason", "artifacts")]
        self._decide(record)

    def _earlier(self, rig: RigLike) -> dict[str, Any] | None:
        """The record that this cell has from the run that is gone on with."""
        finished = _finished(self.config)
        if finished is None:
            return None
        return finished.record(self.path, self.cell, rig.describe(self.cell), self.repeat)

    def _decide(self, record: dict[str, Any]) -> None:
        from harness.report.outcome import Outcome, outcome_of

        outcome = outcome_of(record)
        if outcome is Outcome.KNOWN:
            pytest.xfail(record["known"])  # does nothing with --runxfail
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
            from harness.report.failure import failure

            record = excinfo.value.record
            artifacts = _rig(self.config).run_dir / record["artifacts"]
            return failure(record, artifacts=str(_shown(artifacts)), command=_command(),
                           tail=_console_tail(artifacts))
        if isinstance(excinfo.value, RigBroken):
            return f"the rig broke; nothing was learnt about the firmware:\n{excinfo.value}"
        return super().repr_failure(excinfo, style)


class CellFailed(Exception):
    """A cell whose record says that it is to fail."""

    def __init__(self, record: dict[str, Any]) -> None:
        super().__init__(record["verdict"])
        self.record = record


class RigBroken(Exception):
    """A cell that could not be run at all."""


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build missing images before the first cell, where no cell's time is spent on it."""
    items = [item for item in session.items if isinstance(item, CellItem)]
    if not items or session.config.option.collectonly:
        return
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    say = terminal.write_line if terminal is not None else _unheard
    hosts = dict.fromkeys(host for item in items for host in item.cell.hosts)
    with suppress(HarnessError, UserError):  # each cell that needs the image will tell it
        _rig(session.config).prepare(hosts, say)


def _unheard(line: str) -> None:
    """Progress in a worker of xdist, which has no terminal."""


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
        if report.skipped and isinstance(report.longrepr, tuple):
            report.longrepr = (str(item.path), 1, report.longrepr[2])
    return report


def _shown(path: Path) -> Path:
    """The path as one would type it here."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else Path(relative)


def _command() -> str:
    """How to call bootmatrix here: it need not be on the PATH, in a checkout's .venv it is not."""
    script = Path(sys.executable).with_name("bootmatrix")
    found = shutil.which("bootmatrix") is not None or not script.exists()
    return "bootmatrix" if found else str(_shown(script))


def _console_tail(artifacts: Path) -> list[str]:
    """The last lines of the console that was written last, of all the cell's QEMUs."""
    logs = sorted(artifacts.glob("*/console.log"), key=lambda path: path.stat().st_mtime_ns)
    if not logs:
        return []
    from harness.identity import EscapeFilter

    text = EscapeFilter().feed(logs[-1].read_bytes()).decode("utf-8", "replace")
    lines = ("".join(char for char in line if char.isprintable()) for line in text.splitlines())
    return [line for line in lines if line.strip()][-TAIL_LINES:]


# ---- reporting ------------------------------------------------------------------------------


def run_pytest(arguments: list[str], plugins: Sequence[object] = ()) -> int:
    """Run pytest in this process for the command line; its exit code."""
    return int(pytest.main(arguments, plugins=plugins))


class Recorder:
    """Takes the records as they arrive, from here or from workers, and sums them up.

    It also stops a run that cannot go on, and says which cells were not run.
    """

    def __init__(self, config: pytest.Config, run_dir: Path) -> None:
        from harness.records import RecordWriter

        self.run_dir = run_dir
        self._config = config
        self._begun = time.monotonic()
        self._notices: list[str] = []
        self._planned: list[str] = []
        self._recorded: set[str] = set()
        self._broken: str | None = None
        self._fresh = 0
        self._records: dict[tuple[str, str, int], dict[str, Any]] = {}
        self._copy: RecordWriter | None = None
        try:
            finished = _finished(config, self._notices.append)
            for record in finished.records.values() if finished else ():
                self._keep(record)
            self._file = RecordWriter(run_dir / "records.jsonl", append=finished is not None)
            given: Path | None = config.getoption("bootmatrix_records")
            if given is not None:
                self._copy = RecordWriter(config.invocation_params.dir / given)
                self._copy.open()
        except UserError as error:
            raise pytest.UsageError(str(error)) from None

    @property
    def records(self) -> list[dict[str, Any]]:
        """What is known of the cells, those of the run that is gone on with included."""
        return list(self._records.values())

    def close(self) -> None:
        """Close the records' files, and remove what killed workers have left."""
        self._file.close()
        if self._copy is not None:
            self._copy.close()
        self._sweep()

    def _sweep(self) -> None:
        if any(self.run_dir.glob("scratch-*")):
            from harness.resume import sweep

            sweep(self.run_dir)

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Tidy up after the run that is gone on with, which may have been killed."""
        self._session = session
        if session.config.option.collectonly or not self.run_dir.is_dir():
            return
        self._sweep()
        if finished := _finished(self._config):
            finished.tidy()
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        for notice in self._notices:
            if terminal is not None:
                terminal.write_line(notice)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Without workers: the cells that are to be run."""
        self._planned = [item.nodeid for item in session.items if isinstance(item, CellItem)]

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: Sequence[str]) -> None:
        """With workers, each of which has collected all of them."""
        self._planned = [nodeid for nodeid in ids
                         if nodeid.partition("::")[0].endswith((".yaml", ".yml"))]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write a record down at once: nothing is lost at a crash."""
        if broken := getattr(report, "bootmatrix_broken", None):
            if self._broken is not None and report.failed:  # another worker: it is said once
                report.longrepr = STOPPED
            self._stop(broken)
        record = getattr(report, "bootmatrix", None)
        if record is None or self._broken:
            return
        try:
            if not report.bootmatrix_replayed:
                self._file.write(record)
                self._fresh += 1
            if self._copy is not None:
                self._copy.write(record)
        except UserError as error:
            self._stop(str(error))
            return
        self._keep(record)
        self._recorded.add(report.nodeid)

    def _keep(self, record: dict[str, Any]) -> None:
        about = str(record.get("matrix")), str(record["cell"]["id"]), record.get("repeat", 1)
        self._records[about] = record

    def _stop(self, why: str) -> None:
        """End the run after the cells that run right now: every other would fail alike."""
        if self._broken is None:
            self._broken = why
            workers = self._config.pluginmanager.get_plugin("dsession")
            (workers or self._session).shouldstop = STOPPED

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A broken rig has an exit status of its own."""
        if self._broken is not None:
            session.exitstatus = RIG_BROKEN

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """A cell that passes against its declaration is counted apart."""
        record = getattr(report, "bootmatrix", None)
        if record is None or not report.passed or record["known"] is None:
            return None
        from harness.report.outcome import Outcome, outcome_of

        return ("fixed", "!", "FIXED") if outcome_of(record) is Outcome.FIXED else None

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The table, and what stands under it."""
        if self._recorded:
            self._tell_records(terminalreporter)
        left = [nodeid for nodeid in self._planned if nodeid not in self._recorded]
        if self._config.option.collectonly or not left:
            return
        from harness.report.summary import unfinished

        if self._broken is not None:
            terminalreporter.write_line(f"stopped: the rig broke: {self._broken}")
        terminalreporter.write_line(unfinished(
            left, _command(), str(_shown(self.run_dir)) if self.run_dir.is_dir() else None,
            _own_options(self._config)))

    def _tell_records(self, terminalreporter: pytest.TerminalReporter) -> None:
        from harness.report.merged import merged
        from harness.report.summary import summary
        from harness.report.table import Style

        writer = self._config.get_terminal_writer()
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        style = Style(width=writer.fullwidth, colour=writer.hasmarkup,
                      ascii=not encoding.lower().startswith("utf"))
        terminalreporter.section("which firmware ran", sep="=")
        terminalreporter.write_line(summary(
            merged(self.records), style, seconds=time.monotonic() - self._begun,
            artifacts=str(_shown(self.run_dir)), command=_command(),
            earlier=len(self.records) - self._fresh))


# ---- fixtures, for those who write tests of their own -----------------------------------------


@pytest.fixture(scope="session")
def bootmatrix_store(pytestconfig: pytest.Config) -> ImageStore:
    """The images that are cached on this machine; ``build`` makes those that are missing."""
    rig = _rig(pytestconfig)
    assert isinstance(rig, Rig)
    return rig.store


@pytest.fixture(scope="session")
def bootmatrix_builds(pytestconfig: pytest.Config) -> Builds:
    """Those images and builds of your own, by where they are."""
    rig = _rig(pytestconfig)
    assert isinstance(rig, Rig)
    return rig.builds


@pytest.fixture(scope="session")
def bootmatrix_engine(pytestconfig: pytest.Config) -> Engine:
    """The engine that QEMUs run in: that of ``--bootmatrix-engine``, or the best one here."""
    rig = _rig(pytestconfig)
    assert isinstance(rig, Rig)
    return rig.engine


@pytest.fixture
def bootmatrix(
    request: pytest.FixtureRequest, bootmatrix_builds: Builds, bootmatrix_engine: Engine
) -> Iterator[Lab]:
    """Makes guests: launch on a host, migrate, reset, and ask which firmware ran."""
    from harness.lab import Lab

    name = re.sub(r"[^A-Za-z0-9._,-]+", "-", request.node.nodeid.partition("::")[2])
    directory = _rig(request.config).run_dir / "tests" / name
    with Lab(bootmatrix_builds, bootmatrix_engine, directory) as lab:
        yield lab
