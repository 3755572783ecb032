"""What both engines promise alike: who runs inside, in which directory, and within what limits."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import EngineError

CELL = "/cell"
"""Where the cell's directory lies inside: the only thing there that can be written for keeps."""

SHELL = ("/bin/busybox", "sh")
"""The static shell that every root holds; it starts the programs."""

SCRATCH_BYTES = 64 << 20
"""The size of /tmp inside."""

MEMORY_BYTES = 2 << 30
"""Memory of all programs of a sandbox together (docker)."""

ADDRESS_SPACE_BYTES = 4 << 30
"""Address space of each process (bubblewrap). TCG reserves 1 GiB for code, and uses little."""

FILE_BYTES = 256 << 20
"""The largest file that a program in a sandbox can write: a log, a disk, an nvram file."""

PROCESSES = 256
"""Processes and threads in a sandbox. A QEMU has 3 to 10, and up to 64 while it does disk I/O."""

ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": CELL,
    "LANG": "C",
    # Where QEMU puts what snapshot=on writes; it would take a TMPDIR of /tmp as /var/tmp.
    "TMPDIR": CELL,
}

# Linux's overflow ids, "nobody": they own nothing on the host.
_NOBODY = 65534


@dataclass(frozen=True)
class Identity:
    """The user and group, as the host knows them, that programs in a sandbox run as."""

    uid: int
    gid: int

    @classmethod
    def unprivileged(cls) -> Identity:
        """The user who runs the harness; nobody, if that is root."""
        return cls(os.getuid(), os.getgid()) if os.getuid() else cls(_NOBODY, _NOBODY)

    def own(self, directory: Path) -> None:
        """Give a directory and all in it to this user; no link in it is followed.

        Nothing to do unless the harness is root: then it is root who made the disk, the nvram
        file and the sockets that the programs inside are to write to. Put copies there, no
        hard links to files that are not theirs to write.
        """
        if os.getuid():
            return
        for _, directories, files, fd in os.fwalk(directory):
            self._own(".", fd)
            for name in (*directories, *files):
                with contextlib.suppress(FileNotFoundError):  # a running program removed it
                    self._own(name, fd)

    def _own(self, name: str, fd: int) -> None:
        if os.stat(name, dir_fd=fd, follow_symlinks=False).st_uid != self.uid:
            os.chown(name, self.uid, self.gid, dir_fd=fd, follow_symlinks=False)


def inside(path: Path, cell_dir: Path) -> str:
    """The name that a path under ``cell_dir`` has in the sandbox. ValueError for another."""
    return f"{CELL}/{path.relative_to(cell_dir)}"


def open_log(path: Path) -> int:
    """A file descriptor of a fresh log.

    The directory belongs to the programs inside: a link that one of them left there is not
    followed.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o644)
    except OSError as error:
        raise EngineError(f"cannot write the log {path}: {error.strerror}") from error


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log, for error messages; empty if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def kvm_group(argv: Sequence[str] = ()) -> int:
    """The group of /dev/kvm. EngineError if this host has none."""
    try:
        device = os.stat("/dev/kvm")  # noqa: PTH116
    except OSError as error:
        raise EngineError("this host has no /dev/kvm", argv=argv) from error
    if not stat.S_ISCHR(device.st_mode):
        raise EngineError("/dev/kvm is no device", argv=argv)
    return device.st_gid
