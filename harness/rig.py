"""What cells are run with, opened at first need and kept open between cells: store, engine, runner.

Importing this module costs nothing; what it holds is imported when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import EngineError, HarnessError

if TYPE_CHECKING:
    from harness.builds import Builds
    from harness.engines import Engine
    from harness.images import ImageStore
    from harness.matrix import Matrix
    from harness.model import Cell, HostSpec, Known
    from harness.runner import Runner


class Rig:
    """One process's rig. ``engine_name`` None takes the best engine that answers.

    ``run_dir`` takes the artifacts, ``worker`` tells this process from others that share it.
    ``share`` has cells that begin alike share their beginning.
    """

    share = False

    def __init__(self, engine_name: str | None, run_dir: Path, worker: str = "main") -> None:
        self.run_dir = run_dir
        self._engine_name = engine_name
        self._worker = worker
        self._opened = ExitStack()
        self._broken: HarnessError | None = None

    @cached_property
    def store(self) -> ImageStore:
        """The images that are cached on this machine."""
        from harness.images import ImageStore

        return ImageStore()

    @cached_property
    def builds(self) -> Builds:
        """Those images, and the user's own builds."""
        from harness.builds import Builds

        return Builds(self.store)

    @cached_property
    def engine(self) -> Engine:
        """The engine that QEMUs run in. Raises EngineError if it does not answer."""
        from harness.engines import choose

        engine = choose(self._engine_name)
        self._opened.callback(engine.close)
        return engine

    @cached_property
    def _runner(self) -> Runner:
        from harness.runner import Runner

        return self._opened.enter_context(
            Runner(self.builds, self.engine, self.run_dir, self._worker, self.share)
        )

    def check(self, matrix: Matrix) -> None:
        """Raise UserError if the matrix has a build that cannot be."""
        self.builds.check(matrix.used_hosts(), matrix.place)

    def machines(self, host: HostSpec) -> tuple[str, ...]:
        """The machine types of a host's QEMU build, which is built first where it is missing."""
        if isinstance(host.qemu, str):
            self.prepare([replace(host, firmware=None)])
        return self.builds.machines(host)

    def prepare(
        self, hosts: Iterable[HostSpec], say: Callable[[str], None] = lambda line: None
    ) -> None:
        """Make ready what hosts need; other processes wait for images at the store's lock.

        ``say`` gets lines of progress. A failure is raised again whenever it is asked again:
        a broken rig stays broken, instead of breaking anew, slowly, at each cell.
        """
        if self._broken is not None:
            raise self._broken
        try:
            self.builds.prepare(tuple(hosts), say)
        except HarnessError as error:
            self._broken = error
            raise

    def describe(self, cell: Cell) -> dict[str, Any]:
        """The cell as its record describes it, with the builds that it has today."""
        from harness.runner import describe

        return describe(cell, [self._runner.host(spec) for spec in cell.hosts])

    def run(self, cell: Cell, known: Sequence[Known], repeat: int = 1) -> dict[str, Any]:
        """Run a cell, the ``repeat``-th time; its run record as JSON data.

        Where the engine failed, it is opened anew and the cell run once more; the record says
        so (``retried``). Raises HarnessError, then and for every later cell, if that does not
        help: a broken rig stays broken.
        """
        if self._broken is not None:
            raise self._broken
        try:
            try:
                return self._runner.run(cell, known, repeat).to_json()
            except EngineError as error:
                first = error
            self._reopen()
            return self._runner.run(cell, known, repeat).to_json() | {"retried": first.message}
        except HarnessError as error:
            self._broken = error
            raise

    def _reopen(self) -> None:
        """Replace the engine by a new one of its kind."""
        if "engine" in self.__dict__:
            self._engine_name = self.engine.name
        with suppress(HarnessError):  # what is broken may not even end well
            self._opened.close()
        for opened in ("engine", "_runner"):
            self.__dict__.pop(opened, None)

    def close(self) -> None:
        """End what was opened, the last first."""
        try:
            self._opened.close()
        finally:
            if "builds" in self.__dict__:
                self.builds.close()
