"""Replace the firmware of a running QEMU at a reset, before its CPU fetches an instruction.

QMP cannot write guest ROM, the gdb stub can (measured: docs/stock-qemu.md). A hardware
breakpoint at the x86 reset vector stops every reset there, whoever asked for it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Callable

from harness import reactor
from harness.deadline import Deadline
from harness.errors import GdbError, HarnessError, MonitorError
from harness.gdb import Gdb
from harness.vm import VM, listen

RESET_VECTOR = 0xFFFFFFF0  # Intel SDM volume 3, "First Instruction Executed"
_FOUR_GIB = 1 << 32
# The firmware's shadow below 1 MiB. A PC maps the ROM there at a reset; QEMU leaves what the
# last firmware put there, and the reset vector jumps into it: it must be replaced as well.
_SHADOW = 0xC0000
_SHADOW_SIZE = 0x40000


class FirmwareSwap:
    """The swap, armed on one VM for all its resets to come.

    ``provide`` is asked at each reset and returns the image to write, or None to leave the ROM
    alone. It runs in the reactor's thread. ``size`` is that of the ROM as the VM was started
    with: an image of another size does not fit, and is left out with ``misfit`` set.
    """

    def __init__(
        self, vm: VM, size: int, provide: Callable[[], bytes | None], deadline: Deadline
    ) -> None:
        self._vm = vm
        self._size = size
        self._provide = provide
        self._failure: Exception | None = None
        self.misfit: str | None = None
        self.swaps = 0
        with listen(vm.directory / "gdb.sock") as listener:
            running = bool(vm.monitor.execute("query-status", deadline=deadline)["running"])
            complaint = vm.monitor.execute(
                "human-monitor-command",
                {"command-line": f"gdbserver unix:{vm.inside}/gdb.sock"},
                deadline=deadline,
            )
            if "Could not open" in complaint:
                raise GdbError(f"{vm.name}: no gdb stub: {complaint.strip()}")
            self._socket = vm.accept(listener, deadline)
        self._gdb: Gdb = reactor.call(
            self._attach(running), deadline, f"{vm.name}: attaching to the gdb stub"
        )
        self._since = vm.monitor.mark()
        self._servant: concurrent.futures.Future[None] = asyncio.run_coroutine_threadsafe(
            self._serve(), reactor.loop()
        )

    async def _attach(self, running: bool) -> Gdb:
        gdb = await Gdb.attach(self._socket)
        await gdb.set_breakpoint(RESET_VECTOR)
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
                if (await monitor.ask("query-status"))["status"] == "debug":
                    # Waking from suspend-to-RAM goes through the reset vector, too, but is no
                    # reset: no RESET event comes before it.
                    if monitor.seen("RESET", self._since):
                        await self._swap()
                    await self._go_on()
                else:
                    self._since = stop  # stopped for another reason, a migration for example
        except (MonitorError, asyncio.CancelledError):
            pass  # QEMU has gone, or we are closing
        except Exception as error:  # kept for check(): nobody awaits this task
            self._failure = error
        finally:
            with contextlib.suppress(Exception):
                await self._gdb.close()

    async def _swap(self) -> None:
        image = self._provide()
        if image is None:
            return
        if len(image) != self._size:
            self.misfit = f"the image has {len(image):#x} bytes, the ROM block {self._size:#x}"
            return
        await self._gdb.write(_FOUR_GIB - len(image), image)
        tail = image[-_SHADOW_SIZE:]
        await self._gdb.write(_SHADOW + _SHADOW_SIZE - len(tail), tail)
        self.swaps += 1

    async def _go_on(self) -> None:
        # Continuing on a breakpoint would stop at it again: step over it without.
        await self._gdb.clear_breakpoint(RESET_VECTOR)
        await self._gdb.step()
        await self._gdb.set_breakpoint(RESET_VECTOR)
        self._since = self._vm.monitor.mark()
        self._gdb.resume()

    def check(self) -> None:
        """Raise what went wrong in a swap, if anything did: the VM stands still then."""
        if self._failure is not None:
            raise HarnessError(f"{self._vm.name}: the swap failed: {self._failure}")

    def close(self) -> None:
        """Stop serving. A VM that still runs stops at its next reset: end it first."""
        self._servant.cancel()
