"""What cells are run with, opened at first need and kept open between cells: store, engine, runner.

Importing this module costs nothing; what it holds is imported when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, UserError

if TYPE_CHECKING:
    from harness.engines import Engine
    from harness.images import ImageStore
    from harness.matrix import Matrix
    from harness.model import Cell, Known
    from harness.runner import Runner


def check_builds(matrix: Matrix, store: ImageStore) -> None:
    """Raise UserError if the matrix names a QEMU build that the catalogue does not have."""
    for name in matrix.qemu_names():
        if name not in store.names():
            raise UserError(f"no such QEMU build: {name!r}", file=matrix.path,
                            hint="in the catalogue: " + ", ".join(store.names()))


class Rig:
    """One process's rig. ``engine_name`` None takes the best engine that answers.

    ``run_dir`` takes the artifacts, ``worker`` tells this process from others that share it.
    """

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
            Runner(self.store, self.engine, self.run_dir, self._worker)
        )

    def check(self, matrix: Matrix) -> None:
        """Raise UserError if the matrix names a QEMU build that the catalogue does not have."""
        check_builds(matrix, self.store)

    def machines(self, qemu: str) -> tuple[str, ...]:
        """The machine types of a QEMU build, which is built first where it is missing."""
        self.prepare([qemu])
        return self.store.qemu(qemu).machines

    def prepare(self, qemus: Iterable[str], say: Callable[[str], None] = lambda line: None) -> None:
        """Build the images that are missing; other processes wait for it at the store's lock.

        ``say`` gets lines of progress. A failure is raised again whenever it is asked again:
        a broken rig stays broken, instead of breaking anew, slowly, at each cell.
        """
        if self._broken is not None:
            raise self._broken
        missing = [name for name in qemus if not self.store.is_built(name)]
        if not missing:
            return
        try:
            self.store.build(missing, say)
        except HarnessError as error:
            self._broken = error
            raise

    def run(self, cell: Cell, known: Sequence[Known]) -> dict[str, Any]:
        """Run a cell; its run record as JSON data."""
        return self._runner.run(cell, known).to_json()

    def close(self) -> None:
        """End what was opened, the last first."""
        self._opened.close()
