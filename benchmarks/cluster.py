"""Cells on a cluster: what it adds to a cell on one machine, and how many go through a scheduler.

The fast cells boot nothing: a planted rig lets each pass at once, or after so many seconds.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from bootmatrix.cell import Cell
from bootmatrix.cluster.rig import ClusterRig
from bootmatrix.cluster.wishes import ClusterWishes
from bootmatrix.matrix.expansion import load
from bootmatrix.run.rig import Begun
from helpers.clusters import HEAD, Loopback, plan_in

from .meter import Figure, resident

_MATRIX = HEAD + """\
  machine: [pc-i440fx-5.2, pc-q35-5.2]
  scenario: [migrate-reset, ping-pong, reset, cold-boot]
  disk: [ahci, virtio]
"""
CELLS = 10_000


def cluster(runs: int) -> Iterator[tuple[str, Figure]]:
    """All figures of a cluster; those of real cells ``runs`` times."""
    yield from fast()
    yield from workers()
    yield from real(runs)


def fast() -> Iterator[tuple[str, Figure]]:
    """So many cells as fast as they go through, and what the run's own process takes for it."""
    rate, memory, flying = _through(2, 1, CELLS, 0)
    yield "cluster, cells a second through the scheduler", Figure(rate, 500, "1/s", 1,
                                                                  at_least=True)
    yield "cluster, memory of the run's process", Figure(memory, None, "MB", 1)
    yield "cluster, cells on their way at most", Figure(flying, None, "", 1)


def workers() -> Iterator[tuple[str, Figure]]:
    """Cells that take a while and no processor, on one worker and on four."""
    alone, _, _ = _through(1, 4, 600, 0.2)
    four, _, _ = _through(4, 4, 2400, 0.2)
    yield "cluster, four workers / four times one", Figure(four / (4 * alone), 0.9, "x", 1,
                                                          at_least=True)


def real(runs: int) -> Iterator[tuple[str, Figure]]:
    """The same cells by xdist and by a worker of this machine, in turn."""
    ratios = []
    with tempfile.TemporaryDirectory() as home:
        for number in range(runs):
            xdist = _run(home, "-n", "2", "--run-dir", f"xdist-{number}")
            ratios.append(_run(home, "--cluster", "local:1", "--cluster-slots", "2", "--run-dir",
                               f"cluster-{number}") / xdist)
    yield "cluster, wall of a run / xdist", Figure(statistics.median(ratios), 1.15, "x", runs)


def _run(home: str, *words: str) -> float:
    matrix = Path(__file__).parents[1] / "matrices/quickstart.yaml"
    begun = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "bootmatrix", "run", str(matrix), "-k", "i440fx", "--engine",
         "bubblewrap", *words], cwd=home, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begun


def _through(number: int, slots: int, cells: int, seconds: float) -> tuple[float, float, int]:
    """Cells a second, MB of this process's memory that they took, and the most on their way."""
    with tempfile.TemporaryDirectory() as place, Loopback(Path(place)) as loopback:
        home = Path(place)
        (home / "m.yaml").write_text(_MATRIX)
        plan_in(home, seconds=seconds, files=False)
        for worker in range(number):
            loopback.worker(f"worker-{worker}", slots)
        wishes = ClusterWishes(loopback.scheduler.address)
        with closing(ClusterRig(wishes, None, home / "run")) as rig:
            rig.matrix = "m.yaml"
            kinds = list(load(home / "m.yaml").cells(rig.machines))
            rig.prepare(dict.fromkeys(host for cell in kinds for host in cell.hosts))
            time.sleep(4)  # until all workers are there
            rig.open(kinds, lambda line: None)
            _spread(rig, kinds, 4 * number * slots)  # until each has its processes
            before, begun = resident(os.getpid()), time.monotonic()
            flying = _spread(rig, kinds, cells)
            return cells / (time.monotonic() - begun), resident(os.getpid()) - before, flying


def _spread(rig: ClusterRig, kinds: list[Cell], cells: int) -> int:
    flying: set[Begun] = set()
    given = most = 0
    while given < cells or flying:
        while given < cells and rig.has_capacity:
            flying.add(rig.begin(kinds[given % len(kinds)], (), 1 + given // len(kinds)))
            given += 1
        most = max(most, len(flying))
        for begun in rig.wait(0.1):
            assert begun.record()["verdict"] == "pass"
            flying.discard(begun)
    return most
