"""A client of QEMU's gdb stub, as much of the remote serial protocol as a firmware swap needs.

Protocol: GDB manual, appendix "GDB Remote Serial Protocol" (packets Z1, z1, M, m, s, c, ?).
All of it runs in the reactor's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from bootmatrix.errors import GdbError

# QEMU's stub takes packets of up to 4096 bytes (gdbstub MAX_PACKET_LENGTH), hex digits included.
_CHUNK = 2000
# How many writes are on their way before their answers are read; bounded, so that neither side's
# socket buffer can fill up with both waiting for the other.
_IN_FLIGHT = 16


class Gdb:
    """A session with the gdb stub on a socket that QEMU has connected to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def attach(cls, sock: socket.socket) -> Gdb:
        """Begin a session. QEMU stops the VM, if it runs, when a debugger attaches."""
        return cls(*await asyncio.open_connection(sock=sock))

    async def close(self) -> None:
        """End the session; the VM is left as it is."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def abort(self) -> None:
        """End the session at once, whatever is on its way."""
        self._writer.transport.abort()

    async def set_breakpoint(self, address: int) -> None:
        """Set a hardware breakpoint. The VM must be stopped."""
        await self._command(b"Z1,%x,1" % address)

    async def clear_breakpoint(self, address: int) -> None:
        """Remove a hardware breakpoint. The VM must be stopped."""
        await self._command(b"z1,%x,1" % address)

    async def step(self) -> None:
        """Execute one instruction and wait until the VM has stopped again."""
        self._send(b"s")
        await self.stopped()

    def resume(self) -> None:
        """Let the VM run; ``stopped`` tells when it no longer does."""
        self._send(b"c")

    async def stopped(self) -> None:
        """Wait for a stop reply."""
        while (await self._packet())[:1] not in (b"T", b"S"):
            pass  # a late answer to something before

    async def write(self, address: int, data: bytes) -> None:
        """Write guest memory, ROM included, at the current CPU's view of the address."""
        pending = 0
        for offset in range(0, len(data), _CHUNK):
            chunk = data[offset : offset + _CHUNK]
            self._send(b"M%x,%x:%s" % (address + offset, len(chunk), chunk.hex().encode()))
            pending += 1
            if pending == _IN_FLIGHT:
                await self._expect(b"OK")
                pending -= 1
        for _ in range(pending):
            await self._expect(b"OK")

    async def _command(self, payload: bytes) -> None:
        self._send(payload)
        await self._expect(b"OK", of=payload)

    async def _expect(self, answer: bytes, of: bytes = b"") -> None:
        while True:
            packet = await self._packet()
            if packet == answer:
                return
            # QEMU reports a stop whenever the VM stops, asked or not: skip those here.
            if packet[:1] not in (b"T", b"S"):
                raise GdbError(f"gdb stub: {packet!r} instead of {answer!r} to {of!r}")

    def _send(self, payload: bytes) -> None:
        self._writer.write(b"$%s#%02x" % (payload, sum(payload) & 0xFF))

    async def _packet(self) -> bytes:
        # Acknowledgements ("+") are skipped, and none are sent: QEMU's stub has no no-ack mode,
        # but takes the next packet for one (gdbstub.c, gdb_read_byte).
        try:
            await self._reader.readuntil(b"$")
            payload = (await self._reader.readuntil(b"#"))[:-1]
            await self._reader.readexactly(2)  # checksum: a local socket does not corrupt
        except (asyncio.IncompleteReadError, OSError) as error:
            raise GdbError("gdb stub: the connection ended") from error
        except asyncio.LimitOverrunError as error:
            raise GdbError("gdb stub: what comes is no packet, or has no end") from error
        return payload
