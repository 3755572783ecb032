"""A gdb stub as QEMU's is, on a socket: memory, a hardware breakpoint, and a log of what was asked.

GDB manual, appendix "GDB Remote Serial Protocol".
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress


class GdbStub:
    """Answers packets in a thread of its own, until the other side hangs up.

    ``refuses`` are beginnings of packets that it answers with an error. ``resumed`` is called
    when the machine is let run, in the stub's thread.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.memory: dict[int, bytes] = {}
        self.breakpoints: set[int] = set()
        self.asked: list[bytes] = []
        self.refuses: tuple[bytes, ...] = ()
        self.resumed: Callable[[], None] = lambda: None
        self._sock = sock
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until the other side has hung up."""
        self._thread.join()

    def say(self, payload: bytes) -> None:
        """A packet, asked for or not."""
        self._sock.sendall(b"+$%s#%02x" % (payload, sum(payload) & 0xFF))

    def written(self, address: int, size: int) -> bytes:
        """What has been written there; what nobody has written is zero."""
        found = bytearray(size)
        for at, data in self.memory.items():
            for offset, byte in enumerate(data, at - address):
                if 0 <= offset < size:
                    found[offset] = byte
        return bytes(found)

    def _serve(self) -> None:
        # Who hangs up does not read all that was answered.
        with self._sock, self._sock.makefile("rb") as stream, suppress(ConnectionError):
            while first := stream.read(1):
                if first == b"$":
                    payload = b""
                    while (byte := stream.read(1)) not in (b"#", b""):
                        payload += byte
                    checksum = stream.read(2)
                    assert int(checksum, 16) == sum(payload) & 0xFF
                    self._answer(payload)

    def _answer(self, payload: bytes) -> None:
        self.asked.append(payload)
        kind, rest = payload[:1], payload[1:]
        if payload.startswith(self.refuses) and self.refuses:
            self.say(b"E22")
        elif kind in b"Zz":
            change = self.breakpoints.add if kind == b"Z" else self.breakpoints.discard
            change(int(rest.split(b",")[1], 16))
            self.say(b"OK")
        elif kind == b"M":
            place, data = rest.split(b":")
            address, size = (int(number, 16) for number in place.split(b","))
            content = bytes.fromhex(data.decode())
            assert len(content) == size
            self.memory[address] = content
            self.say(b"OK")
        elif kind == b"s":
            self.say(b"T05thread:01;")
        elif kind == b"c":
            self.resumed()
