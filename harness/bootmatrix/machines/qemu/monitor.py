"""The monitor of one QEMU: qemu.qmp's client, wrapped once, with the latest events kept."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from qemu.qmp import ExecuteError, Message, QMPClient, Runstate
from qemu.qmp.error import ProtocolError, QMPError

from bootmatrix.deadline import Deadline
from bootmatrix.errors import MonitorError
from bootmatrix.machines.qemu import reactor

# The library logs every lost connection as an error with a traceback. Losing it is normal here
# (QEMU quits), and what is not is raised as MonitorError.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL + 1)


MOST_EVENTS = 1000
"""How many events are remembered, the latest. A guest that resets for ever makes thousands."""

EVENT_BYTES = 4096
"""The longest event whose data are kept. QEMU's own have some hundred bytes."""

_ERROR_LENGTH = 2000
# The longest line that is heard: QEMU's own have some 1.4 MB, the firmware's debug log in base64.
_LINE_BYTES = 4 << 20
# To close a session takes a millisecond; one with a QEMU that does not read has no end.
_CLOSE_SECONDS = 1.0


@dataclass(frozen=True)
class Event:
    """One monitor event: its name, its data, and when it was read (seconds, monotonic)."""

    name: str
    data: Mapping[str, Any]
    at: float


class _Client(QMPClient):
    """The library's client, for guests that reset at once and for ever, and QEMUs that do harm.

    Of the former events come before the answer to ``qmp_capabilities``, which the library takes for
    a broken negotiation. They tell nothing that the later ones do not.

    Nothing is made of a message but what it holds. The library lays each out over many lines for
    its log, whether that is kept or not: of two megabytes, nested deep, that makes gigabytes.
    """

    async def _do_recv(self) -> Message:
        # Who has taken what was read before goes first, so that nothing heaps up.
        await asyncio.sleep(0)
        message = await self._receive()
        while self.runstate is Runstate.CONNECTING and "event" in message:
            message = await self._receive()
        return message

    async def _receive(self) -> Message:
        line = await self._readline()
        try:
            message = Message(line)
            # Half of a surrogate pair is no text: no file takes it.
            json.dumps(dict(message), ensure_ascii=False).encode()
            return message
        except (ProtocolError, ValueError, RecursionError):
            raise ProtocolError("what it said is no JSON object") from None

    def _cb_inbound(self, msg: Message) -> Message:
        return msg

    def _cb_outbound(self, msg: Message) -> Message:
        return msg

    async def _on_message(self, msg: Message) -> None:
        if "event" in msg or msg.get("id") in self._pending:
            await super()._on_message(msg)
        elif "error" in msg and "id" not in msg:
            raise ProtocolError("it has not understood a command")
        # Others answer nothing that was asked.

    def abort(self) -> None:
        """Close the connection at once, whatever is on its way."""
        if self._writer is not None:
            self._writer.transport.abort()


