"""Files that a user names: looked at before they are read, and read only up to a size.

A FIFO is waited for, a device need not end, and a sparse file can be larger than all memory. What
is written takes a file's place whole, and only a file's: as root even a device can be replaced.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader, BufferedWriter, RawIOBase
from pathlib import Path

from bootmatrix.errors import UserError

_KINDS = {stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a FIFO", stat.S_IFDIR: "a directory",
          stat.S_IFSOCK: "a socket"}


class Unreadable(Exception):
    """A file that is not read; the text says why, to stand behind its name."""


class Missing(Unreadable):
    """There is no such file."""


def open_regular(
    path: Path | str, largest: int, directory: int | None = None
) -> BufferedReader:
    """A regular file of so many bytes at most, opened to be read. Raises Unreadable.

    With an open ``directory`` it is a name in that, and no link.
    """
    def check(found: os.stat_result) -> None:
        if stat.S_ISDIR(found.st_mode):
            raise Unreadable("is a directory")
        if not stat.S_ISREG(found.st_mode):
            raise Unreadable("is no regular file")
        if found.st_size > largest:
            raise Unreadable(f"has {found.st_size} bytes, at most {largest} are read")

    try:
        flags = os.O_RDONLY | (0 if directory is None else os.O_NOFOLLOW)
        return os.fdopen(open_checked(path, flags, check, directory), "rb")
    except FileNotFoundError:
        raise Missing("cannot be read: No such file or directory") from None
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from None
    except ValueError as error:  # a NUL in it
        raise Unreadable(f"cannot be read: {error}") from None


def open_checked(
    path: Path | str, flags: int, check: Callable[[os.stat_result], None],
    directory: int | None = None,
) -> int:
    """Open what is there, as it was when ``check`` saw it, which raises if it is not to be.

    It is looked at first: to open a device, or a FIFO with a writer, is a deed already. Nothing is
    made, and nobody who has a lease on it is waited for. Raises OSError.
    """
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC | flags & os.O_NOFOLLOW, dir_fd=directory)
    try:
        check(os.fstat(fd))
        # /proc has a link there, which is ours.
        return os.open(f"/proc/self/fd/{fd}",
                       flags & ~(os.O_CREAT | os.O_NOFOLLOW) | os.O_CLOEXEC | os.O_NONBLOCK)
    finally:
        os.close(fd)


def read(path: Path, largest: int) -> bytes:
    """All of it. Raises Unreadable."""
    try:
        with open_regular(path, largest) as file:
            content = file.read(largest + 1)
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from None
    if len(content) > largest:  # it grows
        raise Unreadable(f"has more than {largest} bytes")
    return content


def copy(
    file: BufferedReader, made: BufferedWriter | RawIOBase, size: int, *, holes: bool = False
) -> None:
    """Copy so many bytes, which it had. Raises Unreadable for more: it grows, and need not end.

    With ``holes`` zeros become a hole: a file of holes can be larger than the disk.
    """
    while part := file.read(1 << 20):
        size -= len(part)
        if size < 0:
            raise Unreadable("was changed while it was read")
        if holes and part.count(0) == len(part):
            made.seek(len(part), os.SEEK_CUR)
        else:
            made.write(part)
    if holes:
        made.truncate()  # where it ends in one


def replace(path: Path, content: bytes) -> None:
    """Put a file there in one step, in place of a regular file or of nothing. Raises UserError."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[BufferedWriter]:
    """The same for what is written bit by bit: it takes its place when all is written."""
    check_replaceable(path)
    beside = path.parent / f".{secrets.token_hex(8)}.new"
    try:
        try:
            with beside.open("xb") as file:
                yield file
            beside.rename(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", file=path) from None


def check_replaceable(path: Path) -> None:
    """Raise UserError for what ``replace`` does not replace: a device, a directory, a link."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", file=path) from None
    if not stat.S_ISREG(mode):
        raise UserError(f"is {_KINDS.get(stat.S_IFMT(mode), 'a device')}", file=path,
                        hint="only a regular file is replaced")


def path_of(text: str) -> Path:
    """A path as a person writes it, ``~`` included. Raises UserError for what can be none."""
    if "\0" in text:
        raise UserError(f"{text!r} is no path", hint="a path cannot hold a NUL")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UserError(f"{text}: there is no home directory of this user") from None
