"""Disk images that a user names: what is taken, and what is not, before anything runs."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from bootmatrix.errors import UserError
from bootmatrix.files.disk_image import content, is_qcow2, virtual_size
from bootmatrix.guests.qcow2 import empty, image

CONTENT = b"".join(bytes([number]) * 65536 for number in range(1, 4))


def test_what_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "disk"
    file.write_bytes(image(CONTENT))
    assert virtual_size(file, "qcow2") == len(CONTENT)
    file.write_bytes(bytes(1000))
    assert virtual_size(file, "raw") == 1024


@pytest.mark.parametrize(("content", "form", "says"), [
    (b"", "raw", "is empty"), (b"", "qcow2", "no qcow2 image"),
    (b"no image", "qcow2", "no qcow2 image"), (empty(1 << 20), "raw", "is a qcow2 image"),
    (empty(1 << 20)[:50], "qcow2", "is cut off"), (empty(1 << 20)[:1000], "qcow2", "is cut off"),
    (image(CONTENT)[:5 * 65536], "qcow2", "is cut off"),
    (image(CONTENT)[:-65536], "qcow2", "is cut off"),
], ids=["empty", "empty-qcow2", "text", "qcow2-as-raw", "header", "1000", "tables", "data"])
def test_what_is_not_taken(tmp_path: Path, content: bytes, form: str, says: str) -> None:
    file = tmp_path / "disk"
    file.write_bytes(content)
    with pytest.raises(UserError, match=says):
        virtual_size(file, form)


@pytest.mark.parametrize(("at", "kind", "value", "says"), [
    (8, ">Q", 4096, "another file behind it"), (72, ">Q", 4, "another file behind it"),
    (32, ">I", 1, "is encrypted"), (4, ">I", 9, "version"), (20, ">I", 63, "version"),
    (72, ">Q", 1 << 40, "its incompatible features have bit 40"),
    (72, ">Q", 2, "is marked as corrupt"),
], ids=["backing", "data-file", "encrypted", "version", "clusters", "unknown", "corrupt"])
def test_an_image_that_is_not_all_of_its_disk_is_not_taken(
    tmp_path: Path, at: int, kind: str, value: int, says: str
) -> None:
    bad = bytearray(empty(1 << 20))
    struct.pack_into(kind, bad, at, value)
    file = tmp_path / "disk"
    file.write_bytes(bad)
    with pytest.raises(UserError, match=says):
        virtual_size(file, "qcow2")


@pytest.mark.parametrize(("at", "kind", "value", "says"), [
    (36, ">I", 0xFFFFFFFF, "damaged: its table of tables is said to have 4294967295 entries"),
    (36, ">I", 0x10000000, "damaged: its table of tables is said to have 268435456 entries"),
    (36, ">I", 1 << 21, "cut off or damaged: it has"),
    (36, ">I", 0, "damaged: its tables are too short"),
    (40, ">Q", 0xFF_FFFF_FFFF_0000, "cut off or damaged"),
    (40, ">Q", 0xFFFF_FFFF_FFFF_0000, "cut off or damaged"),
    (40, ">Q", 0x30200, "damaged: its table of tables is said to be at 197120, within"),
    (3 * 65536, ">Q", 0xFF_FFFF_FFFF_0000, "cut off or damaged"),
    (100, ">I", 0xFFFFFFFF, "damaged: its header is said to have 4294967295 bytes"),
    (100, ">I", 103, "damaged: its header is said to have 103 bytes, and has 104 to 65536"),
], ids=["entries", "many", "more", "none", "far", "farthest", "aslant", "table", "header", "short"])
def test_a_damaged_header_is_told_without_reading_what_is_not_there(
    tmp_path: Path, at: int, kind: str, value: int, says: str
) -> None:
    bad = bytearray(image(CONTENT))
    struct.pack_into(kind, bad, at, value)
    file = tmp_path / "disk"
    file.write_bytes(bad)
    with pytest.raises(UserError, match=says):
        virtual_size(file, "qcow2")


def test_a_dirty_image_and_one_with_room_for_a_snapshot_are_taken(tmp_path: Path) -> None:
    whole = bytearray(image(CONTENT))
    struct.pack_into(">Q", whole, 72, 1)
    struct.pack_into(">I", whole, 36, 2)
    file = tmp_path / "disk"
    file.write_bytes(whole)
    assert virtual_size(file, "qcow2") == len(CONTENT)
    assert content(file, 1 << 20) == CONTENT


def test_a_compressed_image_is_taken_whole_alone(tmp_path: Path) -> None:
    whole = bytearray(image(CONTENT))
    compressed = 1 << 62 | len(whole)  # its first cluster, in a sector of its own behind all
    struct.pack_into(">Q", whole, 4 * 65536, compressed)
    file = tmp_path / "disk"
    file.write_bytes(whole)
    with pytest.raises(UserError, match="is cut off"):
        virtual_size(file, "qcow2")
    file.write_bytes(whole + bytes(512))
    assert virtual_size(file, "qcow2") == len(CONTENT)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        virtual_size(tmp_path / "none", "raw")


# ---- what is on it ------------------------------------------------------------------------------

TABLE = 4 * 65536
"""Where the image of CONTENT says where its clusters are."""


def compressed(cluster: bytes, image_size: int) -> tuple[int, bytes]:
    """An entry for a cluster that is compressed behind an image, in as many sectors as it needs."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -12)
    packed = packer.compress(cluster) + packer.flush()
    return 1 << 62 | (len(packed) - 1) // 512 << 54 | image_size, packed


