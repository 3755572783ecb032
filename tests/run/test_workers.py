"""How many cells side by side: more than cores, as far as there is memory."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bootmatrix.plugin import recorder
from bootmatrix.run import workers
from bootmatrix.run.workers import FOR_EACH_CORE, WORKER_MIB, available_mib, side_by_side


def meminfo(directory: Path, mib: int) -> Path:
    file = directory / "meminfo"
    file.write_text(f"MemTotal:  99999999 kB\nMemAvailable: {mib << 10} kB\nBuffers: 1 kB\n")
    return file


@pytest.mark.parametrize(("mib", "expected"), [
    (100 * WORKER_MIB, 4 * FOR_EACH_CORE), (5 * WORKER_MIB, 5), (4 * WORKER_MIB, 4), (1, 4),
])  # fmt: skip
def test_as_many_as_there_is_memory_for_and_no_less_than_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mib: int, expected: int
) -> None:
    monkeypatch.setattr(workers, "usable_cores", lambda: 4)
    assert side_by_side(meminfo(tmp_path, mib)) == expected


def test_a_machine_that_does_not_tell_its_memory_gets_its_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "usable_cores", lambda: 4)
    (tmp_path / "odd").write_text("nothing of the kind")
    for file in (tmp_path / "odd", tmp_path / "missing"):
        assert available_mib(file) == 0
        assert side_by_side(file) == 4


def test_this_machine_has_memory() -> None:
    assert available_mib() > 0


@pytest.mark.parametrize(("arguments", "ours"), [
    (["matrices/quickstart.yaml"], True), (["a.yaml", "b.yml::cell,x"], True),
    (["matrices/quickstart.yaml", "tests"], False), (["tests"], False),
])  # fmt: skip
def test_pytests_auto_is_ours_where_all_is_matrices(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], ours: bool
) -> None:
    monkeypatch.delenv("PYTEST_XDIST_AUTO_NUM_WORKERS", raising=False)
    monkeypatch.setattr(recorder, "side_by_side", lambda: 7)
    config: Any = SimpleNamespace(args=arguments)
    assert recorder.pytest_xdist_auto_num_workers(config) == (7 if ours else None)
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", "3")
    assert recorder.pytest_xdist_auto_num_workers(config) is None
