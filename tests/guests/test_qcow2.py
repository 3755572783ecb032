"""Disk images in qcow2, as qemu-img would read them; a QEMU does so in test_modes_on_qemu."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from bootmatrix.errors import UserError
from bootmatrix.files.disk_image import HEADER, MAGIC
from bootmatrix.guests.qcow2 import converted, empty, image

CLUSTER = 1 << 16


def read(data: bytes) -> bytes:
    """The content of an image, by its own tables."""
    fields = HEADER.unpack(data[:HEADER.size])
    assert fields[:2] == (MAGIC, 3)
    size, (tables,) = fields[5], struct.unpack_from(">Q", data, fields[8])
    counts, = struct.unpack_from(">Q", data, fields[9])
    content = b""
    for number in range(-(-size // CLUSTER)):
        (entry,) = struct.unpack_from(">Q", data, (tables & ~(1 << 63)) + 8 * number)
        at = entry & ~(1 << 63)
        content += data[at:at + CLUSTER] if at else bytes(CLUSTER)
        assert struct.unpack_from(">H", data, counts + 2 * (at // CLUSTER)) == (1,)
    return content[:size]


@pytest.mark.parametrize("content", [
    b"x" * 512, b"a" * CLUSTER + bytes(CLUSTER) + b"b" * 512, bytes(3 * CLUSTER), b"short",
], ids=["one", "a hole", "nothing", "no sector"])
def test_it_holds_the_content(content: bytes) -> None:
    data = image(content)
    assert read(data) == content + bytes(-len(content) % 512)
    assert len(data) % CLUSTER == 0
    every = struct.iter_unpack(">H", data[2 * CLUSTER:3 * CLUSTER])
    assert sum(count for count, in every) == len(data) // CLUSTER


def test_what_is_no_disk() -> None:
    with pytest.raises(ValueError, match="a disk of 0 bytes"):
        image(b"")
    with pytest.raises(UserError, match="a disk of 0 bytes"):
        empty(0)


def test_a_raw_disk_is_converted_once(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(b"content" * 100)
    made = converted(raw, tmp_path / "cache")
    assert read(made.read_bytes())[:700] == b"content" * 100
    assert converted(raw, tmp_path / "cache") == made
