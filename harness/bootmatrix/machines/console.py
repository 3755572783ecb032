"""One serial console: a socket that QEMU has connected to, read by pexpect, logged whole."""

from __future__ import annotations

import contextlib
import io
import re
import secrets
import select
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pexpect
from pexpect.socket_pexpect import SocketSpawn

from bootmatrix.deadline import Deadline
from bootmatrix.errors import HarnessError
from bootmatrix.firmware.identity import (
    BANNER,
    BANNER_IN_BYTES,
    Alternatives,
    EscapeFilter,
    version_in,
)
from bootmatrix.model import GuestKind, OwnGuest
from bootmatrix.pattern import Pattern
from bootmatrix.witnesses.probe_line import WORD, ProbeLine, parse_line

_PANIC = rb"(Kernel panic - not syncing[^\r\n]{0,300})\r?\n"
# What somebody types at a guest that is not ours, to have it say its word again. At a prompt of
# firmware a space comes before: it is no number of s390-ccw's menu, which would boot if there was
# nothing, and nothing to OpenBIOS.
_ENTER, _SPACE = b"\r", b" "
# s390-ccw overlooks a key that comes while it echoes the one before: of 40 Enters typed at once at
# each of four QEMUs 20 to 31 were lost.
_ECHO_SECONDS = 1.0
_TYPE_AGAIN_SECONDS = 3.0  # a shell answers in milliseconds, one that begins in a second or two
_PROBE = rb"(" + WORD.encode() + rb" (?:up|here|reset|flash(?:ing)?|written|filled)[^\r\n]*)\r?\n"
# What a guest has to repeat in its answer: decimal digits, which are nobody's command. What is
# neither a digit nor a command makes it forget digits of before.
_NONCE_DIGITS = 16
_FORGET = b"#"
LOG_LIMIT = 4 << 20
"""Bytes of one console that are kept. A guest that says more is a flood, not a log."""

BANNERS = 16
"""How many banners of one boot are kept; of another version than those, once more as many."""

BANNER_LENGTH = 200
"""Characters of a banner's version that are kept."""

# A line that is longer than half a window may not be recognised; a banner has some 50 bytes.
_WINDOW = 8192
_CHUNK = _WINDOW // 2
# What a socket can hold, and more: all that is still read when there is no time left.
_LATE_BYTES = 1 << 20
# The deadline's clock is looked at so often while nothing comes.
_PAUSE_SECONDS = 0.25
# What a guest is told has some bytes, and a socket takes thousands that nobody has read.
_UNREAD_SECONDS = 10


def _never() -> bool:
    return False


