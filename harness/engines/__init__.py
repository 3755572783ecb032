"""The engines: each runs programs of a QEMU build, confined, and one is chosen here.

An engine promises: the build's root read-only, no network, no capabilities, no new privileges,
not root, bounded memory and processes, a directory of the cell as the only writable place, and
that nothing outlives the process that asked for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self

from harness.deadline import Deadline
from harness.errors import EngineError, UserError
from harness.model import QemuBuild

ENGINES = ("docker", "bubblewrap")


class Process(Protocol):
    """A program started in a sandbox.

    Exit statuses are those of a shell: 128 + n for a program that signal n ended, 126 or 127
    for one that could not be started (its log says why).
    """

    argv: tuple[str, ...]
    log: Path

    def poll(self) -> int | None:
        """The exit status, or None while it runs. Raises EngineError if its sandbox ended."""

    def wait(self, deadline: Deadline) -> int:
        """The exit status, once there. Raises DeadlineExceeded, or EngineError as poll."""

    def kill(self) -> None:
        """SIGKILL, and wait for the end. Nothing happens to a program that has ended."""


class Sandbox(Protocol):
    """A build's root with one directory of the host in it, at /cell.

    Leaving it kills the programs that still run there. ``cell_dir`` stays.
    """

    cell_dir: Path

    def launch(self, argv: Sequence[str], log: Path) -> Process:
        """Start a program in /cell, its output going to ``log``, a path under ``cell_dir``.

        Returns at once. Raises EngineError if the engine cannot start programs.
        """

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class Engine(Protocol):
    """Where sandboxes come from. Closing it (or leaving it) ends all of them."""

    name: str

    def sandbox(self, build: QemuBuild, cell_dir: Path, kvm: bool = False) -> Sandbox:
        """A sandbox of ``build``; /dev/kvm is in it only if asked for.

        ``cell_dir`` must exist. Where the harness is root, the directory and what is in it are
        given to the user that programs run as, here and at each launch. The same directory
        used again is cheap: an engine can keep the sandbox warm. Raises EngineError.
        """

    def close(self) -> None:
        """End everything that still runs."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


def choose(name: str | None = None) -> Engine:
    """The engine called ``name``; docker where one answers, else bubblewrap, for None.

    Raises EngineError, which says how to mend it, if that engine does not work here, and
    UserError if there is none of that name.
    """
    if name == "docker":
        return _docker()
    if name == "bubblewrap":
        return _bubblewrap()
    if name is not None:
        raise UserError(f"no such engine: {name!r}", hint="accepted: " + ", ".join(ENGINES))
    try:
        return _docker()
    except EngineError as docker:
        try:
            return _bubblewrap()
        except EngineError as bubblewrap:
            raise EngineError(f"no engine works here.\n{docker}\n{bubblewrap}") from docker


# The SDK takes a quarter of a second to import: only for those who use it.
def _docker() -> Engine:
    from harness.engines.docker import DockerEngine

    return DockerEngine()


def _bubblewrap() -> Engine:
    from harness.engines.bubblewrap import BubblewrapEngine

    return BubblewrapEngine()
