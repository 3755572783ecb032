"""The embedded engine: a warm bubblewrap for each build and directory, and no daemon.

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
import socket
import subprocess
import tempfile
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bootmatrix.engines import launcher, seccomp
from bootmatrix.engines.confinement import (
    ADDRESS_SPACE_BYTES,
    CELL,
    ENVIRONMENT,
    LAUNCHER_MODE,
    NICE,
    PROCESSES,
    SHELL,
    Priority,
    devices,
    file_bytes,
    memory_bytes,
    reprioritise,
    shown_at,
)
from bootmatrix.engines.launcher import Launcher
from bootmatrix.engines.warm import Confinement, WarmEngine
from bootmatrix.errors import EngineError, SandboxLost
from bootmatrix.model import Grant, Limits, QemuBuild
from bootmatrix.roots import debian

KILL_SECONDS = 10.0
_PROBE_SECONDS = 60.0  # it takes milliseconds; once, at a load of 10, ten seconds were too few
END_SECONDS = 1.0  # the launcher ends by itself, in milliseconds, when its input does

# RLIMIT_NPROC is -p in older busyboxes and -u in newer ones.
_LIMITS = """
{{ ulimit -u {processes}; ulimit -p {processes}; }} 2>/dev/null
ulimit -v {kib} || exit
"""
# Where root puts a build's root, and in it the cell's directory: at the mount point that the
# root has for it, so that nothing else is hidden before it has been found. What else is to be
# mounted (up to --) goes below the root's /tmp, which bubblewrap covers again. There are also made
# the nodes of devices, if they are asked for by name and numbers: the host has those nowhere.
_PLACE = "/mnt"
_MOUNT = f"""
set -e
root=$1 number=0 devices=$3 owner=$4
for point in {CELL} /tmp; do
  [ ! -L "$root$point" ] || {{ echo "$root$point is a symbolic link" >&2; exit 1; }}
done
mount --bind "$2" "$root{CELL}"
shift 4
[ "$devices$1" = -- ] || mount -t tmpfs tmpfs "$root/tmp"
nodes() {{
  while [ "$1" ]; do
    mknod -m 600 "$root/tmp/$1" c "$2" "$3"
    chown "$owner" "$root/tmp/$1"
    shift 3
  done
}}
nodes $devices ""
while [ "$1" != -- ]; do
  mkdir "$root/tmp/$number"
  mount --bind "$1" "$root/tmp/$number"
  number=$((number + 1))
  shift
