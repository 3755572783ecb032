"""One serial console: a socket that QEMU has connected to, read by pexpect, logged whole."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pexpect
from pexpect.socket_pexpect import SocketSpawn

from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.identity import BANNER, EscapeFilter
from harness.probe_line import ProbeLine, parse_line

_BANNER = BANNER.encode()
_PROBE = rb"(BOOTMATRIX (?:up|here|reset)[^\r\n]*)\r?\n"
_ROOM = 65536


class _Spawn(SocketSpawn):  # type: ignore[misc]  # pexpect ships no types
    """pexpect's reader, with escape sequences taken out after the log has the whole truth."""

    def __init__(self, sock: socket.socket, log: object) -> None:
        super().__init__(sock, maxread=_ROOM)
        self.logfile_read = log
        # pexpect waits before and after each read for the sake of terminals; this is none.
        self.delayafterread = None
        self.delaybeforesend = None
        self._escapes = EscapeFilter()

    def read_nonblocking(self, size: int = 1, timeout: float | None = -1) -> bytes:
        if timeout == -1:
            timeout = self.timeout
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if end is None else max(0.0, end - time.monotonic())
            try:
                data: bytes = super().read_nonblocking(size, left)
            except BlockingIOError:  # what a socket with a time-out of 0 says
                raise pexpect.TIMEOUT("nothing to read") from None
            except ConnectionResetError:
                self.flag_eof = True
                raise pexpect.EOF("connection reset") from None
            self._log(data, "read")
            text = self._escapes.feed(data)
            if text:
                return text


@dataclass(frozen=True)
class BootSeen:
    """What a console said during one boot.

    ``banners`` are the versions of all firmware banners, in order (more than one: the machine
    went round). ``up`` is the probe guest's line, None if it never came. ``ended`` tells that
    the console was closed, which it is when QEMU ends.
    """

    banners: tuple[str, ...]
    up: ProbeLine | None
    ended: bool


class Console:
    """The one reader of a serial console."""

    def __init__(self, sock: socket.socket, log: Path) -> None:
        self._socket = sock
        self._log = log.open("ab", buffering=0)
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
        self._expect([], Deadline.after(0))
        self._socket.close()
        self._log.close()

    def wait_for_banner(self, deadline: Deadline) -> str | None:
        """Wait for a firmware banner and return its version; None if it does not come."""
        found = self._expect([_BANNER], deadline)
        return _text(self._spawn.match.group(1)) if found == 0 else None

    def wait_for_boot(self, deadline: Deadline, banners: tuple[str, ...] = ()) -> BootSeen:
        """Wait for banner and probe line of one boot, in the order in which they come.

        ``banners`` are those that were read from this boot before.
        """
        seen = list(banners)
        while True:
            found = self._expect([_BANNER, _PROBE], deadline)
            if found == 0:
                seen.append(_text(self._spawn.match.group(1)))
            elif found == 1:
                line = parse_line(_text(self._spawn.match.group(1)))
                if line is not None and line.kind == "up":
                    return BootSeen(tuple(seen), line, ended=False)
            else:
                return BootSeen(tuple(seen), None, ended=found is None)

    def ask(self, deadline: Deadline) -> ProbeLine | None:
        """Ask the running probe guest how it is; None if it does not answer."""
        if not self.send(b"?"):
            return None
        while self._expect([_PROBE], deadline) == 0:
            line = parse_line(_text(self._spawn.match.group(1)))
            if line is not None and line.kind == "here":
                return line
        return None

    def send(self, data: bytes) -> bool:
        """Type something at the guest. False: nobody is there any more."""
        try:
            self._socket.sendall(data)
        except OSError:
            return False
        return True

    def tail(self, limit: int = 2000) -> str:
        """The last ``limit`` bytes of the log as text, for a failure's message."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - limit))
            return _text(EscapeFilter().feed(log.read()))

    def _expect(self, patterns: list[bytes], deadline: Deadline) -> int | None:
        """Index of the pattern found first; -1: not in time; None: the console ended."""
        if self._log.closed:
            raise HarnessError("this console is closed")
        found: int = self._spawn.expect(
            [*patterns, pexpect.TIMEOUT, pexpect.EOF], timeout=deadline.remaining
        )
        if found == len(patterns):
            return -1
        return None if found > len(patterns) else found


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
