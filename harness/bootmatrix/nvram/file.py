"""An open nvram file: every read and write, and the locks that keep others away from it.

QEMU locks bytes of an image it has open (block/file-posix.c: RAW_LOCK_PERM_BASE and
RAW_LOCK_SHARED_BASE); a harness locks one of its own beside them, so that QEMUs and harnesses
all see each other. They are open-file-description locks (fcntl(2)): they belong to the open
file, not to the process, and end with it, however it ends.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import json
import os
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bootmatrix.errors import HarnessError, NvramError
from bootmatrix.files import given_file
from bootmatrix.nvram.layout import HEADERS, JOURNAL, NOTE, PAGE

_HARNESS_BYTE = 0
# QEMU locks 100 + n for each permission n that it has, 200 + n for each that it does not share.
_QEMU_RANGE = (100, 164)
_QEMU_PERMISSIONS = (101, 1)  # we write ...
_QEMU_UNSHARED = (201, 1)  # ... and nobody else does
_DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
_FLOCK = struct.Struct("hh4xqqi4x")  # struct flock: type, whence, start, length, pid


def _open(path: Path, flags: int) -> int:
    """A descriptor of a file of the user's, who names what he likes; but it has to be a file."""
    def check(found: os.stat_result) -> None:
        if flags & os.O_DIRECTORY:
            return  # the kernel looks
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, "")
        if not stat.S_ISREG(found.st_mode):
            raise NvramError(f"{path}: no file")

    with contextlib.suppress(FileNotFoundError):
        return given_file.open_checked(path, flags, check)
    # What has come there since is not waited for, and is refused where it is no file.
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    try:
        check(os.fstat(fd))
    except BaseException:
        os.close(fd)
        raise
    return fd


@dataclass(frozen=True)
class System:
    """The system calls of the store: what a test cuts short, and a cell's files need safer ones of.

    Whatever takes a path is here, and nowhere else in the package.
    """

    pwrite: Callable[[int, bytes, int], int] = os.pwrite
    sync: Callable[[int], None] = os.fdatasync
    truncate: Callable[[int, int], None] = os.ftruncate
    rename: Callable[[Path, Path], None] = os.replace
    unlink: Callable[[Path], None] = os.unlink
    open: Callable[[Path, int], int] = _open
    stat: Callable[[Path], os.stat_result] = os.stat

    def exists(self, path: Path) -> bool:
        """Whether there is anything of that name."""
        try:
            self.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True


