"""A client of QEMU's qtest socket: port and memory accesses from outside a guest, pipelined.

Protocol: QEMU's system/qtest.c, "QTest Protocol": one line a request, one line an answer, in
order. Works beside any accelerator; with ``-S`` nothing else touches the machine.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import select
import socket
from collections import deque
from collections.abc import Callable
from typing import Self

from bootmatrix.deadline import Deadline
from bootmatrix.errors import QtestError

_CHUNK = 1 << 16
# Requests that are queued before they are sent without being asked for: it bounds memory.
_QUEUE = 1 << 14
# The longest answer that is heard: many times that of the largest item in fw_cfg.
_ANSWER = 64 << 20


class Qtest:
    """A session on a socket that QEMU has connected to; it owns the socket.

    A method that reads returns a function that gives the value. Requests are queued until the
    first value is wanted, or ``flush``; then all go out at once, and the answers are taken as
    they come. So a thousand reads cost one wait, if their values are asked for afterwards.

    ``requests`` counts requests answered, which is what a guest would have trapped for;
    ``waits`` counts how often the client had to wait for QEMU.

    All methods raise QtestError when QEMU refuses a request or the connection ends, and
    DeadlineExceeded when ``deadline``, the session's, has passed.
    """

    def __init__(self, sock: socket.socket, name: str, deadline: Deadline) -> None:
        self._sock = sock
        self._sock.setblocking(False)
        self._name = name
        self._deadline = deadline
        self._out = bytearray()
        self._in = bytearray()
        self._asked: deque[_Asked] = deque()
        self.requests = 0
        self.waits = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session; QEMU itself is left alone."""
        self._sock.close()

    def outb(self, port: int, value: int) -> None:
        """Write 8 bits to an I/O port."""
        self._ask(f"outb {port:#x} {value:#x}")

    def outw(self, port: int, value: int) -> None:
        """Write 16 bits, little-endian, to an I/O port."""
        self._ask(f"outw {port:#x} {value:#x}")

    def outl(self, port: int, value: int) -> None:
        """Write 32 bits, little-endian, to an I/O port."""
        self._ask(f"outl {port:#x} {value:#x}")

    def inb(self, port: int) -> Callable[[], int]:
        """Read 8 bits from an I/O port."""
        return self._ask_number(f"inb {port:#x}")

    def inl(self, port: int) -> Callable[[], int]:
        """Read 32 bits, little-endian, from an I/O port."""
        return self._ask_number(f"inl {port:#x}")

    def write(self, address: int, data: bytes) -> None:
        """Write guest physical memory."""
        if data:
            self._ask(f"write {address:#x} {len(data):#x} 0x{data.hex()}")

    def read(self, address: int, size: int) -> Callable[[], bytes]:
        """Read guest physical memory."""
        if not size:
            return lambda: b""
        asked = self._ask(f"b64read {address:#x} {size:#x}")

        def value() -> bytes:
            text = self._answer(asked)
            try:
                data = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                data = b""
            if len(data) != size:
                raise self._broken(f"{len(data)} bytes instead of {size} to {asked.request!r}")
            return data

        return value

    def flush(self) -> None:
        """Send what is queued and wait for all answers."""
        if self._asked:
            self.waits += 1
        while self._asked:
            self._move()

    def _ask(self, request: str) -> _Asked:
        if len(self._asked) >= _QUEUE:
            self.flush()
        asked = _Asked(request)
        self._asked.append(asked)
        self._out += request.encode("ascii") + b"\n"
        return asked

    def _ask_number(self, request: str) -> Callable[[], int]:
        asked = self._ask(request)

        def value() -> int:
            text = self._answer(asked)
            try:
                return int(text, 16)
            except ValueError:
                raise self._broken(f"{text!r} instead of a number to {request!r}") from None

        return value

    def _answer(self, asked: _Asked) -> str:
        if asked.answer is None:
            self.flush()
        if asked.answer is None:  # an earlier failure has taken the connection with it
            raise self._broken(f"no answer to {asked.request!r}")
        return asked.answer

    def _move(self) -> None:
        """Send and receive what can be, both, so that neither side's buffer fills up for good."""
        # Looked at each time: of a flood there is always something to read.
        request = self._asked[0].request[:60]
        self._deadline.check(f"{self._name}: qtest: an answer to {request!r}")
        poll = select.poll()
        poll.register(self._sock, select.POLLIN | (select.POLLOUT if self._out else 0))
        ready = sum(events for _, events in poll.poll(1000 * self._deadline.remaining))
        try:
            if ready & select.POLLOUT:
                del self._out[: self._sock.send(self._out)]
            received = self._sock.recv(_CHUNK) if ready & ~select.POLLOUT else None
        except OSError as error:
            raise self._broken(f"the connection broke: {error.strerror}") from error
        if received is None:
            return
        if not received:
            raise self._broken(f"the connection ended before an answer to {request!r}")
        self._in += received
        if len(self._in) > _ANSWER:
            raise self._broken(f"more than {_ANSWER >> 20} MiB for an answer to {request!r}")
        if b"\n" not in received:
            return
        *lines, rest = self._in.split(b"\n")
        self._in = bytearray(rest)
        for line in lines:
            self._take(bytes(line).decode("ascii", "replace").rstrip("\r"))

    def _take(self, line: str) -> None:
        if line.startswith("IRQ "):  # unasked, and of no interest
            return
        if not self._asked:
            raise self._broken(f"an answer that nobody asked for: {line[:60]!r}")
        asked = self._asked[0]
        word, _, rest = line.partition(" ")
        if word != "OK":
            raise self._broken(f"{line[:200]!r} to {asked.request[:60]!r}")
        self._asked.popleft()
        asked.answer = rest
        self.requests += 1

    def _broken(self, what: str) -> QtestError:
        # What is still queued can no longer be matched to its answers.
        self._asked.clear()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        return QtestError(f"{self._name}: qtest: {what}")


class _Asked:
    """A request and, once it is there, its answer."""

    __slots__ = ("answer", "request")

    def __init__(self, request: str) -> None:
        self.request = request
        self.answer: str | None = None
