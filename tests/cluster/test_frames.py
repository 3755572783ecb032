"""Messages between a worker and its processes."""

from __future__ import annotations

import io
import os
import struct

import pytest

from bootmatrix.cluster import frames


def test_a_message_comes_as_it_went() -> None:
    file = io.BytesIO()
    frames.write(file, {"key": "1"}, b"\0body", b"files")
    frames.write(file, {"beat": True})
    file.seek(0)
    assert frames.read(file) == ({"key": "1"}, b"\0body", b"files")
    assert frames.read(file) == ({"beat": True}, b"", b"")
    with pytest.raises(frames.Ended):
        frames.read(file)


@pytest.mark.parametrize("data", [
    b"", b"\0\0", struct.pack(">III", 2, 0, 0) + b"[]", struct.pack(">III", 2, 0, 0) + b"{",
    struct.pack(">III", 2, 4, 0) + b"{}12", struct.pack(">III", 1 << 31, 0, 0), b"Traceback (most",
])
def test_what_is_cut_off_or_no_message_is_an_end(data: bytes) -> None:
    with pytest.raises(frames.Ended):
        frames.read(io.BytesIO(data))


def test_nobody_at_the_other_end_is_an_end() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    file = os.fdopen(writing, "wb", buffering=0)
    with pytest.raises(frames.Ended):
        frames.write(file, {})
    file.close()
