"""A session's cells on workers, which boot nothing: pytest's own options, and how a run ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bootmatrix.builds.image_store import ImageStore, cache_home
from bootmatrix.cli.main import main
from bootmatrix.cluster.slots import LEASE_SECONDS
from bootmatrix.errors import Status
from helpers.clusters import HEAD, Loopback, below, end, plan_in, wait

MATRIX = HEAD + """\
  machine: pc-i440fx-5.2
  policy: [stock, guest-owned, machine-owned]
  scenario: [migrate-reset, ping-pong]
known:
  - {when: {policy: guest-owned, scenario: ping-pong}, verdict: silent, reason: as ever}
"""
RED = "old-to-new,pc-i440fx-5.2,stock,migrate-reset,ahci"
KNOWN = "old-to-new,pc-i440fx-5.2,guest-owned,ping-pong,ahci"
PLAN: dict[str, Any] = {RED: {"verdict": "silent", "reason": "not a byte"},
                        KNOWN: {"verdict": "silent", "reason": "not a byte"}}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, store: ImageStore) -> Iterator[Loopback]:
    home = tmp_path_factory.mktemp("loopback")
    (home / "m.yaml").write_text(MATRIX)
    with Loopback(home) as cluster:
        cluster.worker("one")
        yield cluster


def argv_of(cluster: Loopback, words: Sequence[str], program: str) -> list[str]:
    option = "--cluster" if program == "bootmatrix" else "--bootmatrix-cluster"
    start = [sys.executable, "-m", "bootmatrix", "run", "m.yaml"] if program == "bootmatrix" else \
        [sys.executable, "-m", "pytest", "m.yaml", "-p", "no:hypothesispytest"]
    return [*start, option, cluster.scheduler.address, *words]


def ran(cluster: Loopback, *words: str, program: str = "bootmatrix") -> Any:
    return subprocess.run(
        argv_of(cluster, words, program), cwd=cluster.home, capture_output=True, text=True,
        timeout=120)


def records_in(run: Path) -> list[Any]:
    return [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]


@pytest.mark.thorough
def test_reports_are_those_of_any_run_and_what_failed_is_run_again(cluster: Loopback) -> None:
    plan_in(cluster.home, **PLAN)
    done = ran(cluster, "--bootmatrix-run-dir", "first", "--junit-xml", "junit.xml",
               "--bootmatrix-repeat", "2", program="pytest")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "2 failed, 8 passed, 2 xfailed" in done.stdout
    records = records_in(cluster.home / "first")
    assert sorted(record["repeat"] for record in records) == [1] * 6 + [2] * 6
    assert {record["worker"] for record in records} == {"one"}
    assert {record["matrix"] for record in records} == {"m.yaml"}
    cases = list(ElementTree.parse(cluster.home / "junit.xml").iter("testcase"))
    assert len(cases) == 12
    assert sum(case.find("failure") is not None for case in cases) == 2
    assert sum(case.find("skipped") is not None for case in cases) == 2, "the known ones"
    assert (cluster.home / "first/cells/m.yaml" / RED / "1-source/console.log").exists()
    again = ran(cluster, "--lf", "-x", "--bootmatrix-repeat", "2", program="pytest")
    assert again.returncode == pytest.ExitCode.TESTS_FAILED, again.stdout
    assert " 1 failed, 10 deselected in " in again.stdout, "the other one is not run any more"


def with_cells_in_it(
    cluster: Loopback, run_dir: str, **how: Any
) -> tuple[subprocess.Popen[bytes], Callable[[], bool]]:
    """A run of which a cell has begun, and is not over for a minute; and whether it has ended."""
    begun = cluster.home / f"{run_dir}.begun"
    plan_in(cluster.home, seconds=60, log=str(begun))
    run = subprocess.Popen(argv_of(cluster, ["--run-dir", run_dir], "bootmatrix"),
                           cwd=cluster.home, **how)
    wait(60, begun.exists)
    worker = cluster.processes[1].pid
    there = below(worker)
    assert there
    return run, lambda: not {*there} & {*below(worker)}


@pytest.mark.thorough
def test_ctrl_c_ends_it_and_leaves_nothing(cluster: Loopback) -> None:
    run, ended = with_cells_in_it(
        cluster, "interrupted", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    run.send_signal(signal.SIGINT)
    said = run.communicate(timeout=30)[0].decode()
    assert run.returncode == Status.INTERRUPTED, said
    wait(10, ended)


@pytest.mark.thorough
def test_a_run_that_is_killed_leaves_nothing_on_any_machine(cluster: Loopback) -> None:
    run, ended = with_cells_in_it(
        cluster, "killed", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end(run, signal.SIGKILL)
    wait(10, ended)
    homes, worker = cache_home() / "cluster-runs", cluster.processes[1]
    wait(LEASE_SECONDS + 6, lambda: not list(homes.glob(f"worker-{worker.pid}-*/run-*")))


@pytest.mark.slow
def test_a_run_whose_scheduler_dies_can_be_gone_on_with(cluster: Loopback) -> None:
    plan_in(cluster.home, **{"seconds": 0.1, "machine-owned": {"seconds": 60}})
    run = subprocess.Popen(
        argv_of(cluster, ["--run-dir", "lost"], "bootmatrix"), cwd=cluster.home,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    records = cluster.home / "lost/records.jsonl"
    wait(60, lambda: records.exists() and len(records.read_text().splitlines()) >= 3)
    port = int(cluster.scheduler.address.rpartition(":")[2])
    end(cluster.scheduler.process, signal.SIGKILL)
    said = run.communicate(timeout=60)[0].decode()
    assert run.returncode == Status.RIG_BROKEN, said
    assert "the scheduler has gone" in said
    assert "--resume" in said
    wait(15, lambda: not below(cluster.processes[1].pid))
    plan_in(cluster.home)
    cluster.scheduler = cluster.schedule(port)
    done = ran(cluster, "--resume", "lost")
    assert done.returncode == Status.GREEN, done.stdout + done.stderr
    found = records_in(cluster.home / "lost")
    assert sorted(record["cell"]["id"] for record in found) == sorted(
        {record["cell"]["id"] for record in found})
    assert len(found) == 6


@pytest.mark.parametrize(("words", "told"), [
    (["-n", "2"], "-n is for one machine"),
    (["--cluster-tls", "nowhere"], "is tls://, not tcp://"),
])
def test_what_cannot_be_is_told_in_a_line(
    words: Sequence[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.yaml").write_text(MATRIX)
    done = main(["run", str(tmp_path / "m.yaml"), "--cluster", "tcp://127.0.0.1:1", *words])
    assert done == Status.USER_ERROR
    said = capsys.readouterr().err
    assert told in said
    assert len(said.strip().splitlines()) == 1
