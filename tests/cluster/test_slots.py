"""A machine that runs cells for others: what it keeps of a run, and when it forgets one."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cluster import slots
from bootmatrix.cluster.model import PROTOCOL, WorkerFacts
from bootmatrix.cluster.slots import WorkerMachine, home_of
from bootmatrix.errors import HarnessError
from helpers import planted_slot
from helpers.clusters import RUN, SLOT, a_task, plan_in, wait

FACTS = WorkerFacts(protocol=PROTOCOL, axes=[], version="1", name="one", machine="x86_64", slots=1,
                    kvm="", memory=4096, engines=["bubblewrap"], roots={})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("machine")


@pytest.fixture(scope="module")
def own(store: ImageStore, place: Path) -> Iterator[WorkerMachine]:
    cache = place / "cache/bootmatrix"
    cache.mkdir(parents=True)
    (cache / "roots").symlink_to(store._roots)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        patch.setenv(planted_slot.PLAN, str(plan_in(place)))
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
        made = WorkerMachine(FACTS, cache, home_of(cache), SLOT, engine="bubblewrap")
        _, packing, table = a_task(place)
        lacks = made.prepare(RUN, table.model_dump_json().encode())
        assert set(lacks) == set(table.files), "its images are here, and files come"
        for digest in lacks:
            content = packing.sent[digest].path.read_bytes()
            half = len(content) // 2
            made.receive(RUN, digest, False, 0, content[:half], False)
            made.receive(RUN, digest, False, half, content[half:], True)
        yield made
        made.close()
    assert not list((cache / "cluster-runs").iterdir())


@pytest.fixture
def machine(own: WorkerMachine, place: Path) -> WorkerMachine:
    """A machine that knows of a run, and has its builds."""
    plan_in(place)
    _, _, table = a_task(place)
    assert own.prepare(RUN, table.model_dump_json().encode()) == []
    return own


def ran(machine: WorkerMachine, here: Path, wanted: Any = lambda: True, **changes: Any) -> Any:
    task, _, _ = a_task(here, **changes)
    answer, record, packed = machine.run(
        task.run, task.model_dump_json().encode(), wanted, lambda: None)
    return answer.model_dump() | {"record": record and json.loads(record), "packed": packed}


def test_a_cell_is_run(machine: WorkerMachine, place: Path) -> None:
    answer = ran(machine, place)
    assert (answer["state"], answer["record"]["verdict"]) == ("done", "pass")
    assert answer["record"]["engine"] == "bubblewrap", "as the machine was told"
    assert machine.ask(RUN)


def test_a_run_that_is_not_known_is_told(machine: WorkerMachine, place: Path) -> None:
    assert ran(machine, place, run="f" * 16)["state"] == "unknown"
    assert not machine.ask("f" * 16)


def test_a_process_that_ends_is_told_and_another_takes_its_place(
    machine: WorkerMachine, place: Path
) -> None:
    plan_in(place, all={"signal_self": signal.SIGKILL, "once": str(place / "once")})
    lost = ran(machine, place)
    assert lost["state"] == "lost"
    assert "signal 9" in lost["why"]
    assert ran(machine, place)["state"] == "done"


def test_what_nobody_wants_any_more_ends(machine: WorkerMachine, place: Path) -> None:
    plan_in(place, seconds=60)
    begun = time.monotonic()
    assert ran(machine, place, wanted=lambda: False)["state"] == "stopped"
    assert time.monotonic() - begun < 10


def test_a_run_that_nobody_asks_for_is_forgotten(
    machine: WorkerMachine, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_in(place, seconds=60)
    monkeypatch.setattr(slots, "LEASE_SECONDS", 3.0)
    assert machine.ask(RUN)
    assert ran(machine, place)["state"] == "stopped"
    begun = time.monotonic()
    while machine.ask(RUN):
        assert time.monotonic() - begun < 30
        time.sleep(4)  # longer than its lease, which each question begins anew
    while list(machine.home.glob("run-*")):  # it is forgotten first, and then removed
        assert time.monotonic() - begun < 60
        time.sleep(0.05)


def test_a_piece_that_is_missing_or_of_no_run_is_refused(machine: WorkerMachine) -> None:
    with pytest.raises(HarnessError, match="not known"):
        machine.receive("f" * 16, "0" * 64, False, 0, b"x", True)
    machine.receive(RUN, "0" * 64, False, 0, b"x", False)
    with pytest.raises(HarnessError, match="is missing"):
        machine.receive(RUN, "0" * 64, False, 5, b"x", True)


def test_the_end_of_a_machine_ends_what_runs(machine: WorkerMachine, place: Path) -> None:
    begun = place / "begun"
    plan_in(place, seconds=60, log=str(begun))
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(ran(machine, place)))
    thread.start()
    wait(60, begun.exists)
    machine.end_all()
    thread.join(10)
    assert answers[0]["state"] == "lost"


def test_what_a_killed_worker_has_left_goes_and_what_is_in_use_stays(tmp_path: Path) -> None:
    mine = home_of(tmp_path)
    (tmp_path / "cluster-runs/worker-1-dead/run-x").mkdir(parents=True)
    other = home_of(tmp_path)
    assert sorted((tmp_path / "cluster-runs").iterdir()) == sorted([mine, other])