done
shift
mount --rbind "$root" {_PLACE}
exec "$@"
"""
_LAUNCHER = "/dev/busybox"
_ISOLATION = ("--unshare-all", "--as-pid-1", "--cap-drop", "ALL", "--die-with-parent")


class _Bubble(Confinement):
    """One running bubblewrap and its launcher.

    ``lifeline`` is the reading end of a pipe that every process of the bubble holds open: its
    end of file is the end of all of them, which the exit of bubblewrap alone is not.
    """

    def __init__(
        self, name: str, popen: subprocess.Popen[bytes], connection: socket.socket, lifeline: int
    ) -> None:
        self._popen = popen
        self._connection = connection
        self._lifeline = lifeline
        self.launcher = Launcher(
            f"bubblewrap: the sandbox of {name}", self._output(), connection.sendall,
            lambda: connection.shutdown(socket.SHUT_RDWR),
        )

    def _output(self) -> Iterator[tuple[int, bytes]]:
        with contextlib.suppress(OSError):
            while data := self._connection.recv(65536):
                yield 1, data
        assert self._popen.stderr is not None
        yield 2, self._popen.stderr.read()

    def shut(self) -> None:
        """See Confinement."""
        self.launcher.hang_up()

    def remove(self) -> None:
        """See Confinement."""
        poll = select.poll()
        poll.register(self._lifeline, 0)  # end of file is always reported
        ended = poll.poll(END_SECONDS * 1000)
        if not ended:
            # The whole group at once: bubblewrap may not yet have come as far as to bind the
            # life of its child to its own. The id is not reused before its leader was reaped.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signal.SIGKILL)
            ended = poll.poll(KILL_SECONDS * 1000)
        os.close(self._lifeline)
        self.launcher.join()
        self._connection.close()
        if ended or self._popen.poll() is not None:
            with self._popen:
                pass  # reaps it, and closes its stderr
        if not ended:
            # Or one of its processes has sent its end of the pipe to a socket of ours.
            raise SandboxLost(f"{self.launcher.name} lives {KILL_SECONDS:.0f} s after SIGKILL")


class BubblewrapEngine(WarmEngine):
    """The engine that needs no daemon. Raises EngineError if bubblewrap does not work here.

    When the harness is root, the programs run as nobody, who may not be able to reach the root
    or the cell's directory on the host: both can lie below a private home. So root first puts
    both at /mnt in a new mount namespace, and then becomes nobody, who calls bubblewrap. All of
    that happens in one process: bubblewrap's parent must be the harness itself, since a parent
    of another user needs CAP_KILL for its death to be a signal.
    """

    name = "bubblewrap"

    def __init__(self) -> None:
        super().__init__()
        # --die-with-parent means the thread that started it (PR_SET_PDEATHSIG in prctl(2)), so
        # all are started by one that lives as long as the engine.
        self._parent = ThreadPoolExecutor(1, thread_name_prefix="bubblewrap-parent")
        # A directory in that of the cell which is /dev/shm, so that what is in there counts as the
        # cell's. It must be there before a sandbox begins, when nobody can have put a link there.
        self.shared_memory = ""
        try:
            self._probe()
        except EngineError:
            self._parent.shutdown()
            raise

    def close(self) -> None:
        """See Engine."""
        try:
            super().close()
        finally:
            self._parent.shutdown()

    def _start(
        self, build: QemuBuild, cell_dir: Path, grants: Collection[Grant], shown: Path | None,
        limits: Limits,
    ) -> _Bubble:
        if not build.root.is_dir():
            raise EngineError(f"{build.name}: its root {build.root} is not there")
        shell = debian.follow(build.root, SHELL[0])
        if not shell.is_file():
            raise EngineError(f"{build.name}: its root {build.root} holds no {SHELL[0]}")
        with contextlib.ExitStack() as stack:
            lifeline, held = os.pipe()
            stack.callback(os.close, held)
            busybox = os.open(shell, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, busybox)
            # A pipe holds it until bubblewrap reads it, and each start needs one of its own.
            calls, filled = os.pipe()
            stack.callback(os.close, calls)
            with os.fdopen(filled, "wb") as filling:
                filling.write(seccomp.bpf(memfd=Grant.MEMFD in grants))
            argv = self._confine(build, cell_dir, devices(grants), shown, limits, busybox, calls)
            if (nice := NICE.get(self.priority)) and (nice > 0 or os.geteuid() == 0):
                argv = ["nice", "-n", str(nice), *argv]
            ours, theirs = socket.socketpair()
            stack.callback(theirs.close)
            def spawn() -> subprocess.Popen[bytes]:
                return subprocess.Popen(
                    argv, stdin=theirs.fileno(), stdout=theirs.fileno(),
                    stderr=subprocess.PIPE, pass_fds=(held, busybox, calls),
                    start_new_session=True, env=debian.host_environment(),
                )

            try:
                popen = self._parent.submit(spawn).result()
            except (OSError, RuntimeError) as error:
                ours.close()
                os.close(lifeline)
                raise EngineError(f"bubblewrap cannot be started: {error}", argv=argv) from error
            if self.priority is Priority.HIGH:
                reprioritise(popen.pid, self.priority)
        return _Bubble(build.name, popen, ours, lifeline)

    def _confine(
        self,
        build: QemuBuild,
        cell_dir: Path,
        given: Sequence[tuple[str, os.stat_result]],
        shown: Path | None,
        limits: Limits,
        busybox: int,
        calls: int,
    ) -> list[str]:
        """The command that runs the launcher in there.

        ``busybox`` is a descriptor of its program, ``calls`` one of the filter for system calls.
        """
        mounts = (*build.mounts, *shown_at(shown))
        directories = [directory for directory, _ in mounts]
        outer, (root_name, cell_name, *names) = self._outer(
            build.root, cell_dir, directories, given
        )
        inner = ["bwrap", "--ro-bind", root_name, "/", "--dev", "/dev", "--proc", "/proc"]
        for name, (device, _) in zip(names[:len(given)], given, strict=True):
            inner += ["--dev-bind", name, device]
        # Nothing in /dev can be written but the devices; nor is there a /dev/shm to speak of, if
        # none is asked for.
        inner += ["--perms", f"{LAUNCHER_MODE:o}", "--ro-bind-data", str(busybox), _LAUNCHER]
        inner += ["--remount-ro", "/dev"]
        if self.shared_memory:
            inner += ["--bind", f"{cell_name}/{self.shared_memory}", "/dev/shm"]  # noqa: S108
        # Nor in /tmp, which holds mount points: bubblewrap bounds no tmpfs's number of files.
        inner += ["--tmpfs", "/tmp"]  # noqa: S108
        for name, (_, inside) in zip(names[len(given):], mounts, strict=True):
            inner += ["--ro-bind", name, inside]
        inner += ["--remount-ro", "/tmp"]  # noqa: S108
        inner += ["--bind", cell_name, CELL, "--chdir", CELL, *_ISOLATION, "--clearenv",
                  "--seccomp", str(calls)]
        for name, value in (*ENVIRONMENT.items(), *build.environment):
            inner += ["--setenv", name, value]
        yields = self.priority is Priority.LOW
        inside = _LIMITS.format(processes=limits.processes or PROCESSES,
                                kib=memory_bytes(limits, ADDRESS_SPACE_BYTES) >> 10)
        return [*outer, *inner, "--", *launcher.argv(
            _LAUNCHER, inside, yields=yields, file_bytes=file_bytes(limits))]

    def _outer(
        self, root: Path, cell_dir: Path, further: Sequence[Path] = (),
        given: Sequence[tuple[str, os.stat_result]] = (),
    ) -> tuple[list[str], list[str]]:  # fmt: skip
        """What stands before bubblewrap, and where it finds root, cell, devices and all others."""
        if os.getuid():
            return [], list(map(str, (root, cell_dir, *(path for path, _ in given), *further)))
        nodes = [Path(path).name for path, _ in given]
        numbers = " ".join(f"{name} {os.major(at.st_rdev)} {os.minor(at.st_rdev)}"
                           for name, (_, at) in zip(nodes, given, strict=True))
        user, group = self.identity.uid, self.identity.gid
        argv = [
            "unshare", "--mount", "--", "sh", "-c", _MOUNT, "sh", str(root), str(cell_dir),
            numbers, f"{user}:{group}", *map(str, further), "--",
            "setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups",
        ]  # fmt: skip
        places = [f"{_PLACE}/tmp/{name}" for name in (*nodes, *range(len(further)))]  # noqa: S108
        return argv, [_PLACE, _PLACE + CELL, *places]

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
            outer, _ = self._outer(Path(root), cell_dir)
            self._try([*outer, "bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc",
                       *_ISOLATION, "--", "true"])

    def _try(self, argv: Sequence[str]) -> None:
        try:
            done = self._parent.submit(
                subprocess.run, argv, stdin=subprocess.DEVNULL, capture_output=True,
                timeout=_PROBE_SECONDS, env=debian.host_environment(),
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
