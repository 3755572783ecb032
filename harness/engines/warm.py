"""What both engines share: confinements that stay warm, lent to one sandbox after the other."""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from harness.engines.confinement import Identity, inside, open_log
from harness.engines.launcher import LaunchedProcess, Launcher
from harness.errors import EngineError
from harness.model import QemuBuild

WARM = 8
"""How many confinements an engine keeps that no sandbox uses."""


class Confinement(ABC):
    """A root with one directory of the host in it, and a launcher that starts programs there."""

    launcher: Launcher
    users: int = 0

    @abstractmethod
    def shut(self) -> None:
        """End the launcher's input, and so the confinement; ``remove`` waits for it."""

    @abstractmethod
    def remove(self) -> None:
        """Make sure that everything in it is gone, and wait for it."""


class WarmSandbox:
    """A warm confinement while it is lent (see Sandbox)."""

    def __init__(self, identity: Identity, confinement: Confinement, cell_dir: Path) -> None:
        self.cell_dir = cell_dir
        self._identity = identity
        self._confinement = confinement
        self._processes: list[LaunchedProcess] = []
        self._closed = False
        confinement.users += 1

    def launch(self, argv: Sequence[str], log: Path) -> LaunchedProcess:
        """See Sandbox."""
        log_inside = inside(log, self.cell_dir)
        self._processes = [process for process in self._processes if not process.ended]
        os.close(open_log(log))
        self._identity.own(self.cell_dir)
        process = self._confinement.launcher.launch(tuple(argv), log, log_inside)
        self._processes.append(process)
        return process

    def close(self) -> None:
        """Kill what still runs; the confinement stays warm."""
        if self._closed:
            return
        self._closed = True
        self._confinement.users -= 1
        with contextlib.ExitStack() as stack:
            for process in self._processes:
                stack.callback(process.kill)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class WarmEngine(ABC):
    """An engine that keeps a confinement for each build and directory (see Engine)."""

    name: str

    def __init__(self) -> None:
        self.identity = Identity.unprivileged()
        self._warm: dict[tuple[Any, ...], Confinement] = {}

    def sandbox(self, build: QemuBuild, cell_dir: Path, kvm: bool = False) -> WarmSandbox:
        """See Engine."""
        cell_dir = cell_dir.absolute()
        if not cell_dir.is_dir():
            raise EngineError(f"the cell's directory {cell_dir} is not there")
        self.identity.own(cell_dir)
        # A directory made anew under an old name is another one: the mount keeps the old.
        place = cell_dir.stat()
        key = (build.digest, kvm, cell_dir, place.st_dev, place.st_ino)
        confinement = self._warm.pop(key, None)
        if confinement and confinement.launcher.gone:
            self._end([confinement])
            confinement = None
        if confinement is None:
            confinement = self._start(build, cell_dir, kvm)
        self._warm[key] = confinement  # the last one used stands last
        sandbox = WarmSandbox(self.identity, confinement, cell_dir)
        idle = [key for key, warm in self._warm.items() if not warm.users]
        self._end([self._warm.pop(key) for key in idle[: max(0, len(idle) - WARM)]])
        return sandbox

    def close(self) -> None:
        """See Engine."""
        confinements = list(self._warm.values())
        self._warm.clear()
        self._end(confinements)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @abstractmethod
    def _start(self, build: QemuBuild, cell_dir: Path, kvm: bool) -> Confinement:
        """A new confinement. Raises EngineError."""

    def _end(self, confinements: Sequence[Confinement]) -> None:
        with contextlib.ExitStack() as stack:
            # All inputs end before the first end is waited for: they go side by side.
            for confinement in confinements:
                stack.callback(confinement.remove)
            for confinement in confinements:
                stack.callback(confinement.shut)
