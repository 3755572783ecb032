"""What both engines promise alike: who runs inside, in which directory, and within what limits."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from bootmatrix.errors import EngineError
from bootmatrix.files import cell_files
from bootmatrix.model import Grant, Limits

CELL = "/cell"
"""Where the cell's directory lies inside: the only thing there that can be written for keeps."""

SHOWN = "/tmp/bootmatrix"  # noqa: S108
"""Where the harness's own directory lies inside, if it shows one. Nothing there can be changed:
files are read, sockets connected to."""

KVM, USERFAULTFD = "/dev/kvm", "/dev/userfaultfd"
"""The only devices of the host's that a sandbox can have, and only those it is asked for."""

_KVM_CREATE_VM = 0xAE01  # Linux, Documentation/virt/kvm/api.rst, 4.2
_USERFAULTFD_NEW = 0xAA00  # Linux, linux/userfaultfd.h

SHELL = ("/bin/busybox", "sh")
"""The static shell that every root holds; it starts the programs."""

LAUNCHER_MODE = 0o111
"""The mode of another copy of it, for the launcher itself: it can be executed, and not read."""

MEMORY_BYTES = 2 << 30
"""Memory of all programs of a sandbox together (docker)."""

ADDRESS_SPACE_BYTES = 4 << 30
"""Address space of each process (bubblewrap). TCG reserves 1 GiB for code, and uses little."""

FILE_BYTES = cell_files.LIMIT
"""The largest file that a program in a sandbox can write: a log, a disk, an nvram file."""

OPEN_FILES = 512
"""Open files of each process. A QEMU has 20 to 40."""

PROCESSES = 256
"""Processes and threads in a sandbox. A QEMU has 3 to 10, and up to 64 while it does disk I/O."""

def memory_bytes(limits: Limits, default: int) -> int:
    """Bytes of memory that a sandbox may have; ``default`` is its engine's."""
    return limits.memory << 20 if limits.memory else default


def file_bytes(limits: Limits) -> int:
    """Bytes of the largest file that a program in a sandbox can write."""
    return limits.file << 20 if limits.file else FILE_BYTES


ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": CELL,
    "LANG": "C",
    # Where QEMU puts what snapshot=on writes; nothing can be written in /tmp.
    "TMPDIR": CELL,
}


class Priority(Enum):
    """How much of the processor the programs in sandboxes get where others want it, too.

    ``HIGH`` is more than others only where the harness is root.
    """

    LOW = "low"
    USUAL = "usual"
    HIGH = "high"


NICE = {Priority.LOW: 10, Priority.HIGH: -15}
"""The nice value of each that is not the usual."""


def reprioritise(pid: int, priority: Priority) -> None:
    """Give a program that runs its priority: each thread, and the group that its session is.

    Where the scheduler makes a group of each session it shares among those first (sched(7), "The
    autogroup feature"). What this user may not do is left out.
    """
    nice, process = NICE.get(priority, 0), Path(f"/proc/{pid}")
    with contextlib.suppress(OSError):
        (process / "autogroup").write_text(str(nice))
    with contextlib.suppress(OSError):
        for thread in (process / "task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(thread.name), nice)


@dataclass(frozen=True)
class Identity:
    """The user and group, as the host knows them, that programs in a sandbox run as."""

    uid: int
    gid: int

    @classmethod
    def unprivileged(cls) -> Identity:
        """The user who runs the harness; nobody, if that is root."""
        return cls(*cell_files.sandbox_user())


def shown_at(shown: Path | None) -> tuple[tuple[Path, str], ...]:
    """The directory that the harness shows, if it does, and where it lies inside."""
    return () if shown is None else ((shown, SHOWN),)


def kvm_complaint() -> str | None:
    """Why no program in a sandbox can use KVM here, in a sentence; None if it can."""
    return _complaint(KVM, _KVM_CREATE_VM, "makes no virtual machine")


def complaint(grants: Collection[Grant]) -> str | None:
    """Why no program in a sandbox can use one of these here; None if it can use all."""
    if Grant.KVM in grants and (found := kvm_complaint()):
        return found
    if Grant.USERFAULTFD in grants:
        return _complaint(USERFAULTFD, _USERFAULTFD_NEW, "makes no descriptor")
    return None


def devices(grants: Collection[Grant]) -> Sequence[tuple[str, os.stat_result]]:
    """Those of them that are devices, with their numbers and groups.

    Raises EngineError if one cannot be used.
    """
    found = complaint(grants)
    if found is not None:
        raise EngineError(found)
    return [(path, os.stat(path)) for path in device_paths(grants)]  # noqa: PTH116


def device_paths(grants: Collection[Grant]) -> Sequence[str]:
    """The paths of those of them that are devices, here and inside."""
    paths = {Grant.KVM: KVM, Grant.USERFAULTFD: USERFAULTFD}
    return [path for grant, path in paths.items() if grant in grants]


def _complaint(path: str, request: int, fails: str) -> str | None:
    """Why a device here cannot be used, which gives a descriptor for a request."""
    try:
        device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return f"this host has no {path}"
    except OSError as error:
        who = "this user" if os.getuid() else "root"
        return f"{who} cannot open {path}: {error.strerror}"
    try:
        os.close(fcntl.ioctl(device, request))
    except OSError as error:
        return f"{path} {fails}: {error.strerror}"
    finally:
        os.close(device)
    return None
