"""What cells are run with, opened at first need and kept open between cells: store, engine, runner.

Importing this module costs nothing; what it holds is imported when it is first asked for.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.ending import ENDING
from bootmatrix.errors import EngineError, HarnessError, SandboxLost
from bootmatrix.model import BoardSource

if TYPE_CHECKING:
    from bootmatrix.builds.host import Builds
    from bootmatrix.builds.image_store import ImageStore
    from bootmatrix.cell import Cell
    from bootmatrix.engines import Engine
    from bootmatrix.matrix.expansion import Matrix
    from bootmatrix.model import HostSpec, Known
    from bootmatrix.records.model import CellRow, Record
    from bootmatrix.run.bench import BesideRunner
    from bootmatrix.run.runner import Runner, Unjudged


class Begun:
    """A cell that was run: its record, or what it takes to have it."""

    def __init__(
        self, record: Record | None, ready: Callable[[], bool] = lambda: True,
        judged: Callable[[], Record] | None = None,
    ) -> None:
        self._record = record
        self._ready = ready
        self._judged = judged

    @property
    def waits(self) -> bool:
        """Whether it is still waited for a guest that may be late."""
        return self._record is None and not self._ready()

    @property
    def is_complete(self) -> bool:
        """Whether nothing is waited for any more."""
        return self._record is not None

    def record(self) -> Record:
        """Its run record as JSON data; waits for it. Raises HarnessError: the rig broke."""
        if self._record is None:
            assert self._judged is not None
            self._record = self._judged()
        return self._record

class Rig:
    """One process's rig. ``engine_name`` None takes the best engine that answers.

    ``run_dir`` takes the artifacts, ``worker`` tells this process from others that share it.
    ``share`` has cells that begin alike share their beginning, ``hasty`` boots that go round given
    up at once. ``matrix`` is the name, within the
    run, of the matrix whose cells are run now: their artifacts lie below it.
    """

    share = False
    hasty = False
    matrix = ""

    def __init__(self, engine_name: str | None, run_dir: Path, worker: str = "main") -> None:
        self.run_dir = run_dir
        self._engine_name = engine_name
        self._worker = worker
        self._opened = ExitStack()
        self._broken: HarnessError | None = None

    @cached_property
    def store(self) -> ImageStore:
        """The images that are cached on this machine."""
        from bootmatrix.builds.image_store import ImageStore

        return ImageStore()

    @cached_property
    def builds(self) -> Builds:
        """Those images, and the user's own builds."""
        from bootmatrix.builds.host import Builds

        return Builds(self.store)

    @cached_property
    def engine(self) -> Engine:
        """The engine that QEMUs run in. Raises EngineError if it does not answer."""
        from bootmatrix.engines import choose

        engine = choose(self._engine_name)
        self._opened.callback(engine.close)
        return engine

    @property
    def _runner(self) -> Runner:
        runner = self._opened_runner
        runner.matrix, runner.hasty = self.matrix, self.hasty
        return runner

    @cached_property
    def _bench(self) -> BesideRunner:
        from bootmatrix.run.bench import BesideRunner

        return self._opened.enter_context(BesideRunner(self.builds, self.run_dir, self._worker))

    @cached_property
    def _opened_runner(self) -> Runner:
        from bootmatrix.run.runner import Runner

        return self._opened.enter_context(
            Runner(self.builds, self.engine, self.run_dir, self._worker, self.share)
        )

    def check(self, matrix: Matrix) -> None:
        """Raise UserError if the matrix has a build that cannot be."""
        self.builds.check(matrix.used_hosts, matrix.place)

    def machines(
        self, host: HostSpec, progress: Callable[[str], None] = lambda line: None, *,
        build: bool = True,
    ) -> tuple[str, ...]:
        """The machine types of a host's QEMU build, which is built first where it is missing.

        ``progress`` gets lines of it. Without ``build`` a missing one is a UserError.
        """
        if not build:
            return self.builds.machines_as_built(host)
        if isinstance(host.qemu, str):
            self.prepare([replace(host, firmware=None)], progress)
        else:
            self.builds.alone([host.qemu], progress)
        return self.builds.machines(host)

    def prepare(
        self, hosts: Iterable[HostSpec], progress: Callable[[str], None] = lambda line: None
    ) -> None:
        """Make ready what hosts need; other processes wait for images at the store's lock.

        ``progress`` gets lines of it. A failure is raised again whenever it is asked again:
        a broken rig stays broken, instead of breaking anew, slowly, at each cell.
        """
        if self._broken is not None:
            raise self._broken
        try:
            self.builds.prepare(tuple(hosts), progress)
        except HarnessError as error:
            self._broken = error
            raise

    def describe(self, cell: Cell) -> CellRow:
        """The cell as its record describes it, with the builds that it has today."""
        from bootmatrix.records.rows import cell_row

        return cell_row(cell, [self.builds.host(spec) for spec in cell.hosts])

    def run(self, cell: Cell, known: Sequence[Known], repeat: int = 1) -> Record:
        """Run a cell, the ``repeat``-th time, to its run record as JSON data; see ``begin``."""
        return self.begin(cell, known, repeat).record()

    def begin(self, cell: Cell, known: Sequence[Known], repeat: int = 1) -> Begun:
        """Run a cell, the ``repeat``-th time, and wait for nothing that other cells need not.

        Where the engine failed, it is opened anew and the cell run once more; the record says
        so (``retried``). A cell that loses its sandbox both times is an ``error``. Raises
        HarnessError, then and for every later cell, if the engine is broken for good.
        """
        if self._broken is not None:
            raise self._broken
        if self._is_of_a_board(cell):
            return self._on_the_bench(cell, known, repeat)
        from bootmatrix.run.runner import Unjudged

        runner = None
        try:
            try:
                runner = self._runner
                begun = runner.begin(cell, known, repeat)
            except EngineError as error:
                return self._again(cell, known, repeat, runner, error)
        except HarnessError as error:
            self._broken = error
            raise
        if not isinstance(begun, Unjudged):
            return Begun(begun)
        return Begun(None, lambda: begun.done, lambda: self._judged(begun, cell, known, repeat))

    def _is_of_a_board(self, cell: Cell) -> bool:
        return any(isinstance(host.qemu, BoardSource) for host in cell.hosts)

    def _on_the_bench(self, cell: Cell, known: Sequence[Known], repeat: int) -> Begun:
        """Run a board's cell: beside the others, as it takes its time and none of a processor."""
        record = self._bench.begin(self.matrix, cell, known, repeat)

        def judged() -> Record:
            try:
                return record.result()
            except HarnessError as error:
                self._broken = error
                raise

        return Begun(None, record.done, judged)

    def _judged(
        self, begun: Unjudged, cell: Cell, known: Sequence[Known], repeat: int
    ) -> Record:
        """The record of a cell that was waited for."""
        if self._broken is not None:
            raise self._broken
        try:
            try:
                return begun.judged()
            except EngineError as error:
                return self._again(cell, known, repeat, begun.runner, error).record()
        except HarnessError as error:
            self._broken = error
            raise

    def _again(
        self, cell: Cell, known: Sequence[Known], repeat: int, failed: Runner | None,
        error: EngineError,
    ) -> Begun:
        """Run a cell once more, whatever it takes, with an engine that has not failed."""
        if failed is self.__dict__.get("_opened_runner"):
            self._reopen()
        lost = error if isinstance(error, SandboxLost) else None
        again = self._runner.run(cell, known, repeat, lost)
        return Begun({**again, "retried": error.message})

    def _reopen(self) -> None:
        """Replace the engine by a new one of its kind."""
        if "engine" in self.__dict__:
            self._engine_name = self.engine.name
        with suppress(HarnessError):  # what is broken may not even end well
            self._opened.close()
        for opened in ("engine", "_opened_runner", "_bench"):
            self.__dict__.pop(opened, None)

    def close(self) -> None:
        """End what was opened, the last first. No signal that asks for an end hurries it."""
        with _undisturbed():
            try:
                self._opened.close()
            finally:
                if "builds" in self.__dict__:
                    self.builds.close()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """What is done here has deadlines, and leaves nothing behind if it is let alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
