"""One QEMU process: launch, its connections, reset, its witnesses, its end."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from bootmatrix.deadline import Deadline, awake
from bootmatrix.engines import Process, Sandbox
from bootmatrix.engines.confinement import CELL, SHOWN
from bootmatrix.engines.peers import hold, lives, peer
from bootmatrix.engines.scratch import CONSOLE_LOG, QEMU_LOG, Scratch
from bootmatrix.errors import CellError, DeadlineExceeded, HarnessError, MonitorError, QemuError
from bootmatrix.firmware import identity
from bootmatrix.machines.base import LAST_WORDS_SECONDS
from bootmatrix.machines.console import Console
from bootmatrix.machines.qemu import reactor
from bootmatrix.machines.qemu.able_clock import AbleClock
from bootmatrix.machines.qemu.monitor import Monitor
from bootmatrix.machines.qemu.slowed import Slowed
from bootmatrix.model import GuestKind, OwnGuest
from bootmatrix.witnesses import stopped

# A QEMU that has not connected by then will not: it takes 25-45 ms.
LAUNCH_SECONDS = 30.0
QUIT_SECONDS = 10.0
# QEMU resets a machine in milliseconds, and sends the event at once.
RESET_SECONDS = 10.0
# For QEMU to say whether its guest runs.
_STATE_SECONDS = 1.0

# How often a QEMU that has not connected yet is asked whether it is still alive. Connections
# are events; a process's end is one too, but not one that both engines can show as a file.
_ALIVE_SECONDS = 0.05


class Elsewhere:
    """In the place of a process: a program that another process is to become, or does no more."""

    argv: tuple[str, ...] = ()

    def __init__(self, status: int | None = None) -> None:
        self._status = status

    def poll(self) -> int | None:
        """None: it is still to come."""
        return self._status

    def wait(self, deadline: Deadline) -> int:
        """It has an end of its own only where it is over."""
        if self._status is None:
            raise DeadlineExceeded("the end of a program that has not begun")
        return self._status

    def includes(self, pid: int, deadline: Deadline) -> bool | None:
        """No process is it."""
        return None

    def kill(self) -> None:
        """Nothing runs."""


class Qemu:
    """A QEMU process in a sandbox, and the sockets of ours that it connects to.

    ``sandbox`` is one of ``scratch``. Its files have a directory ``at`` in each part of that: its
    sockets, ``NAME.sock``, lie in the part that the sandbox cannot change, ``listening`` for
    QEMU; its log in the cell, ``inside``; what the harness writes in neither, ``private``.
    One that is not ``launched`` has no process until it is to ``succeed`` another.
    """

    def __init__(
        self,
        name: str,
        sandbox: Sandbox,
        argv: tuple[str, ...],
        scratch: Scratch,
        at: str,
        sockets: Sequence[str],
        *,
        launched: bool = True,
    ) -> None:
        assert sandbox.shown is not None
        self.name = name
        self.argv = argv
        self.inside, self.listening = f"{CELL}/{at}", f"{SHOWN}/{at}"
        self.private = scratch.private / at
        self.scratch = scratch
        self._at = at
        self._log = self.file(QEMU_LOG)
        self._shown = sandbox.shown / at
        self._launched = awake()
        self._clock: AbleClock | None = None
        self.pid = 0  # as it is seen from here; 0 before it has connected, or if it cannot be
        self._held: int | None = None  # a pidfd of it
        self._stack = contextlib.ExitStack()
        try:
            self.private.mkdir()
            self._shown.mkdir(exist_ok=True)  # of a QEMU that ran with the same name before
            scratch.cell.mkdir(at)
            self._listeners = {
                kind: self._stack.enter_context(self.listen(kind)) for kind in sockets
            }
            self.process: Process = sandbox.launch(argv, scratch.cell.path / self._log) \
                if launched else Elsewhere()
            self._stack.callback(lambda: self.process.kill())
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

    def succeed(self, other: Qemu) -> None:
        """Be what its process runs from now on: it has replaced that program by this."""
        self.process, other.process = other.process, Elsewhere(status=0)
        self._log = other._log

    def file(self, name: str) -> str:
        """The name in the cell of a file of this QEMU's."""
        return f"{self._at}/{name}"

    @contextlib.contextmanager
    def listen(self, kind: str) -> Iterator[socket.socket]:
        """A socket for this QEMU to connect to."""
        with listen(self._shown / f"{kind}.sock") as listener:
            yield listener

    def accept(self, listener: socket.socket, deadline: Deadline) -> socket.socket:
        """QEMU's connection to a socket of ours. CellError if another process has made one."""
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        while True:
            if poll.poll(1000 * min(_ALIVE_SECONDS, deadline.remaining)):
                connection = listener.accept()[0]
                with contextlib.ExitStack() as unless_qemu:
                    unless_qemu.callback(connection.close)
                    if self._is_qemu(connection, deadline):
                        unless_qemu.pop_all()
                        return connection
            # At each turn: who connects again and again must not keep this from them.
            if self.process.poll() is not None:
                raise self.ended()
            deadline.check(
                f"{self.name}: QEMU's connection to {Path(listener.getsockname()).name}")

    def _is_qemu(self, connection: socket.socket, deadline: Deadline) -> bool:
        """Whether QEMU has connected; not if who did has ended. CellError if another has."""
        pid = peer(connection)
        if not pid:
            self._know(0)
            return True
        with contextlib.ExitStack() as stack:
            try:
                # Held before it is asked about: the answer is about the one that connected.
                if (held := hold(connection)) is not None:
                    stack.callback(os.close, held)
                found = self.process.includes(pid, deadline)
            except ProcessLookupError:
                return False
            if found is None or (held is not None and not lives(held)):
                return False
            if not found:
                raise CellError(
                    f"{self.name}: another process than its QEMU, pid {pid}, has connected to "
                    f"{Path(connection.getsockname()).name}"
                )
            if self._clock is None:
                self._stack.push(stack.pop_all())
                self._know(pid, held)
        return True

    def _know(self, pid: int, held: int | None = None) -> None:
        """Which process it is: the one that connects first."""
        if self._clock is None:
            self.pid, self._held = pid, held
            self._clock = AbleClock(pid, self._launched, reactor.thread)
            self._stack.callback(self._clock.close)

    @property
    def clock(self) -> AbleClock:
        """The time in which it was able to run. It must have connected."""
        if self._clock is None:
            raise HarnessError(f"{self.name} is not connected yet")
        return self._clock

    def slow_down(self, share: float) -> None:
        """Have it no more than a share of a processor from now on, if this user may do that."""
        if self._held is not None:
            self._stack.enter_context(Slowed(self._held, self.clock, share))

    def connection(self, kind: str, deadline: Deadline) -> socket.socket:
        """QEMU's connection to the socket ``kind``."""
        return self.accept(self._listeners[kind], deadline)

    def ended(self) -> QemuError:
        """The error for a QEMU that has ended too early, with its last words."""
        # It has closed a connection; its last words and its status come a moment later.
        self.goes_on()
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

    def goes_on(self) -> bool:
        """Whether the process still runs a moment later, in which one that ends has ended."""
        soon = Deadline.after if self._clock is None else self._clock.deadline
        return self.outlives(soon(LAST_WORDS_SECONDS))

    def log_tail(self, limit: int = 4000) -> str:
        """The last ``limit`` bytes of what QEMU wrote to stdout and stderr, in whole lines.

        The end of a warning reads like a complaint.
        """
        text = self.scratch.cell.tail(self._log, limit).decode("utf-8", "replace")
        _, newline, whole = text.partition("\n")
        return whole if newline and whole and len(text) >= limit else text


