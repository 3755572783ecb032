"""Cells on three machines, each a network namespace, with real faults; what boots is planted."""

from __future__ import annotations

import math
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cell import Cell
from bootmatrix.cluster import client, rig
from bootmatrix.cluster.rig import ClusterRig
from bootmatrix.cluster.wishes import ClusterWishes
from bootmatrix.matrix.expansion import load
from bootmatrix.records.model import Record
from bootmatrix.run.rig import Begun
from helpers.clusters import HEAD, Machine, Network, Scheduler, plan_in, wait

MATRIX = HEAD + """\
  machine: [pc-i440fx-5.2, pc-q35-5.2]
  policy: [stock, guest-owned, machine-owned]
  scenario: [migrate-reset, ping-pong]
  disk: [ahci, virtio]
"""
CELLS = 24


class Place:
    """Two workers and a scheduler on machines of their own; the run is on a fourth."""

    def __init__(self, network: Network) -> None:
        self.home = network.home
        self.log = self.home / "log"
        self.plan = plan_in(self.home)
        first, second, third = (network.machine(number).with_roots() for number in (2, 3, 4))
        self.machines = {"one": second, "two": third}
        self.scheduler: Scheduler = first.scheduler()
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        for name in self.machines:
            self.start(name)

    def start(self, name: str) -> None:
        self.workers[name] = self.machines[name].worker(
            self.scheduler.address, name, 2, self.plan)

    def machine(self, name: str) -> Machine:
        return self.machines[name]

    def planned(self, **plan: Any) -> None:
        self.log.unlink(missing_ok=True)
        plan_in(self.home, log=str(self.log), **{"seconds": 0.15, **plan})

    def began(self) -> Counter[str]:
        """How often each cell was begun, wherever."""
        return Counter(line.split()[1] for line in self.log.read_text().splitlines())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, store: ImageStore) -> Iterator[Place]:
    with Network(tmp_path_factory.mktemp("cluster")) as network:
        yield Place(network)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not heard is soon not waited for; the times themselves are docs/cluster.md's."""
    monkeypatch.setattr(client, "SILENT_SECONDS", 4.0)


