"""Files in a directory that a sandbox can write: the one way in which the harness touches them.

What lies there may be anything at any moment: a link to a secret or to a file to be overwritten,
a FIFO that nobody reads, a directory in the place of a file, and it can change between two looks.
So a name is never followed twice and never through a link: each part of it is opened relative to
a descriptor that is held, what was opened is looked at by its descriptor, and only a regular file
of a bounded size is read or written. Anything else is a CellError that says what was found.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from bootmatrix.deadline import Deadline
from bootmatrix.errors import CellError

LIMIT = 256 << 20
"""The largest file there that the harness deals with; no sandbox can make a larger one."""
MOST_BYTES, MOST_NAMES, DEEPEST = 8 * LIMIT, 4096, 32
"""The most that programs may write there: bytes on the disk, names, directories in each other."""

_SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ENTRY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_COPY_BYTES = 1 << 20
EMPTY_SECONDS = 300.0
"""How long a directory is emptied that somebody fills meanwhile."""
# No fault of who left something in a cell.
_CHANGED = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
"""A name stands for something else than at the look before."""
_OURS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE)
# Linux's overflow ids, "nobody": they own nothing on the host.
_NOBODY = 65534


def sandbox_user() -> tuple[int, int]:
    """The user and group that programs in a sandbox run as: ours; nobody, if we are root."""
    return (os.getuid(), os.getgid()) if os.getuid() else (_NOBODY, _NOBODY)


class CellDir:
    """A directory that a sandbox can write, held open until it is closed.

    ``path`` names it for mounts and messages; it lies where no sandbox can rename it. Names of
    files are relative to it, with ``/`` between their parts. What is made there is given to the
    user that programs in a sandbox run as.

    All methods raise CellError for what a name stands for and should not, and
    FileNotFoundError where there is nothing, unless they say otherwise.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        entry = os.open(path, _ENTRY)
        try:
            self._fd = _entered(entry)
        finally:
            os.close(entry)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the directory; what is in it stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def give(self) -> None:
        """Give the directory itself to the user of the sandboxes."""
        _give(self._fd)

    # -- names -----------------------------------------------------------------------------

    def open(self, name: str, flags: int, mode: int = 0o644) -> int:
        """A descriptor of a regular file; O_CREAT makes it where there is nothing.

        A file that is written to must have no other name. With O_DIRECTORY it is a directory's.
        """
        assert not flags & os.O_TRUNC, "what is cut must be looked at before"
        with self._at(name, makes=bool(flags & os.O_CREAT)) as (directory, leaf):
            try:
                fd = os.open(leaf, flags | _SAFE, mode, dir_fd=directory)
            except OSError as error:
                if isinstance(error, FileNotFoundError) and not flags & os.O_CREAT:
                    raise
                raise self._refusal(name, error, _mode(leaf, directory)) from error
        try:
            if not flags & os.O_DIRECTORY:
                self._check(name, os.fstat(fd), bool(flags & (os.O_WRONLY | os.O_RDWR)))
            if flags & os.O_CREAT:
                _give(fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def lstat(self, name: str) -> os.stat_result:
        """What a name stands for, without following it."""
        with self._at(name) as (directory, leaf):
            try:
                return os.stat(leaf, dir_fd=directory, follow_symlinks=False)
            except PermissionError as error:
                raise self._refusal(name, error, None) from error

    def exists(self, name: str) -> bool:
        """Whether there is anything of that name."""
        try:
            self.lstat(name)
        except FileNotFoundError:
            return False
        return True

    def mkdir(self, name: str) -> None:
        """Make a directory."""
        with self._at(name, makes=True) as (directory, leaf):
            try:
                os.mkdir(leaf, 0o755, dir_fd=directory)
                fd = os.open(leaf, _DIRECTORY, dir_fd=directory)
            except OSError as error:
                raise self._refusal(name, error, _mode(leaf, directory)) from error
        try:
            _give(fd)
        finally:
            os.close(fd)

    def rename(self, old: str, new: str) -> None:
        """Give a file another name; what had that name before is gone."""
        with self._at(old) as (source, leaf), self._at(new) as (target, name):
            try:
                os.replace(leaf, name, src_dir_fd=source, dst_dir_fd=target)
            except FileNotFoundError:
                raise
            except OSError as error:
                raise self._refusal(new, error, _mode(name, target)) from error

    def unlink(self, name: str) -> None:
        """Remove a name, a link's as well; nothing happens where there is none."""
        with contextlib.suppress(FileNotFoundError), self._at(name) as (directory, leaf):
            try:
                os.unlink(leaf, dir_fd=directory)
            except (IsADirectoryError, PermissionError) as error:
                raise self._refusal(name, error, _mode(leaf, directory)) from error

    # -- contents --------------------------------------------------------------------------

    def read(self, name: str, limit: int = LIMIT) -> bytes:
        """All of a file. CellError if it has more than ``limit`` bytes."""
        fd = self.open(name, os.O_RDONLY)
        try:
            data = _read(fd, 0, limit + 1)
        finally:
            os.close(fd)
        if len(data) > limit:
            raise CellError(f"{self.path / name}: more than {limit} bytes")
        return data

    def tail(self, name: str, limit: int) -> bytes:
        """The last ``limit`` bytes of a file; what should not be there is named instead."""
        try:
            fd = self.open(name, os.O_RDONLY)
        except FileNotFoundError:
            return b""
        except CellError as error:
            return error.message.encode(errors="replace")
        try:
            return _read(fd, max(0, os.fstat(fd).st_size - limit), limit)
        finally:
            os.close(fd)

    def make_empty(self, name: str) -> None:
        """Make an empty file, or cut the one that is there."""
        fd = self.open(name, os.O_WRONLY | os.O_CREAT)
        try:
            os.ftruncate(fd, 0)
        finally:
            os.close(fd)

    def write(self, name: str, data: bytes) -> None:
        """Make a file, which must not be there yet, with this content."""
        fd = self.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        with open(fd, "wb") as file:
            file.write(data)

    def copy_in(self, source: Path, name: str) -> None:
        """Copy a file of the harness's to a name that must not be there yet."""
        with source.open("rb") as given:
            fd = self.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            try:
                _copy(given.fileno(), fd, os.fstat(given.fileno()).st_size)
            finally:
                os.close(fd)

    def copy_out(self, name: str, target: Path, limit: int = LIMIT) -> bool:
        """Copy a file to a new one of the harness's; whether all of it is there.

        Of a larger one come the first and the last half of ``limit`` bytes.
        """
        fd = self.open(name, os.O_RDONLY)
        try:
            size = os.fstat(fd).st_size
            with target.open("xb") as file:
                if size <= limit:
                    _copy(fd, file.fileno(), size)
                    return True
                half = limit // 2
                file.write(_read(fd, 0, half))
                file.write(f"\n[... {size - 2 * half} bytes are left out ...]\n".encode())
                file.write(_read(fd, size - half, half))
                return False
        finally:
            os.close(fd)

    # -- everything ------------------------------------------------------------------------

    def excess(self, most_bytes: int = 0, most_names: int = 0) -> str | None:
        """What there is too much of in the directory; None if of nothing.

        It takes milliseconds, however much there is. A file that was removed and is still open
        is not seen. Whoever takes the harness's permission away while it looks has something to
        hide: where it is no root, sandboxes run as its user, and own what it has opened.
        """
        most_bytes, most_names = most_bytes or MOST_BYTES, most_names or MOST_NAMES
        left = {"bytes": most_bytes, "names": most_names}

        def count(directory: int, depth: int) -> str | None:
            with os.scandir(directory) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                        found = entry.stat(follow_symlinks=False)
                        left["bytes"] -= found.st_blocks * 512
                        left["names"] -= 1
                        if left["bytes"] < 0:
                            return f"more than {most_bytes >> 20} MiB"
                        if left["names"] < 0:
                            return f"more than {most_names} names"
                        if stat.S_ISDIR(found.st_mode):
                            if depth == DEEPEST:
                                return f"more than {DEEPEST} directories in each other"
                            with _listed(entry.name, directory) as inner:
                                if much := count(inner, depth + 1):
                                    return much
            return None

        try:
            # Opened anew: two who read the same open directory take entries from each other.
            directory = _entered(self._fd)
            try:
                return count(directory, 0)
            finally:
                os.close(directory)
        except PermissionError:
            return "what cannot be looked at"

    def empty(self) -> None:
        """Remove all that is in the directory, however deep, and whatever its modes.

        Directories are moved up before they are emptied: no path grows long, and no more than
        two are open at a time. Raises CellError if somebody goes on filling it.
        """
        deadline = Deadline.after(EMPTY_SECONDS)
        os.close(_entered(self._fd))  # whatever its own mode, too
        while left := os.listdir(self._fd):
            while left:
                if deadline.expired:
                    raise CellError(f"{self.path}: cannot be emptied, {left[0]} is still there")
                with contextlib.suppress(*_CHANGED):
                    left += self._remove(left.pop())

    def _remove(self, name: str) -> list[str]:
        """Remove an entry; what is to be removed next, since it was in there."""
        if not _is_directory(name, self._fd):
            os.unlink(name, dir_fd=self._fd)
            return []
        with contextlib.suppress(OSError):  # a quick end for most of them
            os.rmdir(name, dir_fd=self._fd)
            return []
        raised: list[str] = []
        with _listed(name, self._fd) as fd:
            for inner in os.listdir(fd):
                with contextlib.suppress(*_CHANGED):
                    if _is_directory(inner, fd):
                        raised.append(self._raise(inner, fd))
                    else:
                        os.unlink(inner, dir_fd=fd)
        with contextlib.suppress(OSError):  # filled again: the next look sees it
            os.rmdir(name, dir_fd=self._fd)
        return raised

    def _raise(self, name: str, fd: int) -> str:
        """Move a directory up to the top; its new name."""
        with _listed(name, fd):
            pass  # its ".." is written to
        new = secrets.token_hex(16)
        os.rename(name, new, src_dir_fd=fd, dst_dir_fd=self._fd)
        return new

    # -- how it is done --------------------------------------------------------------------

    @contextlib.contextmanager
    def _at(self, name: str, *, makes: bool = False) -> Iterator[tuple[int, str]]:
        """The directory that a name lies in, as a descriptor, and the name's last part.

        Where something is made, its directory is the harness's: that it has gone is no answer.
        """
        *parents, leaf = name.split("/")
        if any(part in ("", ".", "..") for part in (*parents, leaf)):
            raise ValueError(f"no name of a file in a cell: {name!r}")
        held = directory = self._fd
        try:
            for number, part in enumerate(parents, 1):
                try:
                    entered = os.open(part, _ENTRY, dir_fd=directory)
                except OSError as error:
                    if isinstance(error, FileNotFoundError) and not makes:
                        raise
                    raise self._refusal(
                        "/".join(parents[:number]), error, _mode(part, directory)
                    ) from error
                if directory != held:
                    os.close(directory)
                directory = entered
            yield directory, leaf
        finally:
            if directory != held:
                os.close(directory)

    def _check(self, name: str, found: os.stat_result, writes: bool) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise CellError(f"{self.path / name}: {_what(found.st_mode)}, no file")
        if found.st_size > LIMIT:
            raise CellError(f"{self.path / name}: {found.st_size} bytes, more than {LIMIT}")
        if writes and found.st_nlink > 1:
            raise CellError(f"{self.path / name}: a file with {found.st_nlink} names")

    def _refusal(self, name: str, error: OSError, mode: int | None) -> Exception:
        """What to raise for a name that cannot be opened; a disk's fault stays what it is."""
        if error.errno in _OURS:
            return error
        what = "nothing" if mode is None else _what(mode)
        there = "is there already" if isinstance(error, FileExistsError) else "is there"
        return CellError(f"{self.path / name}: {what} {there} ({error.strerror})")


def remove_tree(path: Path) -> None:
    """Remove a directory of the harness's with all that sandboxes may have left in it."""
    with CellDir(path) as directory:
        directory.empty()
    path.rmdir()


@contextlib.contextmanager
def temporary(prefix: str) -> Iterator[Path]:
    """A directory of the harness's for a while, whatever sandboxes leave in it."""
    path = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield path
    finally:
        remove_tree(path)


def _mode(leaf: str, directory: int) -> int | None:
    try:
        return os.stat(leaf, dir_fd=directory, follow_symlinks=False).st_mode
    except OSError:
        return None


def _what(mode: int) -> str:
    kinds = {
        stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a FIFO", stat.S_IFDIR: "a directory",
        stat.S_IFSOCK: "a socket", stat.S_IFREG: "a file",
    }  # fmt: skip
    return kinds.get(stat.S_IFMT(mode), "a device")


def _is_directory(name: str, directory: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)


@contextlib.contextmanager
def _listed(name: str, directory: int) -> Iterator[int]:
    """A descriptor to list a directory with that lies in another one, whatever its mode."""
    entry = os.open(name, _ENTRY, dir_fd=directory)
    try:
        fd = _entered(entry)
    finally:
        os.close(entry)
    try:
        yield fd
    finally:
        os.close(fd)


def _entered(entry: int) -> int:
    """A descriptor to list a directory with, which another one holds, whatever its mode."""
    itself = f"/proc/self/fd/{entry}"
    mode = stat.S_IMODE(os.fstat(entry).st_mode)
    if mode & 0o700 != 0o700:
        os.chmod(itself, mode | 0o700)
    return os.open(itself, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _give(fd: int) -> None:
    if not os.getuid() and os.fstat(fd).st_uid != sandbox_user()[0]:
        os.fchown(fd, *sandbox_user())


def _read(fd: int, offset: int, size: int) -> bytes:
    pieces = []
    while size and (piece := os.pread(fd, min(size, _COPY_BYTES), offset)):
        pieces.append(piece)
        size -= len(piece)
        offset += len(piece)
    return b"".join(pieces)


def _copy(source: int, target: int, size: int) -> None:
    """Copy what a file holds now; what it may grow by meanwhile is not waited for."""
    offset = 0
    while offset < size and (done := os.sendfile(target, source, offset, size - offset)):
        offset += done
