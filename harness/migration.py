"""Move a running guest from one QEMU to another, and find out who refused if it cannot be."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from harness.deadline import Deadline
from harness.errors import MonitorError
from harness.model import Channel
from harness.refusals import Refusal, classify
from harness.vm import VM

# QEMU's default (128 MiB/s, and 32 MiB/s before 6.0) would make a copy within one machine
# a wait: no limit that matters.
_BANDWIDTH = 100 << 30
_COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class Migration:
    """What became of a migration; ``seconds`` from the request to the destination's word."""

    refusal: Refusal | None
    seconds: float


def migrate(source: VM, destination: VM, channel: Channel, deadline: Deadline) -> Migration:
    """Migrate live from ``source`` to ``destination``, which was launched as incoming.

    A refusal by either side is an answer, not an error. Afterwards the source stands still (or
    runs on, if it was refused): what to do with it is the caller's.
    """
    started = time.monotonic()
    events = {"capabilities": [{"capability": "events", "state": True}]}
    for vm in (destination, source):
        vm.monitor.execute("migrate-set-capabilities", events, deadline=deadline)
    source.monitor.execute(
        "migrate-set-parameters", {"max-bandwidth": _BANDWIDTH}, deadline=deadline
    )
    since = {vm.name: vm.monitor.mark() for vm in (source, destination)}
    with _connected(source, destination, channel, deadline) as stream:
        refusal = None
        try:
            if channel is Channel.FILE:  # the whole stream is kept before it is read again
                stream.send(deadline)
                refusal = _outcome(source, since[source.name], deadline)
            if refusal is None:
                stream.receive(deadline)
                if channel is not Channel.FILE:
                    stream.send(deadline)
                refusal = _outcome(destination, since[destination.name], deadline)
            if refusal is None and channel is not Channel.FILE:
                refusal = _outcome(source, since[source.name], deadline)
        except MonitorError as error:
            if source.alive and destination.alive:
                refusal = classify(f"qemu-system-x86_64: {error.message}")
            else:
                refusal = _last_words(source, destination, deadline)
    if refusal is not None and refusal.kind == "other":
        # The side that fails first often only sees the other one go; the reason is in its log.
        refusal = _last_words(source, destination, deadline, refusal)
    return Migration(refusal, time.monotonic() - started)


class _Stream:
    """The two ends of a migration stream, as the URIs that each side is given."""

    def __init__(self, source: VM, destination: VM, outgoing: str, incoming: str) -> None:
        self._source = source
        self._destination = destination
        self._outgoing = outgoing
        self._incoming = incoming

    def send(self, deadline: Deadline) -> None:
        self._source.monitor.execute("migrate", {"uri": self._outgoing}, deadline=deadline)

    def receive(self, deadline: Deadline) -> None:
        self._destination.monitor.execute(
            "migrate-incoming", {"uri": self._incoming}, deadline=deadline
        )


@contextlib.contextmanager
def _connected(
    source: VM, destination: VM, channel: Channel, deadline: Deadline
) -> Iterator[_Stream]:
    if channel is Channel.UNIX:
        # QEMU's own: the destination listens, the source connects.
        uri = f"unix:{destination.inside}/migration.sock"
        try:
            yield _Stream(source, destination, uri, uri)
        finally:
            (destination.directory / "migration.sock").unlink(missing_ok=True)
        return
    # The sandboxes have no network and share no file descriptor. The harness makes the
    # connection and passes each side its end over the monitor socket (getfd, SCM_RIGHTS).
    with contextlib.ExitStack() as stack:
        if channel is Channel.TCP:
            ends = _tcp_pair()
        else:
            ends = _file_pair(destination.directory / "migration-stream", stack, deadline)
        for vm, end in zip((source, destination), ends, strict=True):
            with end:
                vm.monitor.execute_with_fd(
                    "getfd", {"fdname": "migration"}, end.fileno(), deadline=deadline
                )
        yield _Stream(source, destination, "fd:migration", "fd:migration")


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        return client, server.accept()[0]


def _file_pair(
    path: Path, stack: contextlib.ExitStack, deadline: Deadline
) -> tuple[socket.socket, socket.socket]:
    """A stream that is written to a file whole, and then read from it.

    What libvirt's managed save does: QEMU writes to a pipe, a helper keeps it. (QEMU's own
    ``file:`` needs 8.2, and ``fd:`` of a plain file is gone again since 9.1.)
    """
    source, save = socket.socketpair()
    load, destination = socket.socketpair()

    def keep() -> None:
        with save, path.open("wb") as file:
            while data := save.recv(_COPY_BYTES):
                file.write(data)
        with load, path.open("rb") as file, contextlib.suppress(OSError):
            load.sendfile(file)  # a destination that refuses the stream closes it early
            load.shutdown(socket.SHUT_WR)

    keeper = Thread(target=keep, name="migration-stream", daemon=True)
    keeper.start()

    def stop() -> None:
        for end in (save, load):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        keeper.join(deadline.remaining)

    stack.callback(stop)
    return source, destination


def _outcome(vm: VM, since: int, deadline: Deadline) -> Refusal | None:
    event = vm.monitor.wait(
        "MIGRATION", since=since, deadline=deadline, status=("completed", "failed", "cancelled")
    )
    if event.data["status"] == "completed":
        return None
    info = vm.monitor.execute("query-migrate", deadline=deadline)
    return classify(f"qemu-system-x86_64: {info.get('error-desc') or event.data['status']}")


def _last_words(
    source: VM, destination: VM, deadline: Deadline, otherwise: Refusal | None = None
) -> Refusal:
    """The classified reason from the logs: the destination's first, it is the one that judges."""
    if not destination.monitor.lost and otherwise is not None:
        # It ends by itself after a stream it could not load; its log is complete then.
        with contextlib.suppress(Exception):
            destination.process.wait(deadline.sooner(1.0))
    for vm in (destination, source):
        if vm.monitor.lost:
            with contextlib.suppress(Exception):
                vm.process.wait(deadline.sooner(1.0))
        refusal = classify(vm.log_tail())
        if refusal.kind != "other" or refusal.message != "no reason given":
            return refusal
    return otherwise or Refusal("other", "no reason given")
