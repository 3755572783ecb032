"""What a run may have left behind: its processes, containers, mounts, sockets and files."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bootmatrix.deadline import Deadline


def until(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = Deadline.after(seconds)
    while not condition():
        if deadline.expired:
            return False
        time.sleep(0.02)  # strangers' deaths and files have no event to wait for
    return True


def wait_for(
    child: subprocess.Popen[str], condition: Callable[[], bool], seconds: float = 300
) -> None:
    """Wait for what a child process does. Where that does not come, it ends, and what it has said
    is why the test fails. What takes minutes, as an image, is to be there before it is started.
    """
    seen = False

    def over() -> bool:
        nonlocal seen
        seen = condition()  # it may be so no longer at the next look
        return seen or child.poll() is not None

    until(over, seconds)
    if not seen and not condition():
        status = child.poll()
        child.kill()
        said = [text for text in child.communicate(timeout=seconds) if text]
        pytest.fail(f"exit status {status}, and it has said: {''.join(said)}", pytrace=False)


def deep_tree(place: Path, depth: int = 1200) -> None:
    """Make directories in each other, deeper than shutil.rmtree goes."""
    place.mkdir()
    here = os.open(place, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def processes(place: Path) -> list[int]:
    """The processes that know a directory: by argument, by working directory, or by a mount.

    What runs in a sandbox has no other trace of it than the mount, whatever the engine.
    """
    text = str(place).encode()
    ours = {os.getpid(), os.getppid()}
    home = next(path for path in (place, *place.parents) if path.is_mount())
    within = f"/{place.relative_to(home)}/".encode()
    seen: dict[tuple[bytes, bytes], bool] = {}
    pids = {int(name) for name in os.listdir("/proc") if name.isdecimal()}  # noqa: PTH208
    return sorted(
        pid for pid in pids - ours if _mounts(pid, within, seen)
        or text in _read(pid, "cmdline") or text in _link(pid, "cwd"))


def _mounts(pid: int, within: bytes, seen: dict[tuple[bytes, bytes], bool]) -> bool:
    """Whether something below a directory is mounted somewhere in a process's world.

    Field 4 of proc_pid_mountinfo(5) is where in its file system that lies; ``within`` is the
    directory there. The place itself, mounted where it is, is in the world of everybody. Most
    processes share one world, which is their namespace as seen from their root: it is read once.
    """
    world = _link(pid, "ns/mnt"), _link(pid, "root")
    if world not in seen:
        mounts = _read(pid, "mountinfo").splitlines()
        found = any((line.split()[3] + b"/").startswith(within) for line in mounts)
        if not mounts or b"" in world:  # it has just ended, and others of its world may not have
            return found
        seen[world] = found
    return seen[world]


# A look at all processes is taken many times a second: no Path is made for each.
def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb", 0) as file:  # noqa: PTH123
            return file.read()
    except OSError:  # it has just ended
        return b""


def _link(pid: int, name: str) -> bytes:
    try:
        return os.fsencode(os.readlink(f"/proc/{pid}/{name}"))  # noqa: PTH115
    except OSError:
        return b""


def containers(place: Path) -> list[str]:
    """The containers, running or not, into which something below a directory is mounted."""
    import docker

    client = docker.from_env()
    try:
        return [
            found["Id"][:12] for found in client.api.containers(all=True)
            if any(str(mount.get("Source", "")).startswith(str(place))
                   for mount in found["Mounts"])
        ]
    finally:
        client.close()


def leftovers(place: Path, *, scratch: bool = True, engine: str = "bubblewrap") -> list[str]:
    """All that is left of runs whose files are below ``place``, told in words.

    Their TMPDIR is ``place``/tmp. ``scratch`` False: scratch directories may be there, which the
    next run in that directory removes.
    """
    left = [f"process {pid}: {_read(pid, 'cmdline')!r}" for pid in processes(place)]
    if engine == "docker":
        left += [f"container {found}" for found in containers(place)]
    files = list(place.rglob("*"))
    # xdist has pytest make a directory for each session, which pytest removes when it is old.
    left += [f"file {path}" for path in files
             if path.parent == place / "tmp" and not path.name.startswith("pytest-of-")]
    left += [f"scratch {path}" for path in files if scratch and path.name.startswith("scratch-")]
    left += [f"socket {path}" for path in files
             if path.is_socket() and (scratch or "scratch-" not in str(path))]
    left += [f"half a file {path}" for path in files
             if path.suffix == ".new" and (scratch or "scratch-" not in str(path))]
    return left
