"""What is behind an error: a disk that is full, or no longer is."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.errors import (
    CellError,
    DeadlineExceeded,
    EngineError,
    HarnessError,
    QemuError,
    SandboxLost,
    TpmLost,
)
from bootmatrix.model import QemuBuild
from bootmatrix.run.faults import check_disk, check_engine
from helpers.fakes import hosts


def caused_by(number: int) -> Exception:
    error = CellError("a cell's")
    error.__cause__ = OSError(number, os.strerror(number))
    return error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_faulty_disk_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    with pytest.raises(HarnessError, match=f"cannot go on in {tmp_path}: {os.strerror(number)}"):
        check_disk(caused_by(number), tmp_path, [])


def test_a_disk_with_room_again_lost_a_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 40))
    found = check_disk(caused_by(errno.ENOSPC), tmp_path, hosts(tmp_path / "images"))
    assert isinstance(found, SandboxLost)
    assert "was full while q-11.1.3 and q-5.2.0 and q-7.2.22 ran" in str(found)
    with pytest.raises(HarnessError, match="cannot go on"):
        check_disk(caused_by(errno.EIO), tmp_path, [])


@pytest.mark.parametrize("error", [CellError("x"), caused_by(errno.ENOENT), ValueError("x")])
def test_any_other_error_is_not_the_disks(tmp_path: Path, error: Exception) -> None:
    assert check_disk(error, tmp_path, []) is None


# ---- the engine ---------------------------------------------------------------------------------


class Program:
    """A program that ends, or never does."""

    def __init__(self, ends: bool) -> None:
        self._ends = ends

    def wait(self, deadline: Deadline) -> int:
        if not self._ends:
            raise DeadlineExceeded("it runs")
        return 0


def behind(
    directory: Path, error: HarnessError, *, guest: Any = None, lost: SandboxLost | None = None,
    ends: bool = True,
) -> HarnessError:
    """What check_engine says, with an engine that runs programs, or no longer does."""
    sandbox = SimpleNamespace(cell_dir=directory, launch=lambda argv, log: Program(ends))
    engine: Any = SimpleNamespace(name="fake", sandbox=lambda *args: nullcontext(sandbox))
    build = QemuBuild("q", "5.2.0", "0" * 64, directory)
    return check_engine(error, guest, lost, engine, directory / "scratch", build)


def looking(found: Exception | None) -> Any:
    """A guest whose hosts say that of their engine."""
    def check() -> None:
        if found is not None:
            raise found

    return SimpleNamespace(hosts=SimpleNamespace(check_engine=check))


def test_an_engine_that_still_runs_programs_is_not_behind_it(tmp_path: Path) -> None:
    error = QemuError("ended")
    assert behind(tmp_path, error) is error
    assert behind(tmp_path, error, guest=looking(None)) is error


def test_a_program_that_does_nothing_and_does_not_end(tmp_path: Path) -> None:
    error = QemuError("ended")
    with pytest.raises(EngineError, match="fake no longer runs programs") as caught:
        behind(tmp_path, error, ends=False)
    assert caught.value.__cause__ is error


def test_what_the_guests_machines_say_of_it_counts_more(tmp_path: Path) -> None:
    with pytest.raises(SandboxLost, match="the container has gone"):
        behind(tmp_path, QemuError("ended"), guest=looking(SandboxLost("the container has gone")))
    for found in (CellError("a fifo in the cell"), TpmLost("the guest's swtpm ended")):
        assert behind(tmp_path, QemuError("ended"), guest=looking(found)) is found


def test_an_engine_s_own_error_stops_the_run_and_a_second_loss_does_not(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="it broke"):
        behind(tmp_path, EngineError("it broke"), lost=SandboxLost("before"))
    second = SandboxLost("again")
    with pytest.raises(SandboxLost):
        behind(tmp_path, second)
    assert behind(tmp_path, second, lost=SandboxLost("before")) is second
