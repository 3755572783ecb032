"""Move a running guest from one QEMU to another, and find out who refused if it cannot be."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from harness.deadline import Deadline
from harness.errors import DeadlineExceeded, MonitorError
from harness.model import Channel
from harness.refusals import Refusal, classify
from harness.vm import LAST_WORDS_SECONDS, VM

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
    if channel is Channel.FILE:
        path = destination.directory / "migration-stream"
        saved = save(source, path, deadline)
        if saved.refusal is not None:
            return saved
        restored = restore(destination, path, deadline)
        return Migration(restored.refusal, saved.seconds + restored.seconds)

    def live() -> Refusal | None:
        from_source, from_destination = _prepare(source, deadline), _prepare(destination, deadline)
        with _connected(source, destination, channel, deadline) as uri:
            destination.monitor.execute("migrate-incoming", {"uri": uri}, deadline=deadline)
            source.monitor.execute("migrate", {"uri": uri}, deadline=deadline)
            return _outcome(destination, from_destination, deadline) or _outcome(
                source, from_source, deadline
            )

    return _attempt((destination, source), live, deadline)


def save(source: VM, path: Path, deadline: Deadline) -> Migration:
    """Write a guest's migration stream to a file of the harness's; the source then stands still.

    What libvirt's managed save does: QEMU writes to a pipe, a helper keeps it. (QEMU's own
    ``file:`` needs 8.2, and ``fd:`` of a plain file is deprecated since 9.1.)
    """

    def keep() -> Refusal | None:
        theirs, ours = socket.socketpair()
        writer = Thread(target=_receive, args=(ours, path), name="save", daemon=True)
        writer.start()
        complete = False
        try:
            since = _prepare(source, deadline)
            uri = _give(source, theirs, deadline)
            source.monitor.execute("migrate", {"uri": uri}, deadline=deadline)
            refusal = _outcome(source, since, deadline)
            complete = refusal is None
            return refusal
        finally:
            # QEMU closes its end of a stream that is complete, and may keep that of another.
            _end(ours, writer, deadline, abandon=not complete)

    return _attempt((source,), keep, deadline)


def restore(destination: VM, path: Path, deadline: Deadline) -> Migration:
    """Feed a saved migration stream to a QEMU that was launched as incoming."""

    def load() -> Refusal | None:
        theirs, ours = socket.socketpair()
        reader = Thread(target=_send, args=(ours, path), name="restore", daemon=True)
        reader.start()
        try:
            since = _prepare(destination, deadline)
            uri = _give(destination, theirs, deadline)
            destination.monitor.execute("migrate-incoming", {"uri": uri}, deadline=deadline)
            return _outcome(destination, since, deadline)
        finally:
            _end(ours, reader, deadline, abandon=True)

    return _attempt((destination,), load, deadline)


def _attempt(
    vms: Sequence[VM], work: Callable[[], Refusal | None], deadline: Deadline
) -> Migration:
    """Do it, and find the reason if it is refused; ``vms`` in the order of who knows best."""
    started = time.monotonic()
    try:
        refusal = work()
    except MonitorError as error:
        refusal = classify(f"qemu-system-x86_64: {error.message}")
    if refusal is not None and refusal.kind == "other":
        refusal = _last_words(vms, deadline, refusal)
    return Migration(refusal, time.monotonic() - started)


def _prepare(vm: VM, deadline: Deadline) -> int:
    """Have migration events told, at full speed; the mark from which on they count."""
    events = {"capabilities": [{"capability": "events", "state": True}]}
    vm.monitor.execute("migrate-set-capabilities", events, deadline=deadline)
    vm.monitor.execute("migrate-set-parameters", {"max-bandwidth": _BANDWIDTH}, deadline=deadline)
    return vm.monitor.mark()


@contextlib.contextmanager
def _connected(
    source: VM, destination: VM, channel: Channel, deadline: Deadline
) -> Iterator[str]:
    """The URI that both sides are given."""
    if channel is Channel.UNIX:
        # QEMU's own: the destination listens, the source connects.
        try:
            yield f"unix:{destination.inside}/migration.sock"
        finally:
            (destination.directory / "migration.sock").unlink(missing_ok=True)
        return
    # The sandboxes have no network. The harness makes the connection and gives each its end.
    ends = _tcp_pair()
    for vm, end in zip((source, destination), ends, strict=True):
        uri = _give(vm, end, deadline)
    yield uri


def _give(vm: VM, end: socket.socket, deadline: Deadline) -> str:
    """Pass QEMU one end of a connection (getfd, by SCM_RIGHTS), which is closed here."""
    with end:
        vm.monitor.execute_with_fd(
            "getfd", {"fdname": "migration"}, end.fileno(), deadline=deadline
        )
    return "fd:migration"


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        return client, server.accept()[0]


def _receive(sock: socket.socket, path: Path) -> None:
    with path.open("wb") as file:
        while data := sock.recv(_COPY_BYTES):
            file.write(data)


def _send(sock: socket.socket, path: Path) -> None:
    # A destination that refuses the stream closes it early.
    with path.open("rb") as file, contextlib.suppress(OSError):
        sock.sendfile(file)
        sock.shutdown(socket.SHUT_WR)


def _end(sock: socket.socket, copier: Thread, deadline: Deadline, abandon: bool = False) -> None:
    """Wait for a copying thread; ``abandon`` what it may still have to send."""
    if abandon:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
    copier.join(deadline.remaining)
    sock.close()


def _outcome(vm: VM, since: int, deadline: Deadline) -> Refusal | None:
    event = vm.monitor.wait(
        "MIGRATION", since=since, deadline=deadline, status=("completed", "failed", "cancelled")
    )
    if event.data["status"] == "completed":
        return None
    info = vm.monitor.execute("query-migrate", deadline=deadline)
    return classify(f"qemu-system-x86_64: {info.get('error-desc') or event.data['status']}")


def _last_words(vms: Sequence[VM], deadline: Deadline, otherwise: Refusal) -> Refusal:
    """The classified reason from the logs; the side that fails first often only sees the other go.

    A QEMU that could not load a stream ends by itself; its log is complete then.
    """
    for vm in vms:
        with contextlib.suppress(DeadlineExceeded):
            vm.process.wait(deadline.sooner(LAST_WORDS_SECONDS))
        refusal = classify(vm.log_tail())
        if refusal.kind != "other" or refusal.message != "no reason given":
            return refusal
    for vm in vms:
        if status := vm.process.poll():
            return Refusal("other", f"{vm.name}: QEMU ended, exit status {status}")
    return otherwise
