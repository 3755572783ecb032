"""A client of QEMU's fw_cfg device, as firmware is one: by port I/O and by DMA.

Protocol: QEMU's docs/specs/fw_cfg.rst; the registers of x86. How ports and memory are reached
is the business of a ``Bus``; bootmatrix.machines.qemu.qtest has one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from bootmatrix.errors import FwCfgError, NoFwCfgError
from bootmatrix.fw_cfg.format import directory, keys
from bootmatrix.fw_cfg.format.directory import Entry
from bootmatrix.fw_cfg.format.wire import FormatError

SELECTOR_PORT = 0x510
DATA_PORT = 0x511
DMA_PORT = 0x514

DMA_SIGNATURE = b"QEMU CFG"

_ERROR, _READ, _SKIP, _SELECT, _WRITE = (1 << bit for bit in range(5))
_DESCRIPTOR_BYTES = 16

# Guest RAM that the client uses: from 1 MiB on, which every PC with more than that has as RAM.
# The firmware is not running and has nothing there yet.
_RAM = 1 << 20


class Bus(Protocol):
    """Ports and memory of a machine. Reads give functions that give the value.

    A bus may put off what it was asked until the first value is wanted.
    """

    def outw(self, port: int, value: int) -> None:
        """Write 16 bits, little-endian, to an I/O port."""

    def outl(self, port: int, value: int) -> None:
        """Write 32 bits, little-endian, to an I/O port."""

    def inb(self, port: int) -> Callable[[], int]:
        """Read 8 bits from an I/O port."""

    def inl(self, port: int) -> Callable[[], int]:
        """Read 32 bits, little-endian, from an I/O port."""

    def write(self, address: int, data: bytes) -> None:
        """Write physical memory."""

    def read(self, address: int, size: int) -> Callable[[], bytes]:
        """Read physical memory."""


class FwCfg:
    """The fw_cfg device behind a bus. ``buffer`` bytes of RAM above 1 MiB are overwritten.

    Raises FwCfgError if there is no such device. The methods pass on what the bus raises.
    """

    def __init__(self, bus: Bus, buffer: int = 16 << 20) -> None:
        self._bus = bus
        self._buffer = buffer
        signature = self.read_by_port(keys.SIGNATURE, 4)
        if signature != b"QEMU":
            raise NoFwCfgError(f"no fw_cfg device at port {SELECTOR_PORT:#x}: its signature "
                             f"reads {signature!r} instead of b'QEMU'")
        self.features = int.from_bytes(self.read_by_port(keys.ID, 4), "little")

    @property
    def has_dma(self) -> bool:
        """Whether the DMA interface is there. Raises FwCfgError if the bit for it lies."""
        if not self.features & keys.FEATURE_DMA:
            return False
        halves = [self._bus.inl(DMA_PORT), self._bus.inl(DMA_PORT + 4)]
        signature = b"".join(half().to_bytes(4, "little") for half in halves)
        if signature != DMA_SIGNATURE:
            raise FwCfgError(f"the feature bits promise DMA, but its register reads {signature!r}")
        return True

    # ---- port I/O

    def read_by_port(self, key: int, size: int, offset: int = 0) -> bytes:
        """``size`` bytes of an item, byte by byte; what lies past its end reads as zeros."""
        self._bus.outw(SELECTOR_PORT, key)
        values = [self._bus.inb(DATA_PORT) for _ in range(offset + size)]
        return bytes(value() & 0xFF for value in values[offset:]) if size else b""

    # ---- DMA

    def read(self, key: int, size: int, offset: int = 0) -> bytes:
        """``size`` bytes of an item by DMA; what lies past its end reads as zeros.

        Raises FwCfgError if the device reports an error.
        """
        largest = self._buffer - 2 * _DESCRIPTOR_BYTES
        return b"".join(
            self._read_batch([(key, min(largest, size - done), offset + done)])[0]
            for done in range(0, size, largest)
        )

    def read_all(self, wanted: Sequence[tuple[int, int]]) -> list[bytes]:
        """Items, each a key and a size, by DMA; as many at once as the buffer takes.

        Raises FwCfgError if the device reports an error.
        """
        found: list[bytes] = []
        batch: list[tuple[int, int, int]] = []
        used = 0
        for key, size in wanted:
            if size > self._buffer // 2:
                found += self._read_batch(batch)
                found.append(self.read(key, size))
                batch, used = [], 0
                continue
            needed = size + 2 * _DESCRIPTOR_BYTES
            if used + needed > self._buffer:
                found += self._read_batch(batch)
                batch, used = [], 0
            batch.append((key, size, 0))
            used += needed
        return found + self._read_batch(batch)

    def write(self, key: int, data: bytes, offset: int = 0) -> None:
        """Overwrite a part of a writable item by DMA; an item cannot grow.

        Raises FwCfgError if the device refuses: a read-only item, or beyond the item's end.
        """
        place = _RAM + 2 * _DESCRIPTOR_BYTES
        self._bus.write(place, data)
        self._check(self._operation(_RAM, _WRITE, key, offset, len(data), place),
                    f"writing {len(data)} bytes at offset {offset} of key {key:#06x}")

    def writable(self, key: int, data: bytes) -> bool:
        """Whether a guest may write an item, whose bytes are ``data``.

        Its first byte is written back, which changes nothing but triggers what QEMU does at a
        write. An empty item counts as read-only.
        """
        if not data:
            return False
        try:
            self.write(key, data[:1])
        except FwCfgError:
            return False
        return True

    def transfer(self, control: int, length: int, address: int) -> int:
        """One DMA operation as it is given; the control word that the device left.

        For experiments. The control bits are those of the specification, bit 3 with the key in
        the upper 16 bits.
        """
        return self._dma(_RAM, control, length, address)()

    # ---- the directory

    def directory(self) -> tuple[Entry, ...]:
        """The file directory, by DMA where there is. Raises FwCfgError if it is malformed."""
        read = self.read if self.has_dma else self.read_by_port
        try:
            count = directory.parse_count(read(keys.FILE_DIR, directory.COUNT_BYTES))
            size = directory.COUNT_BYTES + count * directory.ENTRY_BYTES
            return directory.parse(read(keys.FILE_DIR, size))
        except FormatError as error:
            raise FwCfgError(str(error)) from error

    # ---- how DMA is done

    def _read_batch(self, wanted: Iterable[tuple[int, int, int]]) -> list[bytes]:
        controls: list[Callable[[], int]] = []
        reads: list[Callable[[], bytes]] = []
        at = _RAM
        for key, size, offset in wanted:
            place = at + 2 * _DESCRIPTOR_BYTES
            controls += self._operation(at, _READ, key, offset, size, place)
            reads.append(self._bus.read(place, size))
            at = place + size
        self._check(controls, "reading")
        return [read() for read in reads]

    def _operation(
        self, descriptor: int, what: int, key: int, offset: int, length: int, address: int
    ) -> list[Callable[[], int]]:
        """Select an item and work on a part of it; two descriptors' room is needed."""
        selected = key << 16 | _SELECT
        if not offset:
            return [self._dma(descriptor, selected | what, length, address)]
        return [self._dma(descriptor, selected | _SKIP, offset, 0),
                self._dma(descriptor + _DESCRIPTOR_BYTES, what, length, address)]

    def _dma(self, descriptor: int, control: int, length: int, address: int) -> Callable[[], int]:
        """Start an operation; a function that gives the control word it leaves."""
        self._bus.write(descriptor, control.to_bytes(4, "big") + length.to_bytes(4, "big")
                        + address.to_bytes(8, "big"))
        # The register is big-endian, the port's bus little-endian. Its lower half starts it.
        self._bus.outl(DMA_PORT + 4, int.from_bytes(descriptor.to_bytes(4, "big"), "little"))
        left = self._bus.read(descriptor, 4)
        return lambda: int.from_bytes(left(), "big")

    def _check(self, controls: Iterable[Callable[[], int]], what: str) -> None:
        for control in controls:
            value = control()
            if value & _ERROR:
                raise FwCfgError(f"fw_cfg: DMA error while {what}")
            if value:
                raise FwCfgError(f"fw_cfg: DMA left control {value:#x} while {what}")
