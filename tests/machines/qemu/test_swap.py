"""The swap at the reset vector, on a QEMU that is a gdb stub and a list of monitor events."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.boards import Board, known_board
from bootmatrix.deadline import Deadline
from bootmatrix.errors import GdbError, HarnessError, MonitorError
from bootmatrix.machines.console import Console
from bootmatrix.machines.qemu import reactor
from bootmatrix.machines.qemu.swap import FirmwareSwap
from bootmatrix.model import Arch
from helpers.gdb_stub import GdbStub

PC = known_board("pc-q35-5.2", Arch.X86_64)
OLD, NEW = bytes(256 << 10), bytes(range(256)) * 1024
FOUR_GIB, SHADOW = 1 << 32, 0xC0000
SECONDS = 20


class Monitor:
    """What the swap asks of a monitor; ``status`` is the machine's."""

    def __init__(self) -> None:
        self.status = "running"
        self.words: Any = ""
        self.events: list[str] = []
        self.lost = False
        self.connect: Any = None
        self._changed = reactor.call(self._condition(), Deadline.after(SECONDS), "a condition")

    async def _condition(self) -> asyncio.Condition:
        return asyncio.Condition()

    def execute(
        self, command: str, arguments: Mapping[str, str] | None = None, *, deadline: Deadline
    ) -> Any:
        assert command == "human-monitor-command"
        assert arguments is not None
        assert arguments["command-line"].startswith("gdbserver unix:")
        if not self.words:
            self.connect()
        return self.words

    def run_state(self, deadline: Deadline) -> str:
        return self.status

    async def state(self) -> str:
        return self.status

    def mark(self) -> int:
        return len(self.events)

    def seen(self, name: str, since: int = 0) -> bool:
        return name in self.events[since:]

    async def until(self, name: str, *, since: int) -> None:
        async with self._changed:
            while name not in self.events[since:]:
                if self.lost:
                    raise MonitorError("gone")
                await self._changed.wait()

    def say(self, *events: str, status: str = "debug", lost: bool = False) -> None:
        async def happen() -> None:
            async with self._changed:
                self.status, self.lost = status, lost
                self.events += events
                self._changed.notify_all()

        reactor.call(happen(), Deadline.after(SECONDS), "events")


class Vm:
    """What the swap asks of a VM."""

    name = "1-source"
    listening = "/nowhere"

    def __init__(self) -> None:
        self.monitor = Monitor()
        self.monitor.connect = self._connect
        self.ran = threading.Semaphore(0)
        self.held = False
        self._ours: socket.socket | None = None
        self.stub: GdbStub | None = None

    def _connect(self) -> None:
        self._ours, theirs = socket.socketpair()
        self.stub = GdbStub(theirs)
        self.stub.resumed = self.ran.release

    @contextlib.contextmanager
    def listen(self, kind: str) -> Iterator[str]:
        assert kind == "gdb"
        yield kind

    def accept(self, listener: str, deadline: Deadline) -> socket.socket:
        assert self._ours is not None
        return self._ours

    def reset(self) -> None:
        """It is reset, stops at its reset vector, and goes on."""
        self.monitor.say("RESET", "STOP")
        assert self.ran.acquire(timeout=SECONDS)


@pytest.fixture
def vm() -> Vm:
    return Vm()


@contextlib.contextmanager
def armed(vm: Vm, size: int = len(OLD), board: Board = PC) -> Iterator[FirmwareSwap]:
    swap = FirmwareSwap(vm, size, board, Deadline.after(SECONDS))  # type: ignore[arg-type]
    if vm.monitor.status == "running":  # attaching has stopped it
        assert vm.ran.acquire(timeout=SECONDS)
    try:
        yield swap
    finally:
        swap.close()
        assert vm.stub is not None
        vm.stub.join()


def test_the_firmware_is_written_below_4_gib_and_into_its_shadow(vm: Vm) -> None:
    with armed(vm) as swap:
        assert vm.stub is not None
        assert vm.stub.breakpoints == {PC.reset_vector}
        swap.provide = lambda: NEW
        vm.reset()
        assert vm.stub.written(FOUR_GIB - len(NEW), len(NEW)) == NEW
        assert vm.stub.written(SHADOW, len(NEW)) == NEW
        # Over the breakpoint by one instruction, and it is there again.
        assert vm.stub.asked[-4:] == [b"z1,fffffff0,1", b"s", b"Z1,fffffff0,1", b"c"]
        assert swap.swaps == 1
        vm.reset()
        assert swap.swaps == 2
        swap.check()


def test_of_a_large_image_the_shadow_has_its_end(vm: Vm) -> None:
    image = bytes(1 << 20) + NEW
    with armed(vm, len(image)) as swap:
        swap.provide = lambda: image
        vm.reset()
        assert vm.stub is not None
        assert vm.stub.written(SHADOW, len(NEW)) == NEW
        assert min(vm.stub.memory) == SHADOW


@pytest.mark.parametrize("image", [None, NEW + b"x"])
def test_firmware_that_is_none_or_does_not_fit_is_left_out(vm: Vm, image: bytes | None) -> None:
    with armed(vm) as swap:
        swap.provide = lambda: image
        vm.reset()
        assert vm.stub is not None
        assert vm.stub.memory == {}
        assert swap.swaps == 0
        misfit = "the image has 0x40001 bytes, the ROM block 0x40000"
        assert swap.misfit == (misfit if image else None)


