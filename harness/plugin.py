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
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from harness.errors import HarnessError, UserError
from harness.rig import Rig

if TYPE_CHECKING:
    from harness.engines import Engine
    from harness.images import ImageStore
    from harness.lab import Lab
    from harness.matrix import Matrix
    from harness.model import Cell, Known

AXES = {
    "host": "a host that the guest runs on",
    "source": "the host that the guest starts on",
    "destination": "the host that the guest moves to",
    "machine": "the machine type",
    "policy": "the rule that decides which firmware runs at a boot",
    "scenario": "what is done to the guest",
    "disk": "how the guest's disk is attached",
    "accel": "QEMU's accelerator",
}
TAIL_LINES = 12


class RigLike(Protocol):
    """What the plugin asks of a rig."""

    run_dir: Path

    def check(self, matrix: Matrix) -> None:
        """Raise UserError if the matrix names a QEMU build that there is not."""

    def machines(self, qemu: str) -> tuple[str, ...]:
        """The machine types of a QEMU build."""

    def prepare(self, qemus: Iterable[str], say: Callable[[str], None] = ...) -> None:
        """Build the images that are missing, telling ``say`` about it. Raises HarnessError."""

    def run(self, cell: Cell, known: Sequence[Known]) -> dict[str, Any]:
        """Run a cell; its run record as JSON data."""

    def close(self) -> None:
        """End what was opened."""


RigFactory = Callable[[str | None, Path, str], RigLike]
"""Makes a rig from the engine's name, the artifacts' directory, and the worker's name."""

rig_key = pytest.StashKey[RigLike]()
rig_factory_key = pytest.StashKey[RigFactory]()  # tests put one of their own here
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
    group.addoption("--bootmatrix-cell", metavar="ID", action="append",
                    help="run only the cell with exactly this id (repeatable)")
    group.addoption("--strict-known", action="store_true",
                    help="fail a cell that passes though the matrix declares it as known to fail")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and on the process that reports, the recorder."""
    for axis, meaning in AXES.items():
        config.addinivalue_line("markers", f"{axis}(name): {meaning}, in cells of a matrix")
    if not _is_worker(config):
        recorder = config.stash[recorder_key] = Recorder(config, _run_dir(config))
        config.pluginmanager.register(recorder, "bootmatrix-recorder")
        config.add_cleanup(recorder.close)


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
    given: Path | None = config.getoption("bootmatrix_run_dir")
    if given is not None:
        return config.invocation_params.dir / given
    name = datetime.now().astimezone().strftime("%Y-%m-%dT%H-%M-%S")
    # Without an ini file pytest's root is the matrix's directory: no place for artifacts.
    home = config.rootpath if config.inipath else config.invocation_params.dir
    return home / "runs" / name


def _rig(config: pytest.Config) -> RigLike:
    if rig_key not in config.stash:
        worker = config.workerinput["workerid"] if _is_worker(config) else "main"  # type: ignore[attr-defined]
        run_dir = (_run_dir(config) if _is_worker(config)
                   else config.stash[recorder_key].run_dir)
        make = config.stash.get(rig_factory_key, Rig)
        rig = make(config.getoption("bootmatrix_engine"), run_dir, worker)
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


class MatrixFile(pytest.File):
    """A matrix file; its items are its cells."""

    matrix: Matrix

    def collect(self) -> Iterator[CellItem]:
        """The matrix's cells in its order. A mistake in the file is told in one line."""
        from harness.matrix import load

        rig = _rig(self.config)
        wanted = self.config.getoption("bootmatrix_cell")
        try:
            self.matrix = load(_shown(self.path))
            rig.check(self.matrix)
            cells = self.matrix.cells(rig.machines)
        except (UserError, HarnessError) as error:
            raise self.CollectError(str(error)) from None
        for cell in cells:
            if not wanted or cell.id in wanted:
                yield CellItem.from_parent(self, name=cell.id, cell=cell)


