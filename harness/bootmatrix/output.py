"""What a command prints is never its status: output that goes nowhere lets it go on to its end."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from types import TracebackType
from typing import Any, Self, TextIO

from bootmatrix.errors import Status


class Outputs:
    """Guards standard output and standard error while a command runs.

    A reader that has had enough (head, less) ends neither the command nor its work: what is
    written after that is dropped, and the status is the true one. Where output is lost to anything
    else (a full disk, a stream that was closed from the start), a good status becomes RIG_BROKEN.
    """

    def __init__(self) -> None:
        self._guards: dict[str, _Guard] = {}
        self._before: dict[str, Any] = {}

    def __enter__(self) -> Self:
        _fill_gaps()
        for name, fd in (("stdout", 1), ("stderr", 2)):
            stream = getattr(sys, name)
            if stream is not getattr(sys, f"__{name}__"):
                continue  # somebody else's, who takes what is written
            guard = self._guards[name] = _Guard(fd, closed=stream is None)
            self._before[name] = stream
            setattr(sys, name, _text(guard, stream))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, SystemExit) and error.code in (0, None):  # --help
            error.code = self.status(0)
        _flush()
        for name, stream in self._before.items():
            setattr(sys, name, stream)

    def status(self, status: int) -> int:
        """The exit status of a command that says it is ``status``."""
        _flush()
        guard = self._guards.get("stdout")
        lost = guard.lost if guard else None
        if lost is None:
            return status
        why = f"bootmatrix: cannot write to standard output: {os.strerror(lost)}\n"
        if sys.stderr is not None:
            sys.stderr.write(why)
        _flush()
        return status or Status.RIG_BROKEN


class _Guard(io.RawIOBase):
    """Writes to a descriptor as long as that can be done; ``lost`` is the errno since it cannot."""

    def __init__(self, fd: int, *, closed: bool) -> None:
        super().__init__()
        self._fd = fd
        self._shut = closed
        self.lost: int | None = None

    def write(self, data: Any, /) -> int:
        while not self._shut:
            try:
                return os.write(self._fd, data)
            except BlockingIOError:  # a pipe that whoever made it set so
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll()
            except OSError as error:
                # Its reader's own will is no loss.
                self.lost = None if error.errno == errno.EPIPE else error.errno
                return len(data)
        self.lost = errno.EBADF
        return len(data)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return not self._shut and os.isatty(self._fd)


def _text(guard: _Guard, like: TextIO | None) -> io.TextIOWrapper:
    # What a locale's encoding lacks is an escape, and no reason to end in the midst.
    return io.TextIOWrapper(
        io.BufferedWriter(guard), "utf-8" if like is None else like.encoding, "backslashreplace",
        line_buffering=guard.isatty() or guard.fileno() == 2)  # fmt: skip


def _fill_gaps() -> None:
    """Let no file of ours become standard output, error or input, where one was closed."""
    while True:
        fd = os.open(os.devnull, os.O_RDWR)
        if fd > 2:
            os.close(fd)
            return
        os.set_inheritable(fd, True)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
