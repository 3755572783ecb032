"""The embedded engine: each program in a bubblewrap of its own, made in a few milliseconds.

There are no cgroups here. The limits are rlimits, set inside: RLIMIT_AS for each process, and
RLIMIT_NPROC, which since Linux 5.14 counts a user's processes per user namespace, so that set
inside it counts those of the sandbox alone.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from harness.deadline import Deadline
from harness.engines.confinement import (
    ADDRESS_SPACE_BYTES,
    CELL,
    ENVIRONMENT,
    PROCESSES,
    SCRATCH_BYTES,
    SHELL,
    Identity,
    inside,
    kvm_group,
    open_log,
    tail,
)
from harness.errors import DeadlineExceeded, EngineError
from harness.model import QemuBuild

KILL_SECONDS = 10.0

# The script that becomes the program. Its first argument is the lifeline's descriptor. If the
# owner died while the bubblewraps were being made, before they had bound their lives to its, the
# echo ends it all: nobody holds the other end of the pipe. RLIMIT_NPROC is -p in older busyboxes
# and -u in newer ones. What cannot be executed ends with a shell's 126 or 127.
_START = f"""
echo >&"$1" || exit
shift
{{ ulimit -u {PROCESSES}; ulimit -p {PROCESSES}; }} 2>/dev/null
ulimit -v {ADDRESS_SPACE_BYTES >> 10} && exec "$@"
"""
# Where root puts a build's root, and in it the cell's directory: at the mount point that the
# root has for it, so that nothing else is hidden before it has been found.
_PLACE = "/mnt"
_MOUNT = f"""
mount --bind "$2" "$1{CELL}" && mount --rbind "$1" {_PLACE} && shift 2 && exec "$@"
"""
_ISOLATION = ("--unshare-all", "--cap-drop", "ALL", "--die-with-parent")


class BubblewrapProcess:
    """A program in a bubblewrap (the Process of harness.engines).

    ``lifeline`` is the reading end of a pipe that every process of the sandbox holds open:
    its end of file is the end of all of them, which the exit of bubblewrap alone is not.
    """

    def __init__(
        self, popen: subprocess.Popen[bytes], lifeline: int, argv: tuple[str, ...], log: Path
    ) -> None:
        self.argv = argv
        self.log = log
        self._popen = popen
        self._lifeline = lifeline
        self._status: int | None = None

    def poll(self) -> int | None:
        """See Process."""
        return self._ended(0.0)

    def wait(self, deadline: Deadline) -> int:
        """See Process."""
        status = self._ended(deadline.remaining)
        if status is None:
            raise DeadlineExceeded(
                f"not in time: the end of {self.argv[0]}", argv=self.argv, tail=tail(self.log)
            )
        return status

    def kill(self) -> None:
        """See Process."""
        if self._status is not None:
            return
        # The whole group at once: bubblewrap may not yet have come as far as to bind the life
        # of its child to its own. The group's id is not reused before its leader was reaped.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        if self._ended(KILL_SECONDS) is None:
            raise EngineError(
                f"{self.argv[0]} lives {KILL_SECONDS:.0f} s after SIGKILL", argv=self.argv
            )

    def _ended(self, seconds: float) -> int | None:
        if self._status is None:
            poll = select.poll()
            poll.register(self._lifeline, 0)  # end of file is always reported
            if not poll.poll(seconds * 1000):
                return None
            code = self._popen.wait()
            self._status = code if code >= 0 else 128 - code
            os.close(self._lifeline)
        return self._status


class BubblewrapSandbox:
    """A root and a directory; each launch makes a bubblewrap around both (see Sandbox)."""

    def __init__(self, engine: BubblewrapEngine, argv: Sequence[str], cell_dir: Path) -> None:
        self.cell_dir = cell_dir
        self._engine = engine
        self._argv = tuple(argv)
        self._processes: list[BubblewrapProcess] = []

    def launch(self, argv: Sequence[str], log: Path) -> BubblewrapProcess:
        """See Sandbox."""
        inside(log, self.cell_dir)
        self._processes = [process for process in self._processes if process.poll() is None]
        output = open_log(log)
        try:
            self._engine.identity.own(self.cell_dir)
            process = self._engine.spawn(self._argv, tuple(argv), output, log)
        finally:
            os.close(output)
        self._processes.append(process)
        return process

    def close(self) -> None:
        """Kill what still runs."""
        with contextlib.ExitStack() as stack:
            for process in self._processes:
                stack.callback(process.kill)
        self._engine.forget(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class BubblewrapEngine:
    """The engine that needs no daemon. Raises EngineError if bubblewrap does not work here.

    When the harness is root, the programs run as nobody, who may not be able to reach the root
    or the cell's directory on the host: both can lie below a private home. So root first puts
    both at /mnt in a new mount namespace, and then becomes nobody, who calls bubblewrap. All of
    that happens in one process: bubblewrap's parent must be the harness itself, since a parent
    of another user needs CAP_KILL for its death to be a signal.
    """

    name = "bubblewrap"

    def __init__(self) -> None:
        self.identity = Identity.unprivileged()
        self._sandboxes: list[BubblewrapSandbox] = []
        # --die-with-parent means the thread that started it (PR_SET_PDEATHSIG in prctl(2)), so
        # all are started by one that lives as long as the engine.
        self._parent = ThreadPoolExecutor(1, thread_name_prefix="bubblewrap-parent")
        try:
            self._probe()
        except EngineError:
            self._parent.shutdown()
            raise

    def sandbox(self, build: QemuBuild, cell_dir: Path, kvm: bool = False) -> BubblewrapSandbox:
        """See Engine."""
        if not build.root.is_dir():
            raise EngineError(f"{build.name}: its root {build.root} is not there")
        cell_dir = cell_dir.absolute()
        if not cell_dir.is_dir():
            raise EngineError(f"the cell's directory {cell_dir} is not there")
        self.identity.own(cell_dir)
        argv = self._confine(build.root, cell_dir, kvm)
        sandbox = BubblewrapSandbox(self, argv, cell_dir)
        self._sandboxes.append(sandbox)
        return sandbox

    def spawn(
        self, confined: Sequence[str], argv: tuple[str, ...], output: int, log: Path
    ) -> BubblewrapProcess:
        """Start a program, after the command that confines it, in the engine's own thread."""
        lifeline, held = os.pipe()
        try:
            popen = self._parent.submit(
                subprocess.Popen, [*confined, str(held), *argv], stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, pass_fds=(held,), start_new_session=True,
            ).result()
        except (OSError, RuntimeError) as error:
            os.close(lifeline)
            raise EngineError(f"bubblewrap cannot be started: {error}", argv=argv) from error
        finally:
            os.close(held)
        return BubblewrapProcess(popen, lifeline, argv, log)

    def forget(self, sandbox: BubblewrapSandbox) -> None:
        """A sandbox has been closed."""
        if sandbox in self._sandboxes:
            self._sandboxes.remove(sandbox)

    def close(self) -> None:
        """See Engine."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._parent.shutdown)
            for sandbox in list(self._sandboxes):
                stack.callback(sandbox.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _confine(self, root: Path, cell_dir: Path, kvm: bool) -> list[str]:
        """The command up to, and without, the program's own argv."""
        outer, root_name, cell_name = self._outer(root, cell_dir, kvm)
        inner = ["bwrap", "--ro-bind", root_name, "/", "--dev", "/dev", "--proc", "/proc"]
        if kvm:
            kvm_group()
            inner += ["--dev-bind", "/dev/kvm", "/dev/kvm"]
        inner += ["--size", str(SCRATCH_BYTES), "--tmpfs", "/tmp"]  # noqa: S108
        inner += ["--bind", cell_name, CELL, "--chdir", CELL, *_ISOLATION, "--clearenv"]
        for name, value in ENVIRONMENT.items():
            inner += ["--setenv", name, value]
        return [*outer, *inner, "--", *SHELL, "-c", _START, "sh"]

    def _outer(self, root: Path, cell_dir: Path, kvm: bool) -> tuple[list[str], str, str]:
        """What stands before bubblewrap, and where it finds both directories."""
        if os.getuid():
            return [], str(root), str(cell_dir)
        groups = ["--groups", str(kvm_group())] if kvm else ["--clear-groups"]
        return [
            "unshare", "--mount", "--", "sh", "-c", _MOUNT, "sh", str(root), str(cell_dir),
            "setpriv", f"--reuid={self.identity.uid}", f"--regid={self.identity.gid}", *groups,
        ], _PLACE, _PLACE + CELL

    def _probe(self) -> None:
        """Raise EngineError unless namespaces can be made just as for a sandbox."""
        needed = {"bwrap": "bubblewrap"}
        if not os.getuid():
            needed |= {"unshare": "util-linux", "setpriv": "util-linux", "mount": "mount"}
        for program, package in needed.items():
            if not shutil.which(program):
                raise EngineError(f"bubblewrap: no {program} here; mend it: apt install {package}")
        with tempfile.TemporaryDirectory() as root:
            cell_dir = Path(root + CELL)
            cell_dir.mkdir()
            outer, _, _ = self._outer(Path(root), cell_dir, kvm=False)
            self._try([*outer, "bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc",
                       *_ISOLATION, "--", "true"])

    def _try(self, argv: Sequence[str]) -> None:
        try:
            done = self._parent.submit(
                subprocess.run, argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=10
            ).result()
        except subprocess.TimeoutExpired as error:
            raise EngineError("bubblewrap: does not end", argv=argv) from error
        if done.returncode:
            raise EngineError(
                "bubblewrap: cannot make namespaces here; they may be forbidden to users (see "
                "/proc/sys/user/max_user_namespaces and the kernel.*userns* sysctls) or by the "
                "container that this runs in",
                argv=argv, status=done.returncode, tail=done.stderr.decode(errors="replace"),
            )