def test_what_is_on_a_disk_is_read(tmp_path: Path) -> None:
    file = tmp_path / "disk"
    holes = bytes(65536) + b"x" * 65536 + bytes(65536)
    for held in (CONTENT, CONTENT[:-100], holes, holes + CONTENT):
        file.write_bytes(image(held))
        assert content(file, 1 << 20) == held + bytes(-len(held) % 512)
    file.write_bytes(empty(1 << 20))
    assert content(file, 1 << 20) == bytes(1 << 20)


def test_a_cluster_can_be_compressed_or_be_said_to_be_nothing(tmp_path: Path) -> None:
    file = tmp_path / "disk"
    whole = bytearray(image(CONTENT))
    entry, packed = compressed(b"ab" * 32768, len(whole))
    struct.pack_into(">2Q", whole, TABLE, entry, 1)
    file.write_bytes(whole + packed)
    assert content(file, 1 << 20) == b"ab" * 32768 + bytes(65536) + CONTENT[2 * 65536:]
    file.write_bytes(whole + bytes(len(packed)))
    with pytest.raises(UserError, match="is damaged: a cluster of it does not unpack"):
        content(file, 1 << 20)


def test_an_image_with_tables_that_are_too_short_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "disk"
    whole = bytearray(image(CONTENT))
    struct.pack_into(">Q", whole, 24, 600 << 20)  # more than its one table tells of
    file.write_bytes(whole)
    with pytest.raises(UserError, match="its tables are too short"):
        content(file, 1 << 30)


@pytest.mark.parametrize("feature", [8, 16], ids=["zstd", "subclusters"])
def test_what_is_not_unpacked_is_told(tmp_path: Path, feature: int) -> None:
    file = tmp_path / "disk"
    whole = bytearray(image(CONTENT))
    struct.pack_into(">Q", whole, 72, feature)
    file.write_bytes(whole)
    with pytest.raises(UserError, match="qemu-img convert -O qcow2 makes one without"):
        content(file, 1 << 20)


def test_a_disk_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "disk"
    file.write_bytes(empty(8 << 40))
    with pytest.raises(UserError, match=f"a disk of {8 << 40} bytes, at most 4096 are read"):
        content(file, 4096)


def test_what_begins_like_one(tmp_path: Path) -> None:
    file = tmp_path / "disk"
    for held, found in ((empty(512), True), (b"QFI\xfb", True), (b"QFI", False), (b"", False)):
        file.write_bytes(held)
        assert is_qcow2(file) is found
    assert not is_qcow2(tmp_path)
    assert not is_qcow2(tmp_path / "none")
