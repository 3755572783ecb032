"""The engines: each runs programs of a QEMU build, confined, and one is chosen here.

An engine promises: the build's root read-only, no network, no capabilities, no new privileges,
not root, bounded memory and processes, a directory of the cell as the only writable place and a
bound on what is written there, and that nothing outlives the process that asked for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, Self

from bootmatrix.errors import EngineError, UserError
from bootmatrix.model import Limits

if TYPE_CHECKING:  # the names of the engines are asked for by every pytest
    from bootmatrix.deadline import Deadline
    from bootmatrix.engines.confinement import Priority
    from bootmatrix.model import Grant, QemuBuild


class Process(Protocol):
    """A program started in a sandbox.

    Exit statuses are those of a shell: 128 + n for a program that signal n ended, 126 or 127
    for one that could not be started (its log says why).
    """

    argv: tuple[str, ...]

    def poll(self) -> int | None:
        """The exit status, or None while it runs.

        Raises SandboxLost if its sandbox is lost, and CellError if that was ended for what was
        written in it.
        """

    def wait(self, deadline: Deadline) -> int:
        """The exit status, once there. Raises DeadlineExceeded, or as poll."""

    def includes(self, pid: int, deadline: Deadline) -> bool | None:
        """Whether a process, by its pid here, is this program or a child of it.

        None if it has ended, or if the program itself is not known to run by the deadline.
        """

    def kill(self) -> None:
        """SIGKILL, and wait for the end. Nothing happens to a program that has ended."""


class Sandbox(Protocol):
    """A build's root with one directory of the host in it, at /cell.

    It ends when more is written there than cell_files allows in all. Leaving it kills the
    programs that still run there, and whatever they have started.
    ``cell_dir`` stays. ``shown`` is the directory of the harness's that is seen there, too, and
    cannot be changed.
    """

    cell_dir: Path
    shown: Path | None

    def launch(self, argv: Sequence[str], log: Path) -> Process:
        """Start a program in /cell, its output going to ``log``, a path under ``cell_dir``.

        Returns at once. Raises EngineError if the engine cannot start programs, and CellError
        if something else than a file is in the log's place.
        """

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class Engine(Protocol):
    """Where sandboxes come from. Closing it (or leaving it) ends all of them.

    ``priority`` is that of what runs in sandboxes made from then on.
    """

    name: str
    priority: Priority

    def sandbox(
        self, build: QemuBuild, cell_dir: Path, grants: Collection[Grant] = (), keep: bool = False,
        shown: Path | None = None, limits: Limits = ...,
    ) -> Sandbox:  # fmt: skip
        """A sandbox of ``build``; of what can be granted, it has what is in ``grants``.

        ``cell_dir`` must exist. Where the harness is root, it is given to the user that programs
        run as; what is put into it is to be given to them by bootmatrix.files.cell_files.
        ``shown`` is seen inside as confinement.SHOWN, read-only. ``limits`` are its own. With
        ``keep`` the same directories used again are cheap: the sandbox stays warm once nothing of
        its programs is left in it. Without, it ends when it is left. Raises EngineError.
        """

    def close(self) -> None:
        """End everything that still runs."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


# The SDK takes a quarter of a second to import: only for those who use it.
def _docker() -> Engine:
    from bootmatrix.engines.docker import DockerEngine

    return DockerEngine()


def _bubblewrap() -> Engine:
    from bootmatrix.engines.bubblewrap import BubblewrapEngine

    return BubblewrapEngine()


AT_ONCE = "bubblewrap"
"""The engine that is taken for a look: it starts at once, where Docker takes half a second."""

ENGINES: Mapping[str, Callable[[], Engine]] = MappingProxyType(
    {"docker": _docker, "bubblewrap": _bubblewrap}
)
"""The engines by their names, the one first that is taken where nobody asks for one."""


def choose(name: str | None = None) -> Engine:
    """The engine called ``name``; the first that works here, for None.

    Raises EngineError, which says how to mend it, if that engine does not work here, and
    UserError if there is none of that name.
    """
    if name is not None and name not in ENGINES:
        raise UserError(f"no such engine: {name!r}", hint="accepted: " + ", ".join(ENGINES))
    complaints = []
    for make in ENGINES.values() if name is None else [ENGINES[name]]:
        try:
            return make()
        except EngineError as error:
            if name is not None:
                raise
            complaints.append(error)
    raise EngineError("no engine works here.\n" + "\n".join(map(str, complaints)))


def choose_for_a_look(name: str | None = None) -> Engine:
    """As ``choose``, for a QEMU that runs a moment, or alone: for None AT_ONCE comes first."""
    try:
        return choose(name or AT_ONCE)
    except EngineError:
        if name is not None:
            raise
        return choose()