def test_a_stop_that_is_no_reset_swaps_nothing(vm: Vm) -> None:
    """A wake-up goes through the reset vector, a migration stops the machine elsewhere."""
    with armed(vm) as swap:
        swap.provide = lambda: NEW
        vm.monitor.say("STOP")  # a wake-up: at the vector, without a RESET before it
        assert vm.ran.acquire(timeout=SECONDS)
        vm.monitor.say("STOP", status="paused")  # it stands still, and is left so
        assert not vm.ran.acquire(timeout=0.05)
        assert swap.swaps == 0
        vm.reset()
        assert swap.swaps == 1


def test_a_machine_that_is_reset_again_while_it_stands_at_its_vector_goes_on(vm: Vm) -> None:
    """It is in another state then: it would stand there for ever, and its guest be silent."""
    with armed(vm) as swap:
        swap.provide = lambda: NEW
        vm.monitor.say("RESET", "STOP", "RESET", status="prelaunch")
        assert vm.ran.acquire(timeout=SECONDS)
        assert swap.swaps == 1
        vm.held = True  # by the monitor, which has reset it, and lets it go on
        vm.monitor.say("STOP", "RESET", status="prelaunch")
        assert not vm.ran.acquire(timeout=0.05)
        assert swap.swaps == 1
        swap.check()


def test_a_reset_after_the_swap_loads_the_old_firmware_and_it_is_swapped_again(vm: Vm) -> None:
    loaded = []

    def provide() -> bytes:
        loaded.append(NEW)
        if len(loaded) == 1:
            vm.monitor.events.append("RESET")
        return NEW

    with armed(vm) as swap:
        swap.provide = provide
        vm.reset()
        assert swap.swaps == 2
        assert vm.stub is not None
        assert vm.stub.asked.count(b"s") == 2
        assert vm.stub.asked[-1] == b"c"


def test_a_machine_that_stands_still_is_not_let_run_by_attaching(vm: Vm) -> None:
    vm.monitor.status = "inmigrate"
    with armed(vm):
        assert not vm.ran.acquire(timeout=0.05)


def test_what_goes_wrong_in_a_swap_is_told_when_it_is_asked_for(vm: Vm) -> None:
    def fails() -> bytes:
        raise OSError("planted")

    with armed(vm) as swap:
        swap.provide = fails
        vm.monitor.say("RESET", "STOP")
        assert vm.stub is not None
        vm.stub.join()  # the servant has hung up
        with pytest.raises(HarnessError, match="1-source: the swap failed: planted"):
            swap.check()


def test_a_qemu_that_goes_away_is_no_failure(vm: Vm) -> None:
    with armed(vm) as swap:
        vm.monitor.say(lost=True)
        assert vm.stub is not None
        vm.stub.join()
        swap.check()


def test_a_qemu_without_a_stub(vm: Vm) -> None:
    vm.monitor.words = "Could not open gdbserver on device 'unix:/nowhere/gdb.sock'"
    with pytest.raises(GdbError, match="1-source: no gdb stub: Could not open"):
        FirmwareSwap(vm, 1, PC, Deadline.after(SECONDS))  # type: ignore[arg-type]


# ---- a reset by the guest ------------------------------------------------------------------------


@pytest.fixture
def console(tmp_path: Path) -> Iterator[tuple[socket.socket, Console]]:
    ours, theirs = socket.socketpair()
    with theirs, Console(ours, tmp_path / "console.log") as reader:
        yield theirs, reader


def test_what_the_console_said_before_the_reset_is_skipped(
    vm: Vm, console: tuple[socket.socket, Console]
) -> None:
    guest, reader = console

    def ask() -> None:
        guest.sendall(b"SeaBIOS (version claimed)\r\n")
        vm_resets.start()

    with armed(vm) as swap:
        vm_resets = threading.Thread(target=vm.reset)
        assert swap.reset_by(ask, reader, Deadline.after(SECONDS))
        vm_resets.join()
        guest.sendall(b"SeaBIOS (version real)\r\n")
        assert reader.wait_for_banner(Deadline.after(SECONDS)) == "real"
    assert b"claimed" in reader.log.read_bytes()


def test_a_guest_that_qemu_stops_for_good_is_waited_for_no_longer(
    vm: Vm, console: tuple[socket.socket, Console]
) -> None:
    with armed(vm) as swap:
        def ask() -> None:
            stop = {"status": "internal-error"}
            threading.Thread(target=vm.monitor.say, args=("STOP",), kwargs=stop).start()

        deadline = Deadline.after(SECONDS)
        assert not swap.reset_by(ask, console[1], deadline)
        assert not deadline.expired
        vm.reset()  # by the monitor, which brings it back
        swap.check()


@pytest.mark.parametrize("lost", [False, True])
def test_a_guest_that_does_not_reset_the_machine(
    vm: Vm, console: tuple[socket.socket, Console], lost: bool
) -> None:
    with armed(vm) as swap:
        def ask() -> None:
            if lost:  # QEMU ends instead
                threading.Thread(target=vm.monitor.say, kwargs={"lost": True}).start()

        deadline = Deadline.after(SECONDS if lost else 0.02)
        assert not swap.reset_by(ask, console[1], deadline)
        assert not deadline.expired or not lost
