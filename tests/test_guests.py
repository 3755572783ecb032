"""Building guest disks: their content, the cache, two builders at once, and bad sources."""

from __future__ import annotations

import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ImageError
from harness.guests import DISK_SIZE, EFI_SOURCES, PROBE_SOURCE, fat, probe_disk, tools, uefi_disk
from harness.model import Arch, Signing


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


def test_the_second_request_builds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = probe_disk("A", tmp_path)
    before = first.stat()
    monkeypatch.setenv("PATH", "")
    assert probe_disk("A", tmp_path) == first
    assert (first.stat().st_ino, first.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_another_source_is_another_image(tmp_path: Path) -> None:
    source = tmp_path / "probe.asm"
    source.write_bytes(PROBE_SOURCE.read_bytes() + b"\n; edited\n")
    assert probe_disk("A", tmp_path) != probe_disk("A", tmp_path, source=source)


def test_two_builders_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both_missed = threading.Barrier(2, timeout=30)
    run = tools.run

    def run_together(*arguments: Any, **options: Any) -> None:
        both_missed.wait()
        run(*arguments, **options)

    monkeypatch.setattr(tools, "run", run_together)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(probe_disk, ["A", "A"], [tmp_path, tmp_path])
    assert one == other
    assert list(tmp_path.iterdir()) == [one]
    assert one.stat().st_size == DISK_SIZE


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


# ---- UEFI -----------------------------------------------------------------------------------

FILES = {"LABEL": b"A", "EFI/BOOT/BOOTX64.EFI": b"MZ", "a long name.cfg": b"x" * 3000}


def mtools(*argv: str) -> bytes:
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, timeout=30).stdout


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


@pytest.mark.parametrize(("arch", "name", "machine"), [
    (Arch.X86_64, "BOOTX64.EFI", 0x8664),
    (Arch.AARCH64, "BOOTAA64.EFI", 0xAA64),
    (Arch.RISCV64, "BOOTRISCV64.EFI", 0x5064),
])
def test_the_application_is_where_firmware_looks(
    tmp_path: Path, arch: Arch, name: str, machine: int
) -> None:
    image = uefi_disk("A", tmp_path, arch)
    assert list(tmp_path.iterdir()) == [image]
    assert image.stat().st_size == DISK_SIZE
    assert mtools("mtype", "-i", str(image), "::LABEL") == b"A"
    application = mtools("mtype", "-i", str(image), f"::EFI/BOOT/{name}")
    assert application[:2] == b"MZ"
    assert application[0x40:0x46] == b"PE\0\0" + machine.to_bytes(2, "little")


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


@pytest.mark.parametrize(("missing", "package"), [
    ("clang", "clang"), ("ld.lld", "lld"), ("llvm-objcopy", "llvm"), ("mformat", "mtools"),
])
def test_a_missing_tool_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, package: str
) -> None:
    path = tmp_path / "bin"
    path.mkdir()
    for tool in ("clang", "ld.lld", "llvm-objcopy", "mformat", "mmd", "mcopy"):
        if tool != missing:
            (path / tool).symlink_to(Path(str(shutil.which(tool))).resolve())
    monkeypatch.setenv("PATH", str(path))
    with pytest.raises(ImageError, match=rf"{missing} is not installed \(.* {package}\)"):
        uefi_disk("A", tmp_path / "cache")


def test_a_key_with_another_passphrase(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    argv = ["openssl", "genpkey", "-algorithm", "RSA", "-aes256", "-pass", "pass:right"]
    subprocess.run([*argv, "-out", str(key)], check=True, capture_output=True, timeout=60)
    with pytest.raises(ImageError, match="openssl refused"):
        uefi_disk("A", tmp_path / "cache", signing=Signing(key, key, "wrong"))
