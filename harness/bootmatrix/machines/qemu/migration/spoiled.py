"""A stream that goes through the harness, which holds it back, cuts it off, or changes it.

QEMU's max-bandwidth makes no migration slow: it gives out what may be sent ten times a second, and
is heeded once 128 KiB have gone, so that a small guest has moved in less than a second. A stream
that nobody takes stays where it is.
"""

from __future__ import annotations

import contextlib
import select
import socket
from threading import Thread

from bootmatrix.deadline import Deadline
from bootmatrix.machines.qemu.migration.base import give
from bootmatrix.machines.qemu.process import VM

HOLD_AT = 48 << 10
"""Bytes after which a stream is held back: past its beginning, which QEMU sends while nothing else
in it can run, and before the end of the smallest guest's, as steps.migration_fails says of its cut.
"""
# QEMU's migration/savevm.c: magic, version, and then the configuration section, with a length
# before the name of the machine type, whose first letter this is.
_MACHINE_NAME = 13
_COPY_BYTES = 4096


class Relay(Thread):
    """Passes a stream on from one socket to another; ``passed`` is how many bytes have gone.

    It ends, and closes both, with the stream, with either side, or after ``cut_at`` bytes. After
    ``hold_at`` bytes it waits for ``release``. ``foreign``: the machine type in it is another one
    than the source's.
    """

    def __init__(
        self, source: socket.socket, destination: socket.socket, *, hold_at: int | None = None,
        cut_at: int | None = None, foreign: bool = False,
    ) -> None:
        super().__init__(name="relay", daemon=True)
        self._source, self._destination = source, destination
        self._hold_at, self._cut_at = hold_at, cut_at
        self._foreign = foreign
        self._released, self._tell = socket.socketpair()
        self.passed = 0

    def release(self) -> None:
        """Pass on the rest."""
        self._tell.close()

    def run(self) -> None:
        """Until one of its ends."""
        with self._source, self._destination, self._released, self._tell:
            with contextlib.suppress(OSError):
                while self._pass_on():
                    pass
            for end in (self._source, self._destination):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _pass_on(self) -> bool:
        held = self._hold_at is not None and self.passed >= self._hold_at
        awaited = self._released if held else self._source
        ready, _, _ = select.select([awaited, self._destination], [], [])
        if self._destination in ready:
            return False  # it sends nothing, but its end
        if held:
            self._hold_at = None
            return True
        ends = [end - self.passed for end in (self._hold_at, self._cut_at) if end is not None]
        data = bytearray(self._source.recv(min([_COPY_BYTES, *ends])))
        at = _MACHINE_NAME - self.passed
        if self._foreign and 0 <= at < len(data):
            data[at] ^= 1
        self._destination.sendall(data)
        self.passed += len(data)
        return bool(data) and self.passed != self._cut_at


def relay(
    source: VM, destination: VM, deadline: Deadline, *, hold_at: int | None = None,
    cut_at: int | None = None, foreign: bool = False,
) -> tuple[str, Relay]:
    """The URI for both QEMUs of a relay between them, which has begun."""
    (ours, theirs), (to_destination, its) = socket.socketpair(), socket.socketpair()
    # What lies in a socket is as good as gone for its sender: not more than the kernel's least.
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    made = Relay(ours, to_destination, hold_at=hold_at, cut_at=cut_at, foreign=foreign)
    made.start()
    try:
        give(source, theirs, deadline)
        return give(destination, its, deadline), made
    except BaseException:
        its.close()
        raise
