"""A fw_cfg device of our own, written from the specification, for what no QEMU would do."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bootmatrix.fw_cfg.format import directory
from bootmatrix.fw_cfg.format.directory import Entry

RAM = 8 << 20


class Device:
    """A machine with ports, RAM and a fw_cfg device (the Bus of bootmatrix.fw_cfg.client).

    ``fail_dma`` sets the error bit on every operation; ``traps`` counts accesses.
    """

    def __init__(
        self,
        files: dict[str, bytes] | None = None,
        *,
        fixed: dict[int, bytes] | None = None,
        writable: Iterable[str] = (),
        signature: bytes = b"QEMU",
        features: int = 3,
        dma_signature: bytes = b"QEMU CFG",
        raw_directory: bytes | None = None,
        fail_dma: bool = False,
    ) -> None:
        files = files or {}
        entries = [Entry(name, 0x20 + n, len(data)) for n, (name, data) in enumerate(files.items())]
        self.items = {0: bytearray(signature), 1: bytearray(features.to_bytes(4, "little"))}
        self.items |= {key: bytearray(data) for key, data in (fixed or {}).items()}
        self.items[0x19] = bytearray(
            directory.build(entries) if raw_directory is None else raw_directory
        )
        self.items |= {entry.key: bytearray(files[entry.name]) for entry in entries}
        self._writable = {entry.key for entry in entries if entry.name in set(writable)}
        self._dma_signature = dma_signature
        self._fail_dma = fail_dma
        self._ram = bytearray(RAM)
        self._key = 0
        self._offset = 0
        self._high = 0
        self.traps = 0

    def outw(self, port: int, value: int) -> None:
        self.traps += 1
        assert port == 0x510
        self._key, self._offset = value, 0

    def outl(self, port: int, value: int) -> None:
        self.traps += 1
        swapped = int.from_bytes(value.to_bytes(4, "little"), "big")
        if port == 0x514:
            self._high = swapped
        else:
            assert port == 0x518
            self._transfer(self._high << 32 | swapped)
            self._high = 0

    def inb(self, port: int) -> Callable[[], int]:
        self.traps += 1
        assert port == 0x511
        item = self.items.get(self._key, bytearray())
        value = item[self._offset] if self._offset < len(item) else 0
        self._offset += 1
        return lambda: value

    def inl(self, port: int) -> Callable[[], int]:
        self.traps += 1
        at = port - 0x514
        value = int.from_bytes(self._dma_signature[at : at + 4], "little")
        return lambda: value

    def write(self, address: int, data: bytes) -> None:
        self.traps += 1
        assert address + len(data) <= RAM
        self._ram[address : address + len(data)] = data

    def read(self, address: int, size: int) -> Callable[[], bytes]:
        self.traps += 1
        data = bytes(self._ram[address : address + size])
        return lambda: data

    def _transfer(self, at: int) -> None:
        control, length = (int.from_bytes(self._ram[at + n : at + n + 4], "big") for n in (0, 4))
        address = int.from_bytes(self._ram[at + 8 : at + 16], "big")
        if control & 8:
            self._key, self._offset = control >> 16, 0
        item = self.items.get(self._key, bytearray())
        error = self._fail_dma
        if control & 2:
            piece = bytes(item[self._offset : self._offset + length]).ljust(length, b"\0")
            if address + length > RAM:
                error = True
            else:
                self._ram[address : address + length] = piece
            self._offset += length
        elif control & 16:
            if self._key not in self._writable or self._offset + length > len(item):
                error = True
            else:
                item[self._offset : self._offset + length] = self._ram[address : address + length]
                self._offset += length
        elif control & 4:
            self._offset += length
        self._ram[at : at + 4] = int(error).to_bytes(4, "big")