class Ran:
    """A run's records, in the order in which they came, and what was said of workers."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.said: list[str] = []
        self.most_flying = 0

    @property
    def verdicts(self) -> Counter[str]:
        return Counter(record["verdict"] for record in self.records)

    def workers(self) -> set[str]:
        return {str(record.get("worker")) for record in self.records}


def cells_of(home: Path, own: ClusterRig) -> Sequence[Cell]:
    (home / "m.yaml").write_text(MATRIX)
    cells: Sequence[Cell] = load(home / "m.yaml").cells(own.machines)
    return cells


def run(
    place: Place, run_dir: Path, meanwhile: Callable[[Ran], None] = lambda ran: None
) -> Ran:
    """Run all cells as the plugin does."""
    ran = Ran()
    wishes = ClusterWishes(place.scheduler.address, insecure=True)
    with closing(ClusterRig(wishes, None, run_dir)) as own:
        own.matrix = "m.yaml"
        cells = list(cells_of(place.home, own))[::-1]
        assert len(cells) == CELLS
        own.prepare(dict.fromkeys(host for cell in cells for host in cell.hosts))
        own.open(cells, ran.said.append)
        flying: dict[Begun, Cell] = {}
        while cells or flying:
            while cells and own.has_capacity:
                cell = cells.pop()
                flying[own.begin(cell, ())] = cell
            ran.most_flying = max(ran.most_flying, len(flying))
            for begun in own.wait(0.1):
                ran.records.append(begun.record())
                del flying[begun]
                meanwhile(ran)
    return ran


def at(number: int, deed: Callable[[], None]) -> Callable[[Ran], None]:
    """Do something once, when so many cells are done."""
    done: list[bool] = []

    def meanwhile(ran: Ran) -> None:
        if len(ran.records) >= number and not done:
            done.append(True)
            deed()

    return meanwhile


def test_each_cell_comes_once_from_both_machines(place: Place, tmp_path: Path) -> None:
    red = "old-to-new,pc-q35-5.2,guest-owned,migrate-reset,ahci"
    place.planned(**{red: {"verdict": "silent", "reason": "not a byte"}})
    ran = run(place, tmp_path)
    assert ran.verdicts == {"pass": CELLS - 1, "silent": 1}
    assert len({record["cell"]["id"] for record in ran.records}) == CELLS
    assert set(place.began().values()) == {1}
    assert ran.workers() == {"one", "two"}
    assert ran.most_flying <= 4 + 12, "no more are on their way than keep the workers busy"
    # Of what passed no files came, and the record names none.
    kept = {path.name for path in (tmp_path / "cells/m.yaml").iterdir()}
    assert kept == {red}
    assert (tmp_path / f"cells/m.yaml/{red}/1-source/console.log").read_text() == \
        f"SeaBIOS {red}\n"
    for record in ran.records:
        there = f"cells/m.yaml/{red}" if record["cell"]["id"] == red else ""
        assert record.get("artifacts") == there


@pytest.mark.thorough
def test_a_worker_that_is_killed_loses_nothing(place: Place, tmp_path: Path) -> None:
    place.planned(stock={"signal_worker": signal.SIGKILL, "once": str(tmp_path / "once")})
    ran = run(place, tmp_path / "run")
    assert ran.verdicts == {"pass": CELLS}
    assert len({record["cell"]["id"] for record in ran.records}) == CELLS
    assert [line for line in ran.said if "has gone" in line]
    assert max(place.began().values()) == 2
    again = [record for record in ran.records if "attempts" in record]
    assert 1 <= len(again) <= 2, "what was on that machine was run again"
    dead, = (name for name, process in place.workers.items() if process.poll() is not None)
    place.start(dead)


@pytest.mark.thorough
def test_what_ends_hangs_or_never_ends_and_a_full_disk_give_no_verdict(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = "old-to-new,pc-q35-5.2,guest-owned,ping-pong,ahci"
    endless = "old-to-new,pc-q35-5.2,guest-owned,migrate-reset,ahci"
    monkeypatch.setattr(rig, "_most", lambda cell: 6.0 if cell.id == endless else math.inf)
    place.planned(
        stock={"signal_self": signal.SIGSTOP, "once": str(tmp_path / "hung")},
        **{bad: {"signal_self": signal.SIGKILL},
           endless: {"seconds": 600, "once": str(tmp_path / "endless")},
           "machine-owned": {"full_disk": True, "once": str(tmp_path / "full")}})
    ran = run(place, tmp_path / "run")
    assert ran.verdicts == {"pass": CELLS - 1, "error": 1}
    assert (tmp_path / "hung").exists()
    told = [line for line in ran.said if "no cell goes there any more" in line]
    assert len(told) == 1
    assert "No space left on device" in told[0]
    error, = (record for record in ran.records if record["verdict"] == "error")
    assert error["cell"]["id"] == bad
    assert error["reason"].startswith("run 3 times, on ")
    assert "the process that ran it has ended (signal 9)" in error["reason"]
    assert place.began()[bad] == client.MOST_ATTEMPTS
    again, = (record for record in ran.records if record["cell"]["id"] == endless)
    assert again["attempts"] == 2


@pytest.mark.thorough
def test_a_worker_that_is_stopped_is_not_waited_for_and_comes_back(
    place: Place, tmp_path: Path
) -> None:
    place.planned(seconds=0.4)
    stopped = place.workers["one"]
    ran = run(place, tmp_path, at(4, lambda: stopped.send_signal(signal.SIGSTOP)))
    assert ran.verdicts == {"pass": CELLS}
    assert [line for line in ran.said if line.startswith("one: nothing is heard of it")]
    stopped.send_signal(signal.SIGCONT)
    assert run(place, tmp_path / "later").workers() == {"one", "two"}


@pytest.mark.slow
def test_a_machine_that_is_cut_off_ends_what_it_runs(place: Place, tmp_path: Path) -> None:
    place.planned(seconds=0.4)
    ran = run(place, tmp_path, at(4, place.machine("two").cut))
    assert ran.verdicts == {"pass": CELLS}
    assert ran.records[-1].get("worker") == "one"
    # What it runs would go on, and nobody can want it.
    runs = place.machine("two").cache / "bootmatrix/cluster-runs"
    wait(15, lambda: not list(runs.glob("*/run-*")))
    place.machine("two").mend()
