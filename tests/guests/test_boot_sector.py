"""The boot sector's disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.errors import ImageError
from bootmatrix.guests import (
    DISK_SIZE,
    PROBE_SOURCE,
    probe_disk,
    tools,
)


def test_the_image_is_a_bootable_sparse_floppy(tmp_path: Path) -> None:
    image = probe_disk("A", tmp_path / "cache")
    data = image.read_bytes()
    assert len(data) == DISK_SIZE == 80 * 2 * 18 * 512
    assert data[510:512] == b"\x55\xaa"
    assert image.stat().st_blocks * 512 < DISK_SIZE // 10


def test_the_partition_table_is_empty(tmp_path: Path) -> None:
    # QEMU guesses the geometry from entries there; the probe reads its first track by CHS.
    assert probe_disk("A", tmp_path).read_bytes()[0x1BE:0x1FE] == bytes(64)


def test_the_label_is_what_differs(tmp_path: Path) -> None:
    one, other = probe_disk("A", tmp_path), probe_disk("B", tmp_path)
    assert one != other
    assert b'disk="A"\0' not in one.read_bytes()  # more of the line follows
    assert b'" disk="A" fw-cfg="\0' in one.read_bytes()
    assert one.read_bytes().replace(b'disk="A"', b'disk="B"') == other.read_bytes()


@pytest.mark.parametrize("label", ["", "a b", "it's", 'a"b', "x" * 33, "a\n", "../a"])
def test_a_label_that_could_not_be_printed_is_refused(label: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="label"):
        probe_disk(label, tmp_path)


def test_a_bad_source_is_told_with_nasms_words(tmp_path: Path) -> None:
    source = tmp_path / "probe.asm"
    source.write_text("mov ax, nowhere\n")
    cache = tmp_path / "cache"
    with pytest.raises(ImageError) as caught:
        probe_disk("A", cache, source=source)
    assert "probe.asm:1" in caught.value.tail
    assert "nowhere" in caught.value.tail
    assert caught.value.status == 1
    assert caught.value.argv[0] == "nasm"
    assert list(cache.iterdir()) == []


def test_a_boot_sector_that_grew_into_the_partition_table_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "probe.asm"
    text = PROBE_SOURCE.read_text()
    source.write_text(text.replace("text_disk_error db", "times 300 nop\ntext_disk_error db"))
    assert source.read_text() != text
    with pytest.raises(ImageError) as caught:
        probe_disk("A", tmp_path / "cache", source=source)
    assert "negative" in caught.value.tail


def test_more_than_a_floppy_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "probe.asm"
    source.write_text(f"times {DISK_SIZE + 1} db 0\n")
    with pytest.raises(ImageError, match="more than"):
        probe_disk("A", tmp_path / "cache", source=source)


def test_a_payload_that_grew_over_the_first_track_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "probe.asm"
    text = PROBE_SOURCE.read_text()
    source.write_text(text.replace("\nbeats ", "\ntimes 9000 db 0\nbeats "))
    assert source.read_text() != text
    with pytest.raises(ImageError) as caught:
        probe_disk("A", tmp_path / "cache", source=source)
    assert "first track" in caught.value.tail


def test_a_missing_source_and_a_missing_nasm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ImageError, match=r"gone\.asm"):
        probe_disk("A", tmp_path, source=tmp_path / "gone.asm")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageError, match="nasm is not installed"):
        probe_disk("A", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_assembler_that_hangs_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nasm = tmp_path / "nasm"
    nasm.write_text("#!/bin/sh\nexec tail -f /dev/null\n")
    nasm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(tools, "SECONDS", 0.2)
    with pytest.raises(ImageError, match="still ran"):
        probe_disk("A", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
