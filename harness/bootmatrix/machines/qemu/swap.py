"""Stop a running QEMU at its resets, before its CPU fetches an instruction, whoever asked for them.

There its firmware can be replaced, and what its console said before can be told from what the
next boot says. QMP cannot write guest ROM, the gdb stub can (measured: docs/stock-qemu.md); a
hardware breakpoint at the reset vector does the stopping.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Callable
from dataclasses import replace

from bootmatrix.boards import Board
from bootmatrix.deadline import Deadline
from bootmatrix.errors import GdbError, HarnessError, MonitorError
from bootmatrix.machines.console import Console
from bootmatrix.machines.qemu import reactor
from bootmatrix.machines.qemu.gdb import Gdb
from bootmatrix.machines.qemu.process import VM
from bootmatrix.witnesses import stopped

# Seconds by which the reactor may be late with an answer that has its own deadline.
_GRACE = 5.0
# How often a machine is seen to be reset again while it stands at its reset vector.
_MOST_RESETS = 10
# Characters of QEMU's words that are repeated.
_COMPLAINT = 500


def _nothing() -> None:
    """Leave the firmware alone."""


class FirmwareSwap:
    """The swap, armed on one VM for all its resets to come.

    ``provide`` is asked at each reset and returns the image to write, or None to leave the ROM
    alone, which is all that it does until it is set. It runs in the reactor's thread. ``size`` is
    that of the ROM as the VM was started with: an image of another size does not fit, and is left
    out with ``misfit`` set. ``board`` says where the CPU begins, and where firmware is seen.
    """

    def __init__(self, vm: VM, size: int, board: Board, deadline: Deadline) -> None:
        self.provide: Callable[[], bytes | None] = _nothing
        self._vm = vm
        self._size = size
        self._board = board
        self._arrived: Callable[[], None] = _nothing
        self._given_up: Callable[[], None] = _nothing
        self._failure: Exception | None = None
        self.misfit: str | None = None
        self.swaps = 0
        with vm.listen("gdb") as listener:
            running = vm.monitor.run_state(deadline) == "running"
            complaint = vm.monitor.execute(
                "human-monitor-command",
                {"command-line": f"gdbserver unix:{vm.listening}/gdb.sock"},
                deadline=deadline,
            )
            if isinstance(complaint, str) and "Could not open" in complaint:
                raise GdbError(f"{vm.name}: no gdb stub: {complaint[:_COMPLAINT].strip()}")
            self._socket = vm.accept(listener, deadline)
        self._gdb: Gdb = reactor.call(
            self._attach(running), deadline, f"{vm.name}: attaching to the gdb stub"
        )
        self._since = self._left = vm.monitor.mark()
        self._servant: concurrent.futures.Future[None] = asyncio.run_coroutine_threadsafe(
            self._serve(), reactor.loop()
        )

    async def _attach(self, running: bool) -> Gdb:
        gdb = await Gdb.attach(self._socket)
        try:
            await gdb.set_breakpoint(self._board.reset_vector)
        except BaseException:
            gdb.abort()
            raise
        if running:  # attaching has stopped it
            gdb.resume()
        return gdb

    async def _serve(self) -> None:
        monitor = self._vm.monitor
        try:
            while True:
                # QEMU 8.0 and later report a stop to gdb only after gdb's own "continue"; a
                # destination is started by the migration. The monitor tells of every stop.
                await monitor.until("STOP", since=self._since)
                stop = monitor.mark()
                state = await monitor.state()
                # One that is reset again while it stands there is in state prelaunch.
                if state == "debug" or (state == "prelaunch" and not self._vm.held):
                    # Waking from suspend-to-RAM goes through the reset vector, too, but is no
                    # reset: no RESET event comes before it.
                    if monitor.seen("RESET", self._left):
                        self._arrived()
                        await self._swap_for_good()
                    else:
                        await self._step()
                    self._since = self._left = monitor.mark()
                    self._gdb.resume()
                else:
                    self._since = stop  # stopped for another reason, a migration for example
                    if state == stopped.STATE:
                        self._given_up()
        except (MonitorError, asyncio.CancelledError):
            pass  # QEMU has gone, or we are closing
        except Exception as error:  # kept for check(): nobody awaits this task
            self._failure = error
        finally:
            with contextlib.suppress(Exception):
                await self._gdb.close()

    async def _swap_for_good(self) -> None:
        """Swap, and step on; again where it was reset meanwhile, which loads the old firmware."""
        monitor = self._vm.monitor
        for _ in range(_MOST_RESETS):
            before = monitor.mark()
            await self._swap()
            await self._step()
            await monitor.state()  # an answer comes behind all events before it
            if not monitor.seen("RESET", before):
                return

    async def _swap(self) -> None:
        image = self.provide()
        if image is None:
            return
        if len(image) != self._size:
            self.misfit = f"the image has {len(image):#x} bytes, the ROM block {self._size:#x}"
            return
        for below, size in self._board.swapped_below:
            tail = image[-size:]
            await self._gdb.write(below - len(tail), tail)
        self.swaps += 1

    async def _step(self) -> None:
        # Continuing on a breakpoint would stop at it again: step over it without.
        await self._gdb.clear_breakpoint(self._board.reset_vector)
        await self._gdb.step()
        await self._gdb.set_breakpoint(self._board.reset_vector)

    def reset_by(self, ask: Callable[[], object], console: Console, deadline: Deadline) -> bool:
        """Do what makes the machine reset itself. False: it was not reset in time, or has ended.

        So it has where QEMU has stopped it for good. What the console said before the reset is
        skipped.
        """
        later = replace(deadline, at=deadline.at + _GRACE)
        return reactor.call(
            self._reset_by(ask, console, deadline), later, f"{self._vm.name}: a reset by the guest"
        )

    async def _reset_by(
        self, ask: Callable[[], object], console: Console, deadline: Deadline
    ) -> bool:
        loop = asyncio.get_running_loop()
        stands = loop.create_future()

        def over(was_reset: bool) -> None:
            self._arrived = self._given_up = _nothing
            stands.set_result(was_reset)

        def arrived() -> None:
            loop.remove_reader(console)
            console.skip()
            over(True)

        def overhear() -> None:  # QEMU must get rid of what its guest says meanwhile
            if not console.skip():
                loop.remove_reader(console)

        self._arrived, self._given_up = arrived, lambda: over(False)
        loop.add_reader(console, overhear)
        try:
            ask()
            ended = asyncio.wrap_future(self._servant)
            while not deadline.expired and not stands.done() and not ended.done():
                await asyncio.wait([stands, ended], timeout=deadline.remaining,
                                   return_when=asyncio.FIRST_COMPLETED)
        finally:
            loop.remove_reader(console)
            self._arrived = self._given_up = _nothing
        return stands.done() and bool(stands.result())

    def check(self) -> None:
        """Raise what went wrong in a swap, if anything did: the VM stands still then."""
        if self._failure is not None:
            raise HarnessError(f"{self._vm.name}: the swap failed: {self._failure}")

    def close(self) -> None:
        """Stop serving. A VM that still runs stops at its next reset: end it first."""
        self._servant.cancel()