class CellItem(pytest.Item):
    """One cell of a matrix."""

    parent: MatrixFile

    def __init__(self, cell: Cell, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cell = cell
        self.record: dict[str, Any] | None = None
        hosts = [{"name": host.name, "qemu": host.qemu} | (
            {"firmware": host.firmware} if host.firmware else {}) for host in cell.hosts]
        marks = [("host", host) for host in hosts]
        marks += zip(("source", "destination"), hosts, strict=False)
        marks += [(axis, {"name": str(value)}) for axis, value in (
            ("machine", cell.machine), ("policy", cell.policy.value),
            ("scenario", cell.scenario.name), ("disk", cell.disk.value),
            ("accel", cell.accel.value))]
        for axis, values in marks:
            self.add_marker(getattr(pytest.mark, axis)(**values))
            self.extra_keyword_matches.add(values["name"])
            if axis != "host":
                self.user_properties.append((axis, values["name"]))

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where the item comes from: the matrix file."""
        # Not the bare name: pytest would take its dots for those of a Python path.
        return self.path, None, f"cell {self.name}"

    def runtest(self) -> None:
        """Run the cell, and let its outcome decide."""
        rig = _rig(self.config)
        try:
            rig.prepare(sorted({host.qemu for host in self.cell.hosts}))
            record = rig.run(self.cell, self.parent.matrix.known)
        except (HarnessError, UserError) as error:
            raise RigBroken(str(error)) from None
        record["matrix"] = str(_shown(self.path))
        self.record = record
        self.user_properties += [
            (key, record[key]) for key in ("verdict", "reason", "artifacts")]
        self._decide(record)

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
    names = sorted({host.qemu for item in items for host in item.cell.hosts})
    with suppress(HarnessError, UserError):  # each cell that needs the image will tell it
        _rig(session.config).prepare(names, say)


def _unheard(line: str) -> None:
    """Progress in a worker of xdist, which has no terminal."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give the record to the report: as plain data it also travels from xdist's workers."""
    report = yield
    if isinstance(item, CellItem) and report.when == "call":
        report.bootmatrix = item.record  # type: ignore[attr-defined]
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
    """Takes the records as they arrive, from here or from workers, and sums them up."""

    def __init__(self, config: pytest.Config, run_dir: Path) -> None:
        from harness.records import RecordWriter

        self.run_dir = run_dir
        self.records: list[dict[str, Any]] = []
        self._config = config
        self._begun = time.monotonic()
        self._files = [RecordWriter(run_dir / "records.jsonl")]
        given: Path | None = config.getoption("bootmatrix_records")
        if given is not None:
            self._files.append(RecordWriter(config.invocation_params.dir / given))
            try:
                self._files[-1].open()
            except UserError as error:
                raise pytest.UsageError(str(error)) from None

    def close(self) -> None:
        """Close the records' files."""
        for file in self._files:
            file.close()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write a record down at once: nothing is lost at a crash."""
        record = getattr(report, "bootmatrix", None)
        if record is None:
            return
        self.records.append(record)
        for file in self._files:
            file.write(record)

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """A cell that passes against its declaration is counted apart."""
        record = getattr(report, "bootmatrix", None)
        if record is None or not report.passed or record["known"] is None:
            return None
        from harness.report.outcome import Outcome, outcome_of

        return ("fixed", "!", "FIXED") if outcome_of(record) is Outcome.FIXED else None

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The table, and what stands under it."""
        if not self.records:
            return
        from harness.report.summary import summary
        from harness.report.table import Style

        writer = self._config.get_terminal_writer()
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        style = Style(width=writer.fullwidth, colour=writer.hasmarkup,
                      ascii=not encoding.lower().startswith("utf"))
        terminalreporter.section("which firmware ran", sep="=")
        terminalreporter.write_line(summary(
            self.records, style, seconds=time.monotonic() - self._begun,
            artifacts=str(_shown(self.run_dir)), command=_command()))


# ---- fixtures, for those who write tests of their own -----------------------------------------


@pytest.fixture(scope="session")
def bootmatrix_store(pytestconfig: pytest.Config) -> ImageStore:
    """The images that are cached on this machine; ``build`` makes those that are missing."""
    rig = _rig(pytestconfig)
    assert isinstance(rig, Rig)
    return rig.store


@pytest.fixture(scope="session")
def bootmatrix_engine(pytestconfig: pytest.Config) -> Engine:
    """The engine that QEMUs run in: that of ``--bootmatrix-engine``, or the best one here."""
    rig = _rig(pytestconfig)
    assert isinstance(rig, Rig)
    return rig.engine


@pytest.fixture
def bootmatrix(
    request: pytest.FixtureRequest, bootmatrix_store: ImageStore, bootmatrix_engine: Engine
) -> Iterator[Lab]:
    """Makes guests: launch on a host, migrate, reset, and ask which firmware ran."""
    from harness.lab import Lab

    name = re.sub(r"[^A-Za-z0-9._,-]+", "-", request.node.nodeid.partition("::")[2])
    directory = _rig(request.config).run_dir / "tests" / name
    with Lab(bootmatrix_store, bootmatrix_engine, directory) as lab:
        yield lab