class VM(Qemu):
    """A QEMU process in a sandbox, its monitor and its serial console.

    ``resets_before`` is how often it had been reset when the last boot was over. ``held``: it is
    stopped by the monitor, and goes on by that. ``guest`` is what speaks on its console.
    """

    def __init__(
        self, name: str, sandbox: Sandbox, argv: tuple[str, ...], scratch: Scratch, at: str,
        guest: GuestKind | OwnGuest = GuestKind.PROBE, *, launched: bool = True,
    ) -> None:
        super().__init__(name, sandbox, argv, scratch, at, ("monitor", "console"),
                         launched=launched)
        self._guest = guest
        self.resets_before = 0
        self.held = False
        self.capabilities: frozenset[str] = frozenset()
        self._console: Console | None = None
        self._monitor: Monitor | None = None

    def connect(self, deadline: Deadline) -> None:
        """Take QEMU's connections. Raises QemuError, with its last words, if it ends first."""
        deadline = deadline.sooner(LAUNCH_SECONDS)
        console = self.connection("console", deadline)
        self._console = self._stack.enter_context(
            Console(console, self.private / CONSOLE_LOG, lambda: self.stopped, self._guest)
        )
        monitor = self.connection("monitor", deadline)
        try:
            self._monitor = Monitor(monitor, self.name, deadline.by(self.clock))
        except MonitorError as error:
            monitor.close()
            if self.outlives(self.clock.deadline(LAST_WORDS_SECONDS)):
                raise
            raise self.ended() from error
        self._stack.callback(self._close_monitor)

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

    @property
    def stopped(self) -> bool:
        """Whether QEMU has stopped the guest by itself, and leaves it there."""
        monitor = self._monitor
        if monitor is None or monitor.latest("STOP", "RESUME") != "STOP":
            return False
        with contextlib.suppress(MonitorError, DeadlineExceeded):
            return monitor.run_state(self.clock.deadline(_STATE_SECONDS)) == stopped.STATE
        return False

    @property
    def resets(self) -> int:
        """How often it was reset since the last boot was over."""
        return self.monitor.resets - self.resets_before

    def _close_monitor(self) -> None:
        # What does not close is a QEMU's that is killed next, and no fault of the rig's.
        with contextlib.suppress(DeadlineExceeded):
            self.monitor.close(self.clock.deadline(QUIT_SECONDS))

    def notes(self) -> dict[str, int | str]:
        """Keys of its row in the record: what was too much to be kept, or could not be seen."""
        said = {"events_cut": self._monitor, "banners_cut": self._console}
        notes: dict[str, int | str] = {
            key: who.cut for key, who in said.items() if who is not None and who.cut}
        if self._clock is not None and not self._clock.seen:
            notes["clock"] = "wall"
        return notes

    def reset(self, deadline: Deadline) -> bool:
        """Reset the machine by the monitor, as a reset button does. False: it was not reset.

        It stands still meanwhile, and what its console said before is skipped: what comes
        afterwards is of the next boot, and all of it.
        """
        self.held = True
        try:
            self.monitor.execute("stop", deadline=deadline)
            before = self.monitor.mark()
            self.monitor.execute("system_reset", deadline=deadline)
            with contextlib.suppress(DeadlineExceeded):
                soon = deadline.sooner(RESET_SECONDS)
                self.monitor.wait("RESET", since=before, deadline=soon, guest=False)
            done = self.monitor.seen("RESET", before)
            if done:
                self.console.skip()
            self.monitor.execute("cont", deadline=deadline)
        finally:
            self.held = False
        return done

    def rom_digest(self, address: int, size: int, deadline: Deadline) -> str:
        """The sha256 of the ROM: ``size`` bytes at ``address``, as the guest's CPU sees them."""
        return identity.sha256(self.memory(address, size, deadline))

    def memory(self, address: int, size: int, deadline: Deadline) -> bytes:
        """``size`` bytes of guest physical memory."""
        dump = self.file("memory.bin")
        try:
            self.monitor.execute(
                "pmemsave",
                {"val": address, "size": size, "filename": f"{self.inside}/memory.bin"},
                deadline=deadline,
            )
            return self.scratch.cell.read(dump, size)
        except FileNotFoundError:
            raise CellError(f"{self.name}: QEMU has not written "
                            f"{self.scratch.cell.path / dump}") from None
        except DeadlineExceeded:
            # It waits for whoever reads a FIFO there, perhaps: then that is to be told.
            with contextlib.suppress(FileNotFoundError):
                os.close(self.scratch.cell.open(dump, os.O_RDONLY))
            raise
        finally:
            self.scratch.cell.unlink(dump)

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
    # A unix socket's address takes 107 bytes (unix(7)); a directory handle makes it short.
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
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
