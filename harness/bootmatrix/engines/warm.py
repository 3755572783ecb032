"""What both engines share: confinements that stay warm, lent to one sandbox after the other."""

from __future__ import annotations

import contextlib
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Self

from bootmatrix.engines.confinement import CELL, Identity, Priority, file_bytes
from bootmatrix.engines.launcher import LaunchedProcess, Launcher
from bootmatrix.errors import EngineError
from bootmatrix.files import cell_files
from bootmatrix.files.cell_files import CellDir
from bootmatrix.model import DEFAULT_LIMITS, Grant, Limits, QemuBuild

WARM = 8
"""How many confinements an engine keeps that no sandbox uses."""
LOOK_SECONDS = 0.2
"""How often is looked at how much the programs in sandboxes have written."""

_TAIL_BYTES, _TAIL_LINES = 8192, 20


class Confinement(ABC):
    """A root with one directory of the host in it, and a launcher that starts programs there.

    ``keep`` tells whether it may serve another sandbox when nobody uses it.
    """

    launcher: Launcher
    users: int = 0
    keep: bool = True

    @abstractmethod
    def shut(self) -> None:
        """End the launcher's input, and so the confinement; ``remove`` waits for it."""

    @abstractmethod
    def remove(self) -> None:
        """Make sure that everything in it is gone, and wait for it."""


