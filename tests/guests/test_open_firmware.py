"""The client program of Open Firmware and its disk."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest

from bootmatrix.errors import ImageError
from bootmatrix.guests import CLIENT_SOURCES, DISK_SIZE, client_disk


def test_the_program_is_in_the_partition_that_firmware_loads(tmp_path: Path) -> None:
    image = client_disk("A", tmp_path)
    assert set(tmp_path.iterdir()) == {image, image.with_suffix(".sha256")}
    content = image.read_bytes()
    assert len(content) == DISK_SIZE
    assert content[510:512] == b"\x55\xaa"
    active, kind, first, sectors = struct.unpack_from("<B3xB3xII", content, 446)
    assert (active, kind, first) == (0x80, 0x41, 1)
    program = content[first * 512:(first + sectors) * 512]
    # A program of 32 bits, big-endian, to be executed, for the PowerPC.
    assert program[:6] == b"\x7fELF\x01\x02"
    assert struct.unpack_from(">HH", program, 16) == (2, 20)
    assert b'disk="A"' in program
    assert not content[(first + sectors) * 512:].strip(b"\0")


def test_a_client_disk_is_built_once_a_label_and_a_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, sources = tmp_path / "cache", tmp_path / "sources"
    shutil.copytree(CLIENT_SOURCES, sources)
    one, other = client_disk("A", cache, sources=sources), client_disk("B", cache)
    (sources / "probe.c").write_bytes((sources / "probe.c").read_bytes() + b"/* edited */\n")
    edited = client_disk("A", cache, sources=sources)
    assert len({one, other, edited}) == 3
    assert one.read_bytes() == edited.read_bytes() != other.read_bytes()
    monkeypatch.setenv("PATH", "")
    assert client_disk("A", cache) == one


def test_a_source_that_does_not_compile_and_one_that_is_too_large(tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    shutil.copytree(CLIENT_SOURCES, sources)
    text = (sources / "probe.c").read_text()
    (sources / "probe.c").write_text(text + "nonsense\n")
    with pytest.raises(ImageError, match=r"clang refused probe\.c"):
        client_disk("A", tmp_path / "cache", sources=sources)
    (sources / "probe.c").write_text(text + "const char large[2000000] = {1};\n")
    with pytest.raises(ImageError, match="more than its disk"):
        client_disk("A", tmp_path / "cache", sources=sources)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("label", ["", "a b", "x" * 33, "../a"])
def test_a_label_that_is_none_of_a_client_disk(label: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="label"):
        client_disk(label, tmp_path)
