"""The commands that build guests, and the cache of what they built."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.errors import ImageError
from bootmatrix.guests import (
    DISK_SIZE,
    PROBE_SOURCE,
    probe_disk,
    tools,
    uefi_disk,
)
from bootmatrix.model import Arch


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
    both_missed = threading.Barrier(2, timeout=300)
    run = tools.run

    def run_together(*arguments: Any, **options: Any) -> None:
        both_missed.wait()
        run(*arguments, **options)

    monkeypatch.setattr(tools, "run", run_together)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(probe_disk, ["A", "A"], [tmp_path, tmp_path])
    assert one == other
    assert set(tmp_path.iterdir()) == {one, one.with_suffix(".sha256")}
    assert one.stat().st_size == DISK_SIZE


@pytest.mark.parametrize(("missing", "arch", "package"), [
    ("clang", Arch.X86_64, "clang"), ("mformat", Arch.X86_64, "mtools"),
    pytest.param("ld.lld", Arch.X86_64, "lld", marks=pytest.mark.thorough),
    pytest.param("llvm-objcopy", Arch.X86_64, "llvm", marks=pytest.mark.thorough),
    ("clang-19", Arch.LOONGARCH64, "clang-19 lld-19"),
])
def test_a_missing_tool_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, arch: Arch, package: str
) -> None:
    path = tmp_path / "bin"
    path.mkdir()
    for tool in ("clang", "ld.lld", "llvm-objcopy", "mformat", "mmd", "mcopy"):
        if tool != missing:
            (path / tool).symlink_to(Path(str(shutil.which(tool))).resolve())
    monkeypatch.setenv("PATH", str(path))
    with pytest.raises(ImageError, match=rf"{missing} is not installed \(.* install {package}\)"):
        uefi_disk("A", tmp_path / "cache", arch)
