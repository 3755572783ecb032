"""A process that runs cells for a worker, told them and telling on its standard files."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cluster import artifacts, frames
from bootmatrix.cluster.slot import FORGET
from bootmatrix.cluster.table import BuildCache
from helpers import planted_slot
from helpers.clusters import CELL, RUN, SLOT, a_task, end, plan_in, wait


@pytest.fixture(scope="module")
def place(store: ImageStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run's directory, with its builds here."""
    tmp_path = tmp_path_factory.mktemp("slot")
    (tmp_path / "cache/bootmatrix").mkdir(parents=True)
    (tmp_path / "cache/bootmatrix/roots").symlink_to(store._roots)
    _, packing, table = a_task(tmp_path)
    kept = BuildCache(tmp_path / "cache/bootmatrix", store)
    for digest in table.files:
        with packing.sent[digest].path.open("rb") as file:
            kept.take(digest, False, file)
    kept.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        patch.setenv(planted_slot.PLAN, str(plan_in(tmp_path)))
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
        yield tmp_path


@pytest.fixture(scope="module")
def slot(place: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([*SLOT, "slot-0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one:
        yield one
        end(one)


Told = tuple[dict[str, Any], dict[str, Any], bytes]


def told(slot: subprocess.Popen[bytes], place: Path, **changes: Any) -> Told:
    """What a slot says of a cell, without what says that it lives."""
    task, _, _ = a_task(place, **changes)
    assert slot.stdin is not None
    frames.write(slot.stdin, {"key": "7", "run_dir": str(place)},  # type: ignore[arg-type]
                 task.model_dump_json().encode())
    return heard(slot)


def test_it_lets_go_of_a_run_and_stays(slot: subprocess.Popen[bytes], place: Path) -> None:
    plan_in(place)
    told(slot, place)
    scratch = next(place.glob("scratch-*"), None)
    frames.write(slot.stdin, {"key": FORGET, "run": RUN})  # type: ignore[arg-type]
    while "beat" in (head := frames.read(slot.stdout)[0]):  # type: ignore[arg-type]
        pass
    assert head == {"key": FORGET}
    assert scratch is None or not scratch.exists()
    assert told(slot, place)[0]["answer"]["state"] == "done"


def heard(slot: subprocess.Popen[bytes]) -> Told:
    while True:
        head, record, packed = frames.read(slot.stdout)  # type: ignore[arg-type]
        if "beat" not in head:
            assert head["key"] == "7"
            return head, json.loads(record or b"{}"), packed


def test_a_cell_has_a_record_and_its_files_where_they_are_wanted(
    slot: subprocess.Popen[bytes], place: Path
) -> None:
    plan_in(place)
    head, record, packed = told(slot, place)
    assert head["answer"]["state"] == "done"
    assert record["verdict"] == "pass"
    assert record["artifacts"] == ""
    assert packed == b""
    _, record, packed = told(slot, place, all_artifacts=True)
    assert record["artifacts"] == f"cells/m.yaml/{CELL}"
    artifacts.unpack(packed, place / "here")
    assert (place / "here/1-source/console.log").read_text() == f"SeaBIOS {CELL}\n"
    assert not (place / "cells/m.yaml" / CELL).exists(), "they take no room on the worker"


@pytest.mark.parametrize(("of_run", "of_machine", "taken"), [
    (None, None, "planted"), (None, "bubblewrap", "bubblewrap"), ("docker", None, "docker"),
])
def test_what_the_machine_was_told_is_the_engine_of_a_run_that_names_none(
    slot: subprocess.Popen[bytes], place: Path, of_run: str | None, of_machine: str | None,
    taken: str
) -> None:
    plan_in(place)
    frames.write(slot.stdin, {"key": FORGET, "run": RUN})  # type: ignore[arg-type]
    while "beat" in frames.read(slot.stdout)[0]:  # type: ignore[arg-type]
        pass
    task, _, _ = a_task(place, engine=of_run)
    frames.write(slot.stdin,  # type: ignore[arg-type]
                 {"key": "7", "run_dir": str(place), "engine": of_machine},
                 task.model_dump_json().encode())
    assert heard(slot)[1]["engine"] == taken


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
    head, _, _ = told(slot, place)
    assert (head["answer"]["state"], head["answer"]["why"]) == ("broken", "it has ended")


WORKER = """
import os, signal, subprocess, sys
slot = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
slot.stdout.read(1)  # it says that it lives
slot.send_signal(signal.SIGSTOP)
os.waitid(os.P_PID, slot.pid, os.WSTOPPED | os.WNOWAIT)
print(slot.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_one_that_is_stopped_does_not_outlive_its_worker(place: Path) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", WORKER, *SLOT, "slot-0"], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    wait(15, lambda: is_gone(int(killed.stdout)))


def is_gone(pid: int) -> bool:
    """Whether a process has ended; here nobody may take note of that."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


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


