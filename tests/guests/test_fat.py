"""FAT file systems in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.errors import ImageError
from bootmatrix.guests import (
    DISK_SIZE,
    fat,
)
from helpers.mtools import mtools

FILES = {"LABEL": b"A", "EFI/BOOT/BOOTX64.EFI": b"MZ", "a long name.cfg": b"x" * 3000}


def test_the_files_are_in_the_file_system(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    source = tmp_path / "source"
    source.write_bytes(b"from a file")
    fat.image({**FILES, "source": source}, 40 << 20, image)
    assert image.stat().st_size == 40 << 20
    assert image.stat().st_blocks * 512 < 1 << 20
    assert mtools("mtype", "-i", str(image), "::source") == b"from a file"
    for name, content in FILES.items():
        assert mtools("mtype", "-i", str(image), f"::{name}") == content


def test_the_same_files_are_the_same_bytes_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = tmp_path / "one.img", tmp_path / "other.img"
    fat.image(FILES, DISK_SIZE, one)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    monkeypatch.setenv("MTOOLSRC", str(tmp_path / "none"))
    fat.image(dict(reversed(FILES.items())), DISK_SIZE, other)
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("content", [b"x" * DISK_SIZE, None], ids=["too big", "not there"])
def test_files_that_do_not_fit_or_are_not_there(tmp_path: Path, content: bytes | None) -> None:
    with pytest.raises(ImageError, match=r"mcopy refused the image disk\.img"):
        fat.image({"big": content or tmp_path / "gone"}, DISK_SIZE, tmp_path / "disk.img")


def test_a_size_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="size"):
        fat.image({}, 1000, tmp_path / "disk.img")
