"""A guest's scratch directory: what is where, what is kept of it, and that it is emptied."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.engines import scratch as module
from bootmatrix.engines.scratch import CONSOLE_LOG, QEMU_LOG, SWTPM_LOG, Scratch
from bootmatrix.errors import CellError
from bootmatrix.model import QemuBuild

BUILD = QemuBuild("q", "5.2.0", "0123456789abcdef" * 4, Path())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_others_of_this_host_cannot_look_in_and_sandboxes_can(tmp_path: Path) -> None:
    with Scratch(tmp_path / "deep" / "scratch") as scratch:
        assert mode(scratch.directory) == 0o700
        assert mode(scratch.private) == mode(scratch.shown(BUILD)) == 0o755
        assert scratch.shown(BUILD).parent == scratch.directory / "shown"
        program = replace(BUILD, digest="another", binary="/usr/bin/another")
        assert scratch.shown(program) == scratch.shown(BUILD), "they can be in one sandbox"
        for elsewhere in ({"root": Path("/x")}, {"mounts": ((Path("/x"), "/y"),)},
                          {"environment": (("A", "b"),)}):
            other: Any = elsewhere
            assert scratch.shown(replace(program, **other)) != scratch.shown(BUILD)
        assert scratch.cell.path == scratch.directory / "cell"


def test_consoles_and_logs_are_kept_and_all_is_emptied(tmp_path: Path) -> None:
    with Scratch(tmp_path / "scratch") as scratch:
        for name in ("1-source", "2-destination"):
            (scratch.private / name).mkdir()
            (scratch.private / name / CONSOLE_LOG).write_text(f"console {name}")
        (scratch.cell.path / "1-source").mkdir()
        (scratch.cell.path / "1-source" / QEMU_LOG).write_text("log")
        (scratch.cell.path / "1-source-tpm").mkdir()
        (scratch.cell.path / "1-source-tpm" / SWTPM_LOG).write_text("its TPM's")
        (scratch.private / "migration-stream").write_text("x")
        (scratch.shown(BUILD) / "bios.bin").write_text("x")
        assert scratch.keep_logs(tmp_path / "cells" / "one") is None
        left = [path for path in scratch.directory.rglob("*") if not path.is_dir()]
        assert left == []
    logs = tmp_path / "cells" / "one"
    assert {str(path.relative_to(logs)): path.read_text() for path in logs.rglob("*.log")} == {
        "1-source/console.log": "console 1-source", "1-source/qemu.log": "log",
        "1-source/swtpm.log": "its TPM's",
        "2-destination/console.log": "console 2-destination",
    }  # fmt: skip


def test_a_log_that_is_no_file_is_told_and_the_rest_kept(tmp_path: Path) -> None:
    with Scratch(tmp_path / "scratch") as scratch:
        for name in ("1-source", "2-destination"):
            (scratch.private / name).mkdir()
            (scratch.cell.path / name).mkdir()
        (scratch.cell.path / "1-source" / QEMU_LOG).symlink_to("/etc/passwd")
        (scratch.cell.path / "2-destination" / QEMU_LOG).write_text("log")
        wrong = scratch.keep_logs(tmp_path / "kept")
    assert isinstance(wrong, CellError)
    assert (tmp_path / "kept" / "2-destination" / QEMU_LOG).read_text() == "log"
    assert not (tmp_path / "kept" / "1-source" / QEMU_LOG).exists()


def test_of_a_long_log_both_ends_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOG_BYTES", 20)
    with Scratch(tmp_path / "scratch") as scratch:
        (scratch.private / "1-source").mkdir()
        (scratch.cell.path / "1-source").mkdir()
        (scratch.cell.path / "1-source" / QEMU_LOG).write_text("A" * 10 + "x" * 99 + "Z" * 10)
        scratch.keep_logs(tmp_path / "kept")
    log = (tmp_path / "kept" / "1-source" / QEMU_LOG).read_text()
    assert log.startswith("A" * 10)
    assert log.endswith("Z" * 10)
    assert "x" not in log
