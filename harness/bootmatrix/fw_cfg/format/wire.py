"""Fields out of bytes: numbers and text at offsets, never past the end."""

from __future__ import annotations

from typing import Literal


class FormatError(ValueError):
    """Bytes that are not what their format says they must be."""


Order = Literal["little", "big"]


class Fields:
    """Fields of ``data``; ``what`` names it in errors. All offsets are in bytes."""

    def __init__(self, data: bytes, what: str, order: Order = "little") -> None:
        self.data = data
        self.what = what
        self.order: Order = order

    def bytes(self, offset: int, size: int) -> bytes:
        """``size`` bytes. Raises FormatError if they are not all there."""
        if offset < 0 or size < 0 or offset + size > len(self.data):
            raise FormatError(
                f"{self.what}: {size} bytes at offset {offset} of only {len(self.data)}"
            )
        return self.data[offset : offset + size]

    def number(self, offset: int, size: int) -> int:
        """An unsigned number of ``size`` bytes. Raises FormatError as ``bytes``."""
        return int.from_bytes(self.bytes(offset, size), self.order)

    def text(self, offset: int, size: int) -> str:
        """Text padded with NULs or blanks; what is not printable ASCII is escaped."""
        return printable(self.bytes(offset, size).split(b"\0", 1)[0]).rstrip(" ")


def printable(raw: bytes) -> str:
    """ASCII text with every other byte as an escape."""
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}" for byte in raw)