class _Log:
    """A file with a limit: what exceeds it is dropped."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._left = LOG_LIMIT
        self.close = self._file.close

    @property
    def closed(self) -> bool:
        return self._file.closed

    def write(self, data: bytes) -> None:
        if self._left:
            self._left -= self._file.write(data[: self._left]) or 0

    def flush(self) -> None:
        """Nothing is held back."""


class _Spawn(SocketSpawn):  # type: ignore[misc]  # pexpect ships no types
    """pexpect's reader, with escape sequences taken out after the log has the whole truth.

    The window and what pexpect keeps are bounded, however much comes.
    ``deadline`` is kept here: pexpect takes the wall clock. ``late`` is how many bytes may still
    be read after it. ``spoke`` tells whether anything has come since it was cleared. ``given_up``
    is asked as ``hopeless`` is, by whom it is waited for now.
    """

    _before: io.BytesIO
    _buffer: io.BytesIO

    def __init__(self, sock: socket.socket, log: object, hopeless: Callable[[], bool]) -> None:
        super().__init__(sock, maxread=_CHUNK, searchwindowsize=_WINDOW)
        self._hopeless = hopeless
        self.given_up: Callable[[], bool] = _never
        self.logfile_read = log
        # pexpect waits before and after each read for the sake of terminals; this is none.
        self.delayafterread = None
        self.delaybeforesend = None
        self.deadline = Deadline.after(0)
        self.late = 0
        self.spoke = False
        self._escapes = EscapeFilter()
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def skip(self) -> bool:
        """Let go of all that has come so far, which only the log has then; False: it has ended."""
        self._buffer, self._before = self.buffer_type(), self.buffer_type()
        self._escapes = EscapeFilter()
        with contextlib.suppress(BlockingIOError):
            for _ in range(0, _LATE_BYTES, _CHUNK):
                data = self._receive(_CHUNK)
                if not data:
                    return False
                self._log(data, "read")
        return True

    def _receive(self, size: int) -> bytes:
        """What can be read at once, nothing at the end. Raises BlockingIOError."""
        try:
            data: bytes = self.socket.recv(size, socket.MSG_DONTWAIT)
        except ConnectionResetError:
            return b""
        return data

    def read_nonblocking(self, size: int = 1, timeout: float | None = None) -> bytes:
        while True:
            self._wait()
            try:
                data = self._receive(size)
            except BlockingIOError:
                continue
            if not data:
                self.flag_eof = True
                raise pexpect.EOF("the console was closed")
            self.spoke = True
            self._log(data, "read")
            if self._before.tell() > _WINDOW:  # what was before a match, which nobody asks for
                self._before = self.buffer_type()
                self._before.write(self._buffer.getvalue())
            text = self._escapes.feed(data)
            if text:
                return text

    def _wait(self) -> None:
        """Wait until there is something to read. Raises pexpect.TIMEOUT after the deadline."""
        while True:
            if self.deadline.expired:
                self.late -= _CHUNK
            pause = min(_PAUSE_SECONDS, self.deadline.remaining)
            readable = self.late > 0 and self._poll.poll(1000 * pause)
            if readable:
                return
            if pause == 0 or self._hopeless() or self.given_up():
                raise pexpect.TIMEOUT("nothing to read")


@dataclass(frozen=True)
class BootSeen:
    """What a console said during one boot.

    ``banners`` are the versions of all firmware banners, in order (more than one: the machine
    went round). ``up`` is the probe guest's line, None if it never came. ``ended`` tells that
    the console was closed, which it is when QEMU ends, ``spoke`` that anything was printed.
    ``panic`` is what a Linux kernel said that goes on no more.
    """

    banners: tuple[str, ...]
    up: ProbeLine | None
    ended: bool
    spoke: bool
    panic: str | None = None


class Console:
    """The one reader of a serial console.

    The first LOG_LIMIT bytes of it go to ``log``, as they are. ``cut`` counts the banners that
    were too many to be kept. ``hopeless`` is asked now and then while nothing comes: whether
    nothing will, so that no deadline is waited for. ``guest`` is who speaks: one that is not ours
    says its ``up`` again where somebody types Enter. ``panic`` is what a Linux kernel said that
    goes on no more, while something else was waited for than a boot.
    """

    def __init__(
        self, sock: socket.socket, log: Path, hopeless: Callable[[], bool] = lambda: False,
        guest: GuestKind | OwnGuest = GuestKind.PROBE,
    ) -> None:
        self._socket = sock
        self._guest = guest
        self._up = Pattern(guest.up) if guest.up else None
        self._log = _Log(log)
        self.log = log
        self.cut = 0
        self.panic: str | None = None
        self._spawn = _Spawn(sock, self._log, hopeless)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Read what is still there into the log, then close."""
        self._read_all()
        self._socket.close()
        self._log.close()

    def _read_all(self) -> None:
        """All that has come goes into the log. A console that is closed has done so."""
        if not self._log.closed:
            self._until(Deadline.after(0))
            self._expect([])

    def guest_spoke(self) -> bool:
        """Whether the guest has begun to speak since the last banner; reads all that has come."""
        self._read_all()
        since = re.split(BANNER, self.tail(_LATE_BYTES))[-1] or ""
        begun = re.split("[\r\n]", since)[-1]  # it may have left in the middle of its word
        return WORD in since or (begun != "" and WORD.startswith(begun))

    def fileno(self) -> int:
        """The connection's number, for those who wait for it."""
        return self._socket.fileno()

    def skip(self) -> bool:
        """Let go of all that was said so far, which only the log has then; False: it has ended.

        While a machine stands still at a reset, what comes afterwards is all of the next boot.
        """
        return self._spawn.skip()

    def wait_for_banner(self, deadline: Deadline) -> str | None:
        """Wait for a firmware banner and return its version; None if it does not come."""
        self._until(deadline)
        return self._version() if self._expect([BANNER_IN_BYTES]) == 0 else None

    def wait_for_boot(
        self,
        deadline: Deadline,
        banners: tuple[str, ...] = (),
        given_up: Callable[[], bool] = _never,
    ) -> BootSeen:
        """Wait for banner and probe line of one boot, in the order in which they come.

        ``banners`` are those that were read from this boot before. ``given_up`` is asked now and
        then, where nothing comes or the same again: whether it is not to be waited for. What was
        said before the boot must have been skipped: a guest that is about to be reset prints what
        it likes, a banner to pose as firmware or the line of a guest that is up.
        """
        self._until(deadline)
        self._spawn.spoke = False
        self._spawn.given_up = given_up
        try:
            return self._boot(list(banners))
        finally:
            self._spawn.given_up = _never

    def _boot(self, seen: list[str]) -> BootSeen:
        while True:
            found = self._expect([BANNER_IN_BYTES, self._up or _PROBE, _PANIC])
            if found == 2:
                panic = _text(self._spawn.match.group(1))
                return BootSeen(tuple(seen), None, ended=False, spoke=True, panic=panic)
            if found == 1 and self._up:
                up = ProbeLine("up", foreign=True, bios_version=self._smbios_version())
                return BootSeen(tuple(seen), up, ended=False, spoke=True)
            if found == 0:
                version = self._version()
                if len(seen) < BANNERS or (version not in seen and len(seen) < 2 * BANNERS):
                    seen.append(version)
                    continue
                self.cut += 1
                if not self._spawn.given_up():
                    continue
                found = -1
            line = parse_line(_text(self._spawn.match.group(1))) if found == 1 else None
            if line is not None and line.kind == "up":
                return BootSeen(tuple(seen), line, ended=False, spoke=True)
            if found != 1:
                return BootSeen(tuple(seen), None, ended=found is None, spoke=self._spawn.spoke)

    def _smbios_version(self) -> str | None:
        """What a guest that is not ours prints of SMBIOS, by a command in its shell; None: nothing.

        It is typed again and again by the deadline of the boot: who starts a shell can throw away
        what was typed before.
        """
        if not self._guest.smbios:
            return None
        deadline, nonce = self._spawn.deadline, str(secrets.randbelow(10**9) + 10**9)
        # The shell computes the number, so that an echo of what was typed is no answer.
        command = f'echo "=$(({nonce}+0))=$({self._guest.smbios} 2>&1)="\r'.encode()
        answer = rf"={nonce}=([^\r\n=]{{0,{BANNER_LENGTH}}})[\r\n=]".encode()
        patterns = [Pattern(pattern) for pattern, _ in self._guest.login]
        version: str | None = None
        sent = self.send(_ENTER if patterns else command)
        while sent and version is None:
            self._until(deadline.sooner(_TYPE_AGAIN_SECONDS))
            found = self._expect([answer, *patterns])
            if found == 0:
                version = _text(self._spawn.match.group(1)).strip()
            elif found is None or deadline.expired:  # also of one that asks for ever
                break
            elif found < 0:
                sent = self.send(command)
            else:
                sent = self.send(self._guest.login[found - 1][1].encode() + _ENTER)
                if sent and found == len(patterns):
                    sent = self.send(command)
        self._until(deadline)
        if version is not None and patterns and self._up:  # it is to be as it was
            self.send(b"exit\r")
            self._expect([self._up])
        return version

    def hear(self, kind: str, deadline: Deadline) -> ProbeLine | None:
        """Wait for a line of that kind, which the guest says by itself; None if it does not."""
        self._until(deadline)
        while self._heard(_PROBE):
            line = parse_line(_text(self._spawn.match.group(1)))
            if line is not None and line.kind == kind:
                return line
        return None

    def _heard(self, pattern: bytes | Pattern) -> bool:
        """Wait for a pattern; False: it does not come, or will not after a panic."""
        found = self._expect([pattern, _PANIC])
        if found == 1:
            self.panic = _text(self._spawn.match.group(1))
        return found == 0

    def ask(self, deadline: Deadline) -> ProbeLine | None:
        """Ask the running guest how it is; None if it does not answer."""
        if self._up:
            self.skip()  # what it has said before nobody had asked for
            self._until(deadline)
            answered = self._typed(deadline) and self._heard(self._up)
            return ProbeLine("here", foreign=True) if answered else None
        return self.tell(b"?", "here", deadline)

    def _typed(self, deadline: Deadline) -> bool:
        """Type what has a guest that is not ours say its word again; False: it does not listen.

        s390-ccw looks at the first key of what has come and forgets the others: its echo is waited
        for before the next one.
        """
        if self._guest is GuestKind.PROMPT:
            if not (self.send(_SPACE) and self._heard(_SPACE)):
                return False
            self._until(deadline.sooner(_ECHO_SECONDS))
            self._expect([])
            self._until(deadline)
        return self.send(_ENTER)

    def tell(
        self,
        key: bytes,
        kind: str,
        deadline: Deadline,
        progress: Callable[[int], None] = lambda at: None,
    ) -> ProbeLine | None:
        """Send the guest a command; its line of that kind, None if it falls silent.

        The line must repeat a nonce that is typed before the command: what a guest can have said
        before it was asked is no answer. ``progress`` is called with what lines before it say of
        how far it is, in bytes.
        """
        nonce = f"{secrets.randbelow(10**_NONCE_DIGITS):0{_NONCE_DIGITS}}"
        if not self.send(_FORGET + nonce.encode() + key):
            return None
        self._until(deadline)
        while self._heard(_PROBE):
            line = parse_line(_text(self._spawn.match.group(1)))
            if line is None or line.nonce != nonce:
                continue
            if line.kind == kind:
                return line
            if line.at is not None:
                progress(line.at)
        return None

    def send(self, data: bytes) -> bool:
        """Type something at the guest. False: nobody is there any more, or nobody reads it."""
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        try:
            while data:
                if not poll.poll(_UNREAD_SECONDS * 1000):
                    return False
                data = data[self._socket.send(data, socket.MSG_DONTWAIT):]
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

    def _version(self) -> str:
        """The version in the banner that was found."""
        return _text(version_in(self._spawn.match))[:BANNER_LENGTH]

    def _until(self, deadline: Deadline) -> None:
        """The deadline of all that is expected from now on."""
        self._spawn.deadline = deadline
        self._spawn.late = _LATE_BYTES

    def _expect(self, patterns: Sequence[bytes | Pattern | Alternatives[bytes]]) -> int | None:
        """Index of the pattern found first; -1: not in time; None: the console ended."""
        if self._log.closed:
            raise HarnessError("this console is closed")
        compiled = [re.compile(one, re.DOTALL) if isinstance(one, bytes) else one
                    for one in patterns]
        found: int = self._spawn.expect_list(
            [*compiled, pexpect.TIMEOUT, pexpect.EOF], timeout=None)
        if found == len(patterns):
            return -1
        return None if found > len(patterns) else found


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
