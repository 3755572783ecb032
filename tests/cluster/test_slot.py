"""A process that runs cells for a worker, told them and telling on its standard files."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cluster import artifacts, frames
from bootmatrix.cluster.table import Kept
from helpers import planted_slot
from helpers.clusters import CELL, SLOT, a_task, end, plan_in


@pytest.fixture
def place(store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's directory, with its builds here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(planted_slot.PLAN, str(plan_in(tmp_path)))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    (tmp_path / "cache/bootmatrix").mkdir(parents=True)
    (tmp_path / "cache/bootmatrix/roots").symlink_to(store._roots)
    _, packing, table = a_task(tmp_path)
    kept = Kept(tmp_path / "cache/bootmatrix", store)
    for digest in table.files:
        with packing.sent[digest].path.open("rb") as file:
            kept.take(digest, False, file)
    kept.close()
    return tmp_path


@pytest.fixture
def slot(place: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([*SLOT, "slot-0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one:
        yield one
        end(one)


def told(slot: subprocess.Popen[bytes], place: Path, **changes: Any) -> tuple[dict[str, Any], Any]:
    """What a slot says of a cell, without what says that it lives."""
    task, _, _ = a_task(place, **changes)
    assert slot.stdin is not None
    frames.write(slot.stdin, {"key": "7", "run_dir": str(place)},  # type: ignore[arg-type]
                 task.model_dump_json().encode())
    return heard(slot)


def heard(slot: subprocess.Popen[bytes]) -> tuple[dict[str, Any], Any]:
    while True:
        head, body = frames.read(slot.stdout)  # type: ignore[arg-type]
        if "beat" not in head:
            assert head["key"] == "7"
            return head, body


def test_a_cell_has_a_record_and_its_files_where_they_are_wanted(
    slot: subprocess.Popen[bytes], place: Path
) -> None:
    head, packed = told(slot, place)
    assert head["answer"]["record"]["verdict"] == "pass"
    assert head["answer"]["record"]["artifacts"] == ""
    assert packed == b""
    head, packed = told(slot, place, all_artifacts=True)
    assert head["answer"]["record"]["artifacts"] == f"cells/m.yaml/{CELL}"
    artifacts.unpack(packed, place / "here")
    assert (place / "here/1-source/console.log").read_text() == f"SeaBIOS {CELL}\n"
    assert not (place / "cells/m.yaml" / CELL).exists(), "they take no room on the worker"


def test_a_cell_that_is_waited_for_lets_others_go_first(
    slot: subprocess.Popen[bytes], place: Path
) -> None:
    plan_in(place, all={"waits": 1.0})
    assert told(slot, place)[0] == {"key": "7", "waits": True}
    assert heard(slot)[0]["answer"]["state"] == "done"


def test_what_is_no_cell_and_what_breaks_the_rig_are_told(
    slot: subprocess.Popen[bytes], place: Path
) -> None:
    assert told(slot, place, id="another")[0]["answer"]["state"] == "broken"
    plan_in(place, all={"engine": "it has ended"})
    head, _ = told(slot, place)
    assert (head["answer"]["state"], head["answer"]["why"]) == ("broken", "it has ended")


def test_it_ends_with_its_worker_in_the_middle_of_a_cell(place: Path) -> None:
    plan_in(place, all={"seconds": 60})
    with subprocess.Popen([*SLOT, "slot-0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one:
        task, _, _ = a_task(place)
        frames.write(one.stdin, {"key": "7", "run_dir": str(place)},  # type: ignore[arg-type]
                     task.model_dump_json().encode())
        assert frames.read(one.stdout)[0] == {"beat": True}  # type: ignore[arg-type]
        assert one.stdin is not None
        assert one.stdout is not None
        one.stdin.close()
        one.stdout.close()
        assert one.wait(10) is not None