class File:
    """A file that this process alone may change, until it is closed.

    ``create`` makes it if it is missing. ``beside``: its name is none that a user has given, but
    made beside one, and no link. Raises NvramError if another harness or a QEMU has it.
    """

    def __init__(
        self, path: Path, role: str, *, create: bool = False, beside: bool = False,
        system: System | None = None,
    ) -> None:
        self.path = path
        self._flags = os.O_RDWR | (os.O_CREAT if create else 0) | (os.O_NOFOLLOW if beside else 0)
        self._system = system or System()
        self._role = role
        self._signed = False
        with _errors_of(path):
            self._fd = self._opened()
        try:
            if beside and os.fstat(self._fd).st_nlink != 1:
                raise NvramError(f"{path}: has other names (what is it?)")
            self.lock_out_qemus()
        except BaseException:
            os.close(self._fd)
            raise

    def _opened(self) -> int:
        while True:
            fd = self._system.open(self.path, self._flags)
            try:
                if not _try_lock(fd, fcntl.F_WRLCK, _HARNESS_BYTE, 1):
                    raise NvramError(f"{self.path}: in use by {holder(fd)}")
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(fd), self._system.stat(self.path)):
                        return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # somebody has put another file there in between

    # -- locks -----------------------------------------------------------------------------

    def lock_out_qemus(self) -> None:
        """Keep QEMUs from opening the file. Raises NvramError if one has it."""
        if not _is_free(self._fd, *_QEMU_RANGE) or not (
            _try_lock(self._fd, fcntl.F_RDLCK, *_QEMU_PERMISSIONS)
            and _try_lock(self._fd, fcntl.F_RDLCK, *_QEMU_UNSHARED)
        ):
            others = " and ".join(openers(self._fd, without=os.getpid()))
            raise NvramError(f"{self.path}: in use by {others or 'a QEMU'}")

    def let_a_qemu_in(self) -> None:
        """Allow one QEMU to open the file; it locks all others out itself."""
        for start, length in (_QEMU_PERMISSIONS, _QEMU_UNSHARED):
            _try_lock(self._fd, fcntl.F_UNLCK, start, length)

    def sign(self) -> None:
        """Write down who has the file, for those who are refused."""
        note = {
            "pid": os.getpid(), "host": socket.gethostname(), "role": self._role,
            "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        self._signed = True
        with contextlib.suppress(HarnessError):  # it is a courtesy
            self.write(json.dumps(note).encode("ascii")[:PAGE].ljust(PAGE, b"\0"), NOTE)

    def own_like(self, other: File) -> None:
        """Take on the owner and the permissions of a file that this one will replace."""
        was = os.fstat(other._fd)
        with contextlib.suppress(PermissionError):
            os.fchown(self._fd, was.st_uid, was.st_gid)
        with contextlib.suppress(PermissionError):
            os.fchmod(self._fd, was.st_mode & 0o777)

    # -- content ---------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return os.fstat(self._fd).st_size

    def read(self, size: int, offset: int) -> bytes:
        """``size`` bytes at ``offset``, fewer only where the file ends."""
        pieces = []
        with _errors_of(self.path):
            while size and (piece := os.pread(self._fd, size, offset)):
                pieces.append(piece)
                size -= len(piece)
                offset += len(piece)
        return b"".join(pieces)

    def write(self, data: bytes, offset: int) -> None:
        """Write all of it. Raises HarnessError (a full disk, for one): some of it may be there."""
        with _errors_of(self.path):
            while data:
                written = self._system.pwrite(self._fd, data, offset)
                data, offset = data[written:], offset + written

    def sync(self) -> None:
        """Wait until what was written will be there after a loss of power."""
        with _errors_of(self.path):
            self._system.sync(self._fd)

    def truncate(self, size: int) -> None:
        """Cut the file to ``size`` bytes."""
        with _errors_of(self.path):
            self._system.truncate(self._fd, size)

    def rename(self, path: Path) -> None:
        """Give the file another name; what had that name is gone then, at once and for good."""
        with _errors_of(self.path):
            self._system.rename(self.path, path)
            self.path = path
            directory = self._system.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                self._system.sync(directory)
            finally:
                os.close(directory)

    def commit(self, page: bytes) -> None:
        """Make a header page count, all at once: it is in the journal before it is anywhere."""
        self.write(page, JOURNAL)
        self.sync()
        self.write_headers(page)

    def write_headers(self, page: bytes) -> None:
        """Write both header pages and empty the journal, which holds the same until then."""
        for offset in HEADERS:
            self.write(page, offset)
        self.sync()
        self.write(bytes(PAGE), JOURNAL)

    def remove(self) -> None:
        """Remove the file's name."""
        with _errors_of(self.path), contextlib.suppress(FileNotFoundError):
            self._system.unlink(self.path)

    def close(self) -> None:
        """Let go of the file."""
        if self._fd < 0:
            return
        try:
            if self._signed:
                with contextlib.suppress(HarnessError):
                    self.write(bytes(PAGE), NOTE)
        finally:
            os.close(self._fd)
            self._fd = -1


@contextlib.contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # A disk that fails is the rig's fault, what is wrong with a name is not.
        kind = HarnessError if error.errno in _DISK_FAULTS else NvramError
        raise kind(f"{path}: {os.strerror(error.errno or 0)}") from error


# ---- who else ----------------------------------------------------------------------------------


def holder(fd: int) -> str:
    """Who has an open file: as the note in it says, else as the process table says."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        note = json.loads(os.pread(fd, PAGE, NOTE).rstrip(b"\0"))
        role = f"{note['role']!s:.80}"
        if role.isprintable():
            process = f"pid {int(note['pid'])} on {note['host']!s:.80}"
            return f"{role}, {process}, since {note['since']!s:.40}"
    return " and ".join(openers(fd)) or "another process"


def openers(fd: int, without: int = 0) -> list[str]:
    """The processes that have this file open, as far as this user may see; one pid left out."""
    wanted = os.fstat(fd)
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == without:
            continue
        with contextlib.suppress(OSError):  # it has ended, or is not ours to look into
            for descriptor in (entry / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.path.samestat(descriptor.stat(), wanted):
                        name = (entry / "comm").read_text().strip()
                        found[int(entry.name)] = f"{name}, pid {entry.name}"
    return [found[pid] for pid in sorted(found)]


def _try_lock(fd: int, kind: int, start: int, length: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, start, length, 0))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def _is_free(fd: int, start: int, length: int) -> bool:
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
    answer = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))
    return bool(answer[0] == fcntl.F_UNLCK)
