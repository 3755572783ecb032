"""The EFI application and its disk."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from bootmatrix.errors import ImageError
from bootmatrix.guests import (
    DISK_SIZE,
    EFI_SOURCES,
    uefi_disk,
)
from bootmatrix.model import PROGRAMS, Arch, Signing
from helpers.mtools import mtools


@pytest.mark.parametrize(("arch", "name", "machine"), [
    (Arch.X86_64, "BOOTX64.EFI", 0x8664),
    (Arch.AARCH64, "BOOTAA64.EFI", 0xAA64),
    (Arch.RISCV64, "BOOTRISCV64.EFI", 0x5064),
    # It needs a clang of its own.
    pytest.param(Arch.LOONGARCH64, "BOOTLOONGARCH64.EFI", 0x6264, marks=pytest.mark.slow),
])
def test_the_application_is_where_firmware_looks(
    tmp_path: Path, arch: Arch, name: str, machine: int
) -> None:
    image = uefi_disk("A", tmp_path, arch)
    assert set(tmp_path.iterdir()) == {image, image.with_suffix(".sha256")}
    assert image.stat().st_size == DISK_SIZE
    assert mtools("mtype", "-i", str(image), "::LABEL") == b"A"
    application = mtools("mtype", "-i", str(image), f"::EFI/BOOT/{name}")
    assert application[:2] == b"MZ"
    assert application[0x40:0x46] == b"PE\0\0" + machine.to_bytes(2, "little")
    for program in PROGRAMS.values():
        assert mtools("mtype", "-i", str(image), f"::{program}") == application


def test_a_uefi_disk_is_built_once_a_label_and_a_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, sources = tmp_path / "cache", tmp_path / "sources"
    shutil.copytree(EFI_SOURCES, sources)
    one, other = uefi_disk("A", cache, sources=sources), uefi_disk("B", cache)
    (sources / "probe.c").write_bytes((sources / "probe.c").read_bytes() + b"/* edited */\n")
    edited = uefi_disk("A", cache, sources=sources)
    assert len({one, other, edited}) == 3
    assert one.read_bytes() == edited.read_bytes() != other.read_bytes()
    monkeypatch.setenv("PATH", "")
    assert uefi_disk("A", cache) == one


def test_a_source_that_does_not_compile_and_a_pointer_that_would_be_relocated(
    tmp_path: Path,
) -> None:
    sources = tmp_path / "sources"
    shutil.copytree(EFI_SOURCES, sources)
    text = (sources / "probe.c").read_text()
    (sources / "probe.c").write_text(text + "nonsense\n")
    with pytest.raises(ImageError, match=r"clang refused probe\.c") as caught:
        uefi_disk("A", tmp_path / "cache", sources=sources)
    assert f"probe.c:{text.count(chr(10)) + 1}:" in caught.value.tail
    (sources / "probe.c").write_text(text + "const char *volatile pointer = disk;\n")
    with pytest.raises(ImageError) as caught:
        uefi_disk("A", tmp_path / "cache", sources=sources)
    assert "relocated" in caught.value.tail
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("label", ["", "a b", "x" * 33, "../a"])
def test_a_label_that_is_none_of_a_uefi_disk(label: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="label"):
        uefi_disk(label, tmp_path)


def test_a_key_with_another_passphrase(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    argv = ["openssl", "genpkey", "-algorithm", "RSA", "-aes256", "-pass", "pass:right"]
    subprocess.run([*argv, "-out", str(key)], check=True, capture_output=True, timeout=300)
    with pytest.raises(ImageError, match="openssl refused"):
        uefi_disk("A", tmp_path / "cache", signing=Signing(key, key, "wrong"))
