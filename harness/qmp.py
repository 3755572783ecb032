"""The monitor of one QEMU: qemu.qmp's client, wrapped once, with every event kept."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from qemu.qmp import ExecuteError, Message, QMPClient, Runstate
from qemu.qmp.error import QMPError

from harness import reactor
from harness.deadline import Deadline
from harness.errors import MonitorError

# The library logs every lost connection as an error with a traceback. Losing it is normal here
# (QEMU quits), and what is not is raised as MonitorError.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True)
class Event:
    """One monitor event: its name, its data, and when it was read (seconds, monotonic)."""

    name: str
    data: Mapping[str, Any]
    at: float


class _Client(QMPClient):
    """The library's client, for guests that reset at once and for ever.

    Then events come before the answer to ``qmp_capabilities``, which the library takes for a
    broken negotiation. They tell nothing that the later ones do not.
    """

    async def _do_recv(self) -> Message:
        message = await super()._do_recv()
        while self.runstate is Runstate.CONNECTING and "event" in message:
            message = await super()._do_recv()
        return message


class Monitor:
    """A QMP session on a socket that QEMU has connected to."""

    def __init__(self, sock: socket.socket, name: str, deadline: Deadline) -> None:
        self._client = _Client(name)
        self._name = name
        self._events: list[Event] = []
        self._changed: asyncio.Condition
        self._lost = False
        self._collector: asyncio.Task[None] | None = None
        try:
            reactor.call(self._open(sock), deadline, f"monitor greeting of {name}")
        except (QMPError, OSError, EOFError) as error:
            raise MonitorError(f"{name}: no monitor session: {error}") from error

    async def _open(self, sock: socket.socket) -> None:
        self._changed = asyncio.Condition()
        await self._client.connect(sock)
        self._collector = asyncio.create_task(self._collect())

    async def _collect(self) -> None:
        watcher = asyncio.create_task(self._watch())
        try:
            async for message in self._client.events:
                async with self._changed:
                    data = message.get("data")
                    self._events.append(
                        Event(
                            name=str(message["event"]),
                            data=data if isinstance(data, Mapping) else {},
                            at=time.monotonic(),
                        )
                    )
                    self._changed.notify_all()
        finally:
            watcher.cancel()

    async def _watch(self) -> None:
        # Leaves RUNNING when QEMU goes away, expected or not: whoever waits must learn of it.
        await self._client.runstate_changed()
        while not self._client.events.empty():
            await asyncio.sleep(0)  # let the collector take what QEMU said before it went
        async with self._changed:
            self._lost = True
            self._changed.notify_all()

    @property
    def lost(self) -> bool:
        """Whether QEMU has gone away."""
        return self._lost

    async def ask(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """``execute`` for those who already run in the reactor's loop."""
        try:
            return await self._client.execute(command, dict(arguments) if arguments else None)
        except ExecuteError as error:
            raise MonitorError(f"{self._name}: {command}: {error}") from error
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
    ) -> Any:
        """Run a QMP command, return its result. Raises MonitorError if QEMU refuses it."""
        return reactor.call(self.ask(command, arguments), deadline, f"{self._name}: {command}")

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
        return len(self._events)

    def seen(self, name: str, since: int = 0) -> bool:
        """Whether an event of that name has come since the mark."""
        return any(event.name == name for event in self._events[since:])

    async def until(
        self, *names: str, since: int = 0, wanted: Callable[[Event], bool] = lambda _: True
    ) -> Event:
        """``wait`` for those who already run in the reactor's loop."""
        async with self._changed:
            while True:
                for event in self._events[since:]:
                    if event.name in names and wanted(event):
                        return event
                if self._lost:
                    raise MonitorError(f"{self._name}: QEMU went away before {' or '.join(names)}")
                await self._changed.wait()

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
        """End the session; QEMU itself is left alone."""

        async def shut() -> None:
            if self._collector is not None:
                self._collector.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._collector
            with contextlib.suppress(QMPError, OSError, EOFError):
                await self._client.disconnect()

        reactor.call(shut(), deadline, f"{self._name}: closing the monitor")
