"""One QEMU process: launch, its connections, reset, its witnesses, its end."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from harness import identity
from harness.console import Console
from harness.deadline import Deadline
from harness.engines import Process, Sandbox
from harness.errors import DeadlineExceeded, HarnessError, MonitorError, QemuError
from harness.qmp import Monitor

# A QEMU that has not connected by then will not: it takes 25-45 ms.
LAUNCH_SECONDS = 30.0
QUIT_SECONDS = 10.0
LAST_WORDS_SECONDS = 2.0

# How often a QEMU that has not connected yet is asked whether it is still alive. Connections
# are events; a process's end is one too, but not one that both engines can show as a file.
_ALIVE_SECONDS = 0.05


class Qemu:
    """A QEMU process in a sandbox, and the sockets of ours that it connects to.

    ``directory`` (on the host) holds its sockets, named ``NAME.sock``, and its logs.
    """

    def __init__(
        self,
        name: str,
        sandbox: Sandbox,
        argv: tuple[str, ...],
        directory: Path,
        sockets: Sequence[str],
    ) -> None:
        self.name = name
        self.argv = argv
        self.directory = directory
        self.launched_at = time.monotonic()
        self._stack = contextlib.ExitStack()
        try:
            self._listeners = {
                kind: self._stack.enter_context(listen(directory / f"{kind}.sock"))
                for kind in sockets
            }
            self.process: Process = sandbox.launch(argv, directory / "qemu.log")
            self._stack.callback(self.process.kill)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, if it still runs, and all that belongs to it. Logs stay."""
        self._stack.close()

    def accept(self, listener: socket.socket, deadline: Deadline) -> socket.socket:
        """QEMU's connection to a socket of ours."""
        while not select.select([listener], [], [], min(_ALIVE_SECONDS, deadline.remaining))[0]:
            if self.process.poll() is not None:
                raise self.ended()
            deadline.check(f"{self.name}: QEMU's connection to {listener.getsockname()}")
        return listener.accept()[0]

    def connection(self, kind: str, deadline: Deadline) -> socket.socket:
        """QEMU's connection to the socket ``kind``."""
        return self.accept(self._listeners[kind], deadline)

    def ended(self) -> QemuError:
        """The error for a QEMU that has ended too early, with its last words."""
        # It has closed a connection; its last words and its status come a moment later.
        self.outlives(Deadline.after(LAST_WORDS_SECONDS))
        return QemuError(
            f"{self.name}: QEMU ended before it was ready",
            argv=self.argv,
            status=self.process.poll(),
            tail=self.log_tail(),
        )

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def outlives(self, deadline: Deadline) -> bool:
        """Whether the process still runs at the deadline; waits for its end until then."""
        with contextlib.suppress(DeadlineExceeded):
            self.process.wait(deadline)
        return self.alive

    def log_tail(self, limit: int = 4000) -> str:
        """The last ``limit`` bytes of what QEMU wrote to stdout and stderr."""
        log = self.directory / "qemu.log"
        if not log.exists():
            return ""
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - limit))
            return file.read().decode("utf-8", "replace")


class VM(Qemu):
    """A QEMU process in a sandbox, its monitor and its serial console.

    ``inside`` is ``directory`` as QEMU sees it.
    """

    def __init__(
        self, name: str, sandbox: Sandbox, argv: tuple[str, ...], directory: Path, inside: str
    ) -> None:
        super().__init__(name, sandbox, argv, directory, ("monitor", "console"))
        self.inside = inside
        self._console: Console | None = None
        self._monitor: Monitor | None = None

    def connect(self, deadline: Deadline) -> None:
        """Take QEMU's connections. Raises QemuError, with its last words, if it ends first."""
        deadline = deadline.sooner(LAUNCH_SECONDS)
        console = self.connection("console", deadline)
        self._console = self._stack.enter_context(
            Console(console, self.directory / "console.log")
        )
        monitor = self.connection("monitor", deadline)
        try:
            self._monitor = Monitor(monitor, self.name, deadline)
        except MonitorError as error:
            monitor.close()
            if self.outlives(Deadline.after(LAST_WORDS_SECONDS)):
                raise
            raise self.ended() from error
        self._stack.callback(lambda: self.monitor.close(Deadline.after(QUIT_SECONDS)))

    @property
    def console(self) -> Console:
        """The serial console. QEMU must have connected."""
        if self._console is None:
            raise HarnessError(f"{self.name} is not connected yet")
        return self._console

    @property
    def monitor(self) -> Monitor:
        """The monitor. QEMU must have connected."""
        if self._monitor is None:
            raise HarnessError(f"{self.name} is not connected yet")
        return self._monitor

    def reset(self, deadline: Deadline) -> None:
        """Reset the machine by the monitor, as a reset button does."""
        self.monitor.execute("system_reset", deadline=deadline)

    def rom_digest(self, address: int, size: int, deadline: Deadline) -> str:
        """The sha256 of the ROM: ``size`` bytes at ``address``, as the guest's CPU sees them."""
        return identity.sha256(self.memory(address, size, deadline))

    def memory(self, address: int, size: int, deadline: Deadline) -> bytes:
        """``size`` bytes of guest physical memory."""
        dump = self.directory / "memory.bin"
        try:
            self.monitor.execute(
                "pmemsave",
                {"val": address, "size": size, "filename": f"{self.inside}/memory.bin"},
                deadline=deadline,
            )
            return dump.read_bytes()
        finally:
            dump.unlink(missing_ok=True)

    def quit(self, deadline: Deadline) -> None:
        """Ask QEMU to end, and wait until it has. A QEMU that does not is killed."""
        deadline = deadline.sooner(QUIT_SECONDS)
        try:
            with contextlib.suppress(MonitorError, DeadlineExceeded):
                self.monitor.execute("quit", deadline=deadline)
                self.process.wait(deadline)
        finally:
            self.close()


@contextlib.contextmanager
def listen(path: Path) -> Iterator[socket.socket]:
    """A listening unix socket at ``path``, however long the path is; removed at the end."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # A unix socket's address takes 107 bytes (unix(7)); a directory handle makes it short.
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        listener.bind(f"/proc/self/fd/{directory}/{path.name}")
        # QEMU runs as another user than a harness that runs as root.
        path.chmod(0o666)
        listener.listen(1)
        yield listener
    finally:
        os.close(directory)
        listener.close()
        path.unlink(missing_ok=True)
