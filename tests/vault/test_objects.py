"""Files by their content: what is equal is there once, and what is not as it was is named."""

from __future__ import annotations

import hashlib
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bootmatrix.errors import UserError
from bootmatrix.vault.objects import Objects

CONTENT = b"firmware" * 10_000


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return Objects(tmp_path / "objects")


def test_what_is_equal_is_there_once_and_small(objects: Objects, tmp_path: Path) -> None:
    file = tmp_path / "bios.bin"
    file.write_bytes(CONTENT)
    digest, size = objects.put(file)
    assert (digest, size) == (hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
    assert objects.put(CONTENT) == (digest, size)
    assert [path.name for path in objects.directory.iterdir()] == [f"{digest}.xz"]
    assert objects.path(digest).stat().st_size < 1000
    assert objects.get(digest) == CONTENT
    objects.get_into(digest, size, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT
    objects.check(digest, size)


def test_what_is_damaged_is_put_anew(objects: Objects) -> None:
    digest, size = objects.put(CONTENT)
    whole = objects.path(digest).read_bytes()
    objects.path(digest).write_bytes(whole[:-20])
    assert objects.put(CONTENT) == (digest, size)
    assert objects.path(digest).read_bytes() == whole


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flipped(path: Path) -> None:
    packed = bytearray(path.read_bytes())
    packed[len(packed) // 2] ^= 1
    path.write_bytes(packed)


def another(path: Path) -> None:
    path.write_bytes(lzma.compress(b"another"))


def more(path: Path) -> None:
    path.write_bytes(path.read_bytes() + lzma.compress(b"more"))


def plain(path: Path) -> None:
    path.write_bytes(b"no xz")


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(("damage", "says"), [
    (cut, "cut off"), (flipped, "is damaged"), (another, "not those that it was named for"),
    (more, "more behind its end"), (plain, "is damaged"), (Path.unlink, "No such file"),
    (link, "no regular file"), (fifo, "no regular file"), (emptied, "cut off"),
], ids=["cut", "flipped", "another", "more", "plain", "gone", "link", "fifo", "emptied"])
def test_what_is_damaged_is_named(
    objects: Objects, damage: Callable[[Path], None], says: str
) -> None:
    digest, size = objects.put(CONTENT)
    damage(objects.path(digest))
    for look in (lambda: objects.get(digest), lambda: objects.check(digest, size)):
        with pytest.raises(UserError, match=says) as caught:
            look()
        assert str(objects.path(digest)) in str(caught.value)


def test_what_unpacks_to_more_than_it_may_is_not_unpacked(objects: Objects) -> None:
    digest, size = objects.put(bytes(64 << 20))
    assert objects.path(digest).stat().st_size < 20_000
    with pytest.raises(UserError, match="unpacks to more than 1000 bytes"):
        objects.get(digest, 1000)
    with pytest.raises(UserError, match=f"more than {size - 1} bytes"):
        objects.check(digest, size - 1)
    with pytest.raises(UserError, match=f"it has {size} bytes, not {size + 1}"):
        objects.check(digest, size + 1)


def test_a_stream_that_would_take_much_memory_is_not_unpacked(objects: Objects) -> None:
    content = b"memory" * 1000
    greedy = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 512 << 20}]
    digest = hashlib.sha256(content).hexdigest()
    objects.put(b"")
    objects.path(digest).write_bytes(lzma.compress(content, filters=greedy))
    with pytest.raises(UserError, match="Memory usage limit"):
        objects.get(digest)


def test_the_directory_is_no_link(objects: Objects, tmp_path: Path) -> None:
    digest, _ = objects.put(CONTENT)
    objects.directory.rename(tmp_path / "elsewhere")
    objects.directory.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="and no link"):
        objects.get(digest)


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "objects").symlink_to("elsewhere")
    with pytest.raises(UserError, match="and no link"):
        Objects(tmp_path / "objects").put(CONTENT)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="the directory of a vault's files"):
        Objects(tmp_path / "file").put(CONTENT)
