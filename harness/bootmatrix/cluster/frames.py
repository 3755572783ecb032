"""Messages between a worker and the processes that run its cells: JSON, and two parts behind it.

Each has twelve bytes before it: the lengths of the three.
"""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO

_LENGTHS = struct.Struct(">III")
LARGEST = 256 << 20
"""The most bytes of each part: the logs of a cell are bounded by far less."""


class Ended(EOFError):
    """Nobody is at the other end, or what came is no message."""


def write(
    file: BinaryIO, head: dict[str, Any], body: bytes = b"", packed: bytes = b""
) -> None:
    """Write a message. Raises Ended."""
    text = json.dumps(head).encode()
    try:
        file.write(_LENGTHS.pack(len(text), len(body), len(packed)) + text + body + packed)
        file.flush()
    except (OSError, ValueError) as error:
        raise Ended(str(error)) from None


def read(file: BinaryIO) -> tuple[dict[str, Any], bytes, bytes]:
    """Read a message. Raises Ended."""
    lengths = _LENGTHS.unpack(_exactly(file, _LENGTHS.size))
    if max(lengths) > LARGEST:
        raise Ended("what came is no message")
    text, body, packed = (_exactly(file, length) for length in lengths)
    try:
        head = json.loads(text)
    except ValueError:
        raise Ended("what came is no message") from None
    if not isinstance(head, dict):
        raise Ended("what came is no message")
    return head, body, packed


def _exactly(file: BinaryIO, length: int) -> bytes:
    try:
        data = file.read(length)
    except (OSError, ValueError) as error:
        raise Ended(str(error)) from None
    if len(data) != length:
        raise Ended("it has ended")
    return data
