"""By a file of the harness's, as libvirt's managed save: saved whole, then restored.

QEMU writes to a pipe, a helper keeps it. (QEMU's own ``file:`` needs 8.2, and ``fd:`` of a plain
file is deprecated since 9.1.)
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from threading import Thread

from bootmatrix.deadline import Deadline
from bootmatrix.machines.qemu.migration.base import Migration, attempt, give, outcome, prepare
from bootmatrix.machines.qemu.process import VM
from bootmatrix.model import MigrationMode
from bootmatrix.modes import MODES, Mode
from bootmatrix.witnesses.refusal import Refusal

_COPY_BYTES = 1 << 20
_PLAIN = MODES[MigrationMode.PRECOPY]
# A stream holds the guest's memory, of which the largest guest has 256 MiB, and what changed in it
# meanwhile. One without an end is cut off, which is an end of the migration.
_STREAM_BYTES = 1 << 30


def migrate(source: VM, destination: VM, mode: Mode, deadline: Deadline) -> Migration:
    """Save to a file of the destination's, and restore from it."""
    path = destination.private / "migration-stream"
    saved = save(source, path, deadline, mode)
    if saved.refusal is not None:
        return saved
    restored = restore(destination, path, deadline, mode)
    return Migration(restored.refusal, saved.seconds + restored.seconds)


def save(source: VM, path: Path, deadline: Deadline, mode: Mode = _PLAIN) -> Migration:
    """Write a guest's migration stream to a file of the harness's; the source then stands still."""

    def keep() -> Refusal | None:
        theirs, ours = socket.socketpair()
        writer = _Copier(_receive, ours, path)
        complete = False
        try:
            since = prepare(source, mode, deadline, mode.source)
            uri = give(source, theirs, deadline)
            source.monitor.execute("migrate", {"uri": uri}, deadline=deadline)
            refusal = outcome(source, since, deadline)
            complete = refusal is None
            return refusal
        finally:
            # QEMU closes its end of a stream that is complete, and may keep that of another.
            _end(ours, writer, deadline, abandon=not complete)

    return attempt((source,), keep, deadline)


def restore(
    destination: VM, path: Path, deadline: Deadline, mode: Mode = _PLAIN
) -> Migration:
    """Feed a saved migration stream to a QEMU that was launched as incoming."""

    def load() -> Refusal | None:
        theirs, ours = socket.socketpair()
        reader = _Copier(_send, ours, path)
        try:
            since = prepare(destination, mode, deadline, mode.destination)
            uri = give(destination, theirs, deadline)
            destination.monitor.execute("migrate-incoming", {"uri": uri}, deadline=deadline)
            return outcome(destination, since, deadline)
        finally:
            _end(ours, reader, deadline, abandon=True)

    return attempt((destination,), load, deadline)


class _Copier(Thread):
    """A thread that copies between a file and a socket of ours; ``failure`` is the file's."""

    def __init__(
        self, copy: Callable[[socket.socket, Path], None], sock: socket.socket, path: Path
    ) -> None:
        super().__init__(name=copy.__name__, daemon=True)
        self._copy, self._sock, self._path = copy, sock, path
        self.failure: OSError | None = None
        self.start()

    def run(self) -> None:
        try:
            self._copy(self._sock, self._path)
        except OSError as error:
            self.failure = error
            with contextlib.suppress(OSError):  # QEMU is not to wait for us
                self._sock.shutdown(socket.SHUT_RDWR)


def _receive(sock: socket.socket, path: Path) -> None:
    left = _STREAM_BYTES
    with path.open("wb") as file, contextlib.suppress(ConnectionError):
        while data := sock.recv(_COPY_BYTES):
            left -= len(data)
            if left < 0:
                sock.shutdown(socket.SHUT_RDWR)
                return
            file.write(data)


def _send(sock: socket.socket, path: Path) -> None:
    # A destination that refuses the stream closes it early.
    with path.open("rb") as file, contextlib.suppress(OSError):
        sock.sendfile(file)
        sock.shutdown(socket.SHUT_WR)


def _end(sock: socket.socket, copier: _Copier, deadline: Deadline, abandon: bool = False) -> None:
    """Wait for a copying thread; ``abandon`` what it may still have to send.

    Raises OSError where the disk has failed: then nothing is known about the stream.
    """
    if abandon:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
    while copier.is_alive() and not deadline.expired:
        copier.join(deadline.remaining)
    sock.close()
    if copier.failure is not None:
        raise copier.failure
