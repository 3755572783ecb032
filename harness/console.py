"""One serial console: a socket that QEMU has connected to, read by pexpect, logged whole."""

from __future__ import annotations

import fcntl
import io
import select
import socket
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import pexpect
from pexpect.socket_pexpect import SocketSpawn

from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.identity import BANNER, EscapeFilter
from harness.probe_line import ProbeLine, parse_line

_BANNER = BANNER.encode()
_PROBE = rb"(BOOTMATRIX (?:up|here|reset|flash(?:ing)?|written|filled)[^\r\n]*)\r?\n"
LOG_LIMIT = 4 << 20
"""Bytes of one console that are kept. A guest that says more is a flood, not a log."""

# A line that is longer than half a window may not be recognised; a banner has some 50 bytes.
_WINDOW = 8192
_ROOM = _WINDOW // 2
# What a socket can hold, and more: all that is still read when there is no time left.
_LATE_BYTES = 1 << 20
# We look at the clock so often while nothing comes. A pause that takes so much longer than it
# should was one of this whole process, or of its host: nobody could have said anything.
_PAUSE_SECONDS = 1.0
_ASLEEP_SECONDS = 0.5


class _Log:
    """A file with a limit: what exceeds it is dropped."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._room = LOG_LIMIT
        self.close = self._file.close

    @property
    def closed(self) -> bool:
        return self._file.closed

    def write(self, data: bytes) -> None:
        if self._room:
            self._room -= self._file.write(data[: self._room]) or 0

    def flush(self) -> None:
        """Nothing is held back."""


class _Spawn(SocketSpawn):  # type: ignore[misc]  # pexpect ships no types
    """pexpect's reader, with escape sequences taken out after the log has the whole truth.

    The window and what pexpect keeps are bounded, however much comes.
    ``deadline`` is kept here: pexpect takes the wall clock, which jumps, and does not notice
    that it was asleep. ``late`` is how many bytes may still be read after it, ``looked`` when
    it was last looked at.

    ``begun`` answers whether the boot that is watched is known to have begun. Once it is,
    ``boundary`` is the place in the stream after which everything is this boot's for certain:
    what was already on its way at that moment may be of before.
    """

    _before: io.BytesIO
    _buffer: io.BytesIO

    def __init__(self, sock: socket.socket, log: object) -> None:
        super().__init__(sock, maxread=_ROOM, searchwindowsize=_WINDOW)
        self.logfile_read = log
        # pexpect waits before and after each read for the sake of terminals; this is none.
        self.delayafterread = None
        self.delaybeforesend = None
        self.deadline = Deadline.after(0)
        self.late = 0
        self.looked = time.monotonic()
        self.begun: Callable[[], bool] = lambda: True
        self.boundary: int | None = None
        self._count = 0
        self._escapes = EscapeFilter()
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    @property
    def certain(self) -> bool:
        """Whether what was found last is of the boot that is watched."""
        return self.boundary is not None and self._count > self.boundary

    @property
    def spoke(self) -> bool:
        """Whether anything at all has come of the boot that is watched."""
        return self.boundary is not None and self._count > max(self.boundary, 0)

    def watch(self, begun: Callable[[], bool] | None) -> None:
        """Watch the next boot; with None one that nothing can have come before."""
        self.begun = begun or (lambda: True)
        self.boundary = None if begun else self._count - 1

    def read_nonblocking(self, size: int = 1, timeout: float | None = None) -> bytes:
        while True:
            self._wait()
            if self.boundary is None and self.begun():
                self.boundary = self._count + self._waiting()
            room = size
            if self.boundary is not None and self._count < self.boundary:
                room = min(size, self.boundary - self._count)
            try:
                data: bytes = self.socket.recv(room, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                data = b""
            if not data:
                self.flag_eof = True
                raise pexpect.EOF("the console was closed")
            self._count += len(data)
            self._log(data, "read")
            if self._before.tell() > _WINDOW:  # what was before a match, which nobody asks for
                self._before = self.buffer_type()
                self._before.write(self._buffer.getvalue())
            text = self._escapes.feed(data)
            if text:
                return text

    def _waiting(self) -> int:
        """How many bytes can be read at once."""
        answer = fcntl.ioctl(self.socket, termios.FIONREAD, bytes(4))
        return int.from_bytes(answer, sys.byteorder)

    def _wait(self) -> None:
        """Wait until there is something to read. Raises pexpect.TIMEOUT after the deadline."""
        while True:
            self._notice_sleep(0)
            if self.deadline.expired:
                self.late -= _ROOM
            pause = min(_PAUSE_SECONDS, self.deadline.remaining)
            readable = self.late > 0 and self._poll.poll(1000 * pause)
            self._notice_sleep(pause)
            if readable:
                return
            if pause == 0:
                raise pexpect.TIMEOUT("nothing to read")

    def _notice_sleep(self, pause: float) -> None:
        """Put the deadline off by what went by unnoticed, but for a pause that was meant."""
        now = time.monotonic()
        asleep = now - self.looked - pause
        self.looked = now
        if asleep > _ASLEEP_SECONDS:
            self.deadline = replace(self.deadline, at=self.deadline.at + asleep)


@dataclass(frozen=True)
class BootSeen:
    """What a console said during one boot.

    ``banners`` are the versions of all firmware banners, in order (more than one: the machine
    went round). ``up`` is the probe guest's line, None if it never came. ``ended`` tells that
    the console was closed, which it is when QEMU ends, ``spoke`` that anything was printed.
    """

    banners: tuple[str, ...]
    up: ProbeLine | None
    ended: bool
    spoke: bool


class Console:
    """The one reader of a serial console.

    The first LOG_LIMIT bytes of it go to ``log``, as they are.
    """

    def __init__(self, sock: socket.socket, log: Path) -> None:
        self._socket = sock
        self._log = _Log(log)
        self.log = log
        self._spawn = _Spawn(sock, self._log)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Read what is still there into the log, then close."""
        if self._log.closed:
            return
        self._until(Deadline.after(0))
        self._expect([])
        self._socket.close()
        self._log.close()

    def wait_for_banner(
        self, deadline: Deadline, begun: Callable[[], bool] | None = None
    ) -> str | None:
        """Wait for a firmware banner and return its version; None if it does not come.

        ``begun``: see ``wait_for_boot``.
        """
        self._until(deadline, begun)
        early: str | None = None
        while self._expect([_BANNER]) == 0:
            version = _text(self._spawn.match.group(1))
            if self._spawn.certain:
                return version
            early = version
        return early

    def wait_for_boot(
        self,
        deadline: Deadline,
        banners: tuple[str, ...] = (),
        begun: Callable[[], bool] | None = None,
        counter: int | None = None,
    ) -> BootSeen:
        """Wait for banner and probe line of one boot, in the order in which they come.

        ``banners`` are those that were read from this boot before. ``begun`` answers whether the
        boot is known to have begun; None: nothing can have been printed before it. A guest that
        is about to be reset still prints what it likes, a banner to pose as firmware or the line
        of a guest that is up. So of the banners that may be from before only the last counts, and
        only if none comes for certain after it; and such a line only if it counts one boot more
        than ``counter``, the boots so far, or if nothing else comes: then it was the news of the
        reset that came late.
        """
        self._until(deadline, begun)
        seen = list(banners)
        early: list[str] = []
        early_up: ProbeLine | None = None
        while True:
            found = self._expect([_BANNER, _PROBE])
            if found == 0:
                version = _text(self._spawn.match.group(1))
                if self._spawn.certain:
                    seen.append(version)
                else:
                    early = [version]
            elif found == 1:
                line = parse_line(_text(self._spawn.match.group(1)))
                if line is None or line.kind != "up":
                    continue
                if self._spawn.certain or (counter is not None and line.boot == counter + 1):
                    return BootSeen(tuple(seen or early), line, ended=False, spoke=True)
                early_up = line
            else:
                up = early_up if self._spawn.begun() else None
                spoke = self._spawn.spoke
                return BootSeen(tuple(seen or early), up, ended=found is None, spoke=spoke)

    def ask(self, deadline: Deadline) -> ProbeLine | None:
        """Ask the running guest how it is; None if it does not answer."""
        return self.tell(b"?", "here", deadline)

    def tell(
        self,
        key: bytes,
        kind: str,
        deadline: Deadline,
        progress: Callable[[int], None] = lambda at: None,
    ) -> ProbeLine | None:
        """Send the guest a command; its line of that kind, None if it falls silent.

        ``progress`` is called with what lines before it say of how far it is, in bytes.
        """
        if not self.send(key):
            return None
        self._until(deadline)
        while self._expect([_PROBE]) == 0:
            line = parse_line(_text(self._spawn.match.group(1)))
            if line is not None and line.kind == kind:
                return line
            if line is not None and line.at is not None:
                progress(line.at)
        return None

    def flash(
        self, deadline: Deadline, progress: Callable[[int], None] = lambda at: None
    ) -> ProbeLine | None:
        """Make the probe guest program its flash; what it says of it, None if it falls silent.

        ``progress`` is called with the bytes that are programmed, every 16 blocks.
        """
        return self.tell(b"f", "flash", deadline, progress)

    def send(self, data: bytes) -> bool:
        """Type something at the guest. False: nobody is there any more."""
        try:
            self._socket.sendall(data)
        except OSError:
            return False
        return True

    def handed_over(self) -> socket.socket:
        """The connection, for someone else to read from now on in this console's stead."""
        return self._socket

    def tail(self, limit: int = 2000) -> str:
        """The last ``limit`` bytes of the log as text, for a failure's message."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - limit))
            return _text(EscapeFilter().feed(log.read()))

    def _until(self, deadline: Deadline, begun: Callable[[], bool] | None = None) -> None:
        """The deadline of all that is expected from now on, and the boot that it belongs to."""
        self._spawn.deadline = deadline
        self._spawn.late = _LATE_BYTES
        self._spawn.looked = time.monotonic()
        self._spawn.watch(begun)

    def _expect(self, patterns: list[bytes]) -> int | None:
        """Index of the pattern found first; -1: not in time; None: the console ended."""
        if self._log.closed:
            raise HarnessError("this console is closed")
        found: int = self._spawn.expect([*patterns, pexpect.TIMEOUT, pexpect.EOF], timeout=None)
        if found == len(patterns):
            return -1
        return None if found > len(patterns) else found


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