class Monitor:
    """A QMP session on a socket that QEMU has connected to.

    ``cut`` counts the events that were forgotten, or whose data were too long to be kept;
    ``resets`` all events of that name.
    """

    def __init__(self, sock: socket.socket, name: str, deadline: Deadline) -> None:
        self._client = _Client(name, _LINE_BYTES)
        self._name = name
        self._events: deque[tuple[int, Event]] = deque(maxlen=MOST_EVENTS)
        self._count = 0
        self.cut = 0
        self.resets = 0
        self._changed: asyncio.Event
        self._lost = False
        self._watcher: asyncio.Task[None] | None = None
        try:
            reactor.call(self._open(sock), deadline, f"monitor greeting of {name}")
        except (QMPError, OSError, EOFError) as error:
            raise MonitorError(f"{name}: no monitor session: {error}") from error

    async def _open(self, sock: socket.socket) -> None:
        self._changed = asyncio.Event()
        self._client.events.event_filter = self._take
        await self._client.connect(sock)
        self._watcher = reactor.heard(asyncio.create_task(self._watch()))

    def _take(self, message: Message) -> bool:
        """Keep an event; False: the library is to keep none, which would keep all for ever."""
        self._keep(message)
        self._tell()
        return False

    def _tell(self) -> None:
        """Wake up all who wait for something new."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _keep(self, message: Message) -> None:
        data = message.get("data")
        long = len(bytes(message)) > EVENT_BYTES
        self.cut += long or len(self._events) == MOST_EVENTS
        event = Event(
            name=str(message["event"])[:EVENT_BYTES],
            data=data if isinstance(data, Mapping) and not long else {},
            at=time.monotonic(),
        )
        self._events.append((self._count, event))
        self._count += 1
        self.resets += event.name == "RESET"

    def _since(self, mark: int) -> list[Event]:
        """The events since a mark that are still remembered."""
        return [event for number, event in list(self._events) if number >= mark]

    async def _watch(self) -> None:
        # Leaves RUNNING when QEMU goes away, expected or not: whoever waits must learn of it.
        await self._client.runstate_changed()
        self._lost = True
        self._tell()

    @property
    def lost(self) -> bool:
        """Whether QEMU has gone away."""
        return self._lost

    async def ask(
        self, command: str, arguments: Mapping[str, Any] | None = None, *, at_once: bool = False
    ) -> Any:
        """``execute`` for those who already run in the reactor's loop."""
        try:
            return await self._client.execute(
                command, dict(arguments) if arguments else None, oob=at_once)
        except ExecuteError as error:
            words = str(error)[:_ERROR_LENGTH]
            raise MonitorError(f"{self._name}: {command}: {words}") from error
        except (QMPError, asyncio.CancelledError, EOFError, OSError) as error:
            if isinstance(error, asyncio.CancelledError) and not self._lost:
                raise
            raise MonitorError(f"{self._name}: {command}: the monitor is gone") from error

    def execute(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        deadline: Deadline,
        at_once: bool = False,
    ) -> Any:
        """Run a QMP command, return its result. Raises MonitorError if QEMU refuses it.

        ``at_once``: out of band, whatever else QEMU is at; not every command can.
        """
        return reactor.call(self.ask(command, arguments, at_once=at_once), deadline,
                            f"{self._name}: {command}")

    def execute_with_fd(
        self, command: str, arguments: Mapping[str, Any], fd: int, *, deadline: Deadline
    ) -> Any:
        """Run a QMP command that takes a file descriptor (``getfd``), passed by SCM_RIGHTS."""

        async def send() -> Any:
            self._client.send_fd_scm(fd)
            return await self.ask(command, arguments)

        return reactor.call(send(), deadline, f"{self._name}: {command}")

    def mark(self) -> int:
        """A point in the event history; pass it to ``wait`` and ``seen`` as ``since``."""
        return self._count

    def seen(self, name: str, since: int = 0) -> bool:
        """Whether an event of that name has come since the mark."""
        return any(event.name == name for event in self._since(since))

    def times(self, name: str, since: float) -> int:
        """How often an event of that name is remembered to have come since a time (monotonic)."""
        return sum(event.name == name and event.at >= since for event in self._since(0))

    def remembers(self, since: float) -> bool:
        """Whether it still has all events that have come since a time (monotonic)."""
        return len(self._events) < MOST_EVENTS or self._events[0][1].at < since

    def latest(self, *names: str) -> str | None:
        """The name of the last event that has one of these, of those that are remembered."""
        return next((e.name for e in reversed(self._since(0)) if e.name in names), None)

    def run_state(self, deadline: Deadline) -> str:
        """Whether the guest runs, in QEMU's word: ``running``, ``paused``, ``internal-error``.

        Raises MonitorError and DeadlineExceeded.
        """
        return reactor.call(self.state(), deadline, f"{self._name}: query-status")

    async def state(self) -> str:
        """``run_state`` for those who already run in the reactor's loop."""
        answer = await self.ask("query-status")
        status = answer.get("status") if isinstance(answer, Mapping) else None
        return status if isinstance(status, str) else ""

    async def until(
        self, *names: str, since: int = 0, wanted: Callable[[Event], bool] = lambda _: True
    ) -> Event:
        """``wait`` for those who already run in the reactor's loop."""
        while True:
            changed = self._changed
            for event in self._since(since):
                if event.name in names and wanted(event):
                    return event
            if self._lost:
                raise MonitorError(f"{self._name}: QEMU went away before {' or '.join(names)}")
            await changed.wait()

    def wait(self, *names: str, since: int = 0, deadline: Deadline, **data: Any) -> Event:
        """The first event since the mark that has one of the names and the given data values.

        A data value may be a tuple of accepted values. Raises MonitorError when QEMU goes away
        before, DeadlineExceeded when it takes too long.
        """

        def wanted(event: Event) -> bool:
            return all(
                event.data.get(key) in (value if isinstance(value, tuple) else (value,))
                for key, value in data.items()
            )

        waiting = self.until(*names, since=since, wanted=wanted)
        return reactor.call(waiting, deadline, f"{self._name}: event {' or '.join(names)}")

    def close(self, deadline: Deadline) -> None:
        """End the session; QEMU itself is left alone, and need not listen any more."""

        async def shut() -> None:
            if self._watcher is not None:
                self._watcher.cancel()
            # It raises what ended the session, if something has: also what the library did not
            # expect, such as a line without an end or an answer to an unhashable id.
            with contextlib.suppress(Exception):
                closing = reactor.heard(asyncio.create_task(self._client.disconnect()))
                if not (await asyncio.wait([closing], timeout=_CLOSE_SECONDS))[0]:
                    self._client.abort()  # what was sent is not read, and would be waited for
                await closing

        reactor.call(shut(), deadline, f"{self._name}: closing the monitor")