class WarmSandbox:
    """A warm confinement while it is lent (see Sandbox). ``build`` is the name of its build."""

    def __init__(
        self,
        build: str,
        confinement: Confinement,
        cell: CellDir,
        shown: Path | None,
        give_back: Callable[[WarmSandbox, Confinement], None],
        most_bytes: int = cell_files.MOST_BYTES,
        most_names: int = cell_files.MOST_NAMES,
    ) -> None:
        self._most_bytes, self._most_names = most_bytes, most_names
        self.build = build
        self.cell_dir = cell.path
        self.shown = shown
        self._cell = cell
        self._confinement = confinement
        self._give_back = give_back
        self._processes: list[LaunchedProcess] = []
        self._closed = False

    def launch(self, argv: Sequence[str], log: Path) -> LaunchedProcess:
        """See Sandbox."""
        name = str(log.relative_to(self.cell_dir))
        self._processes = [process for process in self._processes if not process.ended]
        self._cell.make_empty(name)
        process = self._confinement.launcher.launch(
            tuple(argv), f"{CELL}/{name}", lambda: self._last_words(name)
        )
        self._processes.append(process)
        return process

    def close(self) -> None:
        """Kill what still runs, and give the confinement back once nobody else uses it."""
        if self._closed:
            return
        self._closed = True
        self._confinement.users -= 1
        with contextlib.ExitStack() as stack:
            stack.callback(self._cell.close)
            self._give_back(self, self._confinement)
            if not self._confinement.users:
                return
            for process in self._processes:
                stack.callback(process.kill)

    def excess(self) -> str | None:
        """What too much has been written of; None if of nothing."""
        return self._cell.excess(self._most_bytes, self._most_names)

    def end(self, excess: str) -> None:
        """End it for what was written there."""
        self._confinement.launcher.end(excess)

    def _last_words(self, log: str) -> str:
        """The last lines of a log, for an error's message."""
        if self._closed:
            return ""
        text = self._cell.tail(log, _TAIL_BYTES).decode(errors="replace")
        return "\n".join(text.splitlines()[-_TAIL_LINES:])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class WarmEngine(ABC):
    """An engine that keeps a confinement for each build and directory (see Engine)."""

    name: str

    def __init__(self) -> None:
        self.identity = Identity.unprivileged()
        self.priority = Priority.USUAL
        self._warm: dict[tuple[Any, ...], Confinement] = {}
        self._lent: set[WarmSandbox] = set()
        self._lending = threading.Lock()
        self._closed = threading.Event()
        self._watch: threading.Thread | None = None

    def sandbox(
        self, build: QemuBuild, cell_dir: Path, grants: Collection[Grant] = (), keep: bool = False,
        shown: Path | None = None, limits: Limits = DEFAULT_LIMITS,
    ) -> WarmSandbox:
        """See Engine."""
        try:
            cell = CellDir(cell_dir.absolute())
        except OSError as error:
            raise EngineError(f"the cell's directory {cell_dir}: {error.strerror}") from error
        try:
            cell.give()
            confinement = self._lend(
                build, cell.path, frozenset(grants), keep, shown and shown.absolute(), limits)
        except BaseException:
            cell.close()
            raise
        most = cell_files.MOST_BYTES
        if limits.file:
            most = max(most, 8 * file_bytes(limits))
        sandbox = WarmSandbox(build.name, confinement, cell, shown, self._give_back, most,
                              limits.names or cell_files.MOST_NAMES)
        with self._lending:
            self._lent.add(sandbox)
        if self._watch is None:
            self._watch = threading.Thread(target=self._look, name="totals", daemon=True)
            self._watch.start()
        return sandbox

    def _look(self) -> None:
        """The thread that ends all sandboxes of a directory in which too much was written."""
        took = 0.0
        # To look at the thousands of files of a build takes time that the build is to have.
        while not self._closed.wait(max(LOOK_SECONDS, 20 * took)):
            begun = time.monotonic()
            with self._lending:
                for place in {sandbox.cell_dir for sandbox in self._lent}:
                    there = [sandbox for sandbox in self._lent if sandbox.cell_dir == place]
                    with contextlib.suppress(OSError):
                        if much := there[0].excess():
                            builds = sorted({sandbox.build for sandbox in there})
                            who = " and ".join(builds) + (" have" if builds[1:] else " has")
                            for sandbox in there:
                                sandbox.end(f"{who} left in {CELL}: {much}")
            took = time.monotonic() - begun

    def _lend(
        self, build: QemuBuild, cell_dir: Path, grants: frozenset[Grant], keep: bool,
        shown: Path | None, limits: Limits,
    ) -> Confinement:
        # A directory made anew under an old name is another one: the mount keeps the old.
        places = [(path, path.stat()) for path in (cell_dir, shown) if path is not None]
        key = (build.digest, grants, limits,
               *((path, at.st_dev, at.st_ino) for path, at in places))
        confinement = self._warm.pop(key, None)
        if confinement and confinement.launcher.gone:
            self._end([confinement])
            confinement = None
        if confinement is None:
            confinement = self._start(build, cell_dir, grants, shown, limits)
        self._warm[key] = confinement  # the last one used stands last
        confinement.keep = confinement.keep and keep
        confinement.users += 1
        idle = [key for key, warm in self._warm.items() if not warm.users]
        self._end([self._warm.pop(key) for key in idle[: max(0, len(idle) - WARM)]])
        return confinement

    def _give_back(self, sandbox: WarmSandbox, confinement: Confinement) -> None:
        """Nobody uses it any more: it ends, unless it is to stay and nothing is left in it."""
        with self._lending:
            self._lent.discard(sandbox)
        if confinement.users:
            return
        if confinement.launcher.clean() and confinement.keep:
            return
        for key in [key for key, warm in self._warm.items() if warm is confinement]:
            del self._warm[key]
            self._end([confinement])

    def close(self) -> None:
        """See Engine."""
        self._closed.set()
        confinements = list(self._warm.values())
        self._warm.clear()
        self._end(confinements)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @abstractmethod
    def _start(
        self, build: QemuBuild, cell_dir: Path, grants: Collection[Grant], shown: Path | None,
        limits: Limits,
    ) -> Confinement:
        """A new confinement. Raises EngineError."""

    def _end(self, confinements: Sequence[Confinement]) -> None:
        with contextlib.ExitStack() as stack:
            # All inputs end before the first end is waited for: they go side by side.
            for confinement in confinements:
                stack.callback(confinement.remove)
            for confinement in confinements:
                stack.callback(confinement.shut)
