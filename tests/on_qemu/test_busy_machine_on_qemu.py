"""A machine that keeps QEMU waiting makes no verdict, on real QEMUs among busy loops."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.engines.bubblewrap import BubblewrapEngine
from bootmatrix.model import Verdict
from bootmatrix.run.runner import Runner
from helpers.cells import cell

LOOPS = 8


@pytest.fixture
def crowded(store: ImageStore, tmp_path: Path) -> Iterator[Runner]:
    """A runner whose QEMUs share one processor with busy loops; the harness itself has all."""
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(ours)})
    loops: list[subprocess.Popen[bytes]] = []
    try:
        with BubblewrapEngine() as engine:  # its sandboxes, and the loops, are started there
            runner = Runner(Builds(store), engine, tmp_path)
            quiet = runner.run(cell("bookworm sid", "stock"))  # which has the sandboxes warm
            assert quiet["verdict"] == Verdict.PASS
            # The scheduler shares among sessions first, where it makes a group of each.
            loops += [subprocess.Popen(["sh", "-c", "while :; do :; done"], start_new_session=True)
                      for _ in range(LOOPS)]
            os.sched_setaffinity(0, ours)
            with runner:
                yield runner
    finally:
        os.sched_setaffinity(0, ours)
        for loop in loops:
            loop.kill()
            loop.wait()


@pytest.mark.thorough
def test_a_good_guest_is_up_in_time(crowded: Runner) -> None:
    usual = 0.6
    record = crowded.run(cell("bookworm sid", "machine-owned", seconds=usual, patience=usual))
    assert record["verdict"] == Verdict.PASS, record["reason"]
    times = [(boot["seconds"], boot.get("wall_seconds", 0.0)) for boot in record["boots"]]
    assert all(seconds < usual for seconds, _ in times), times
    assert any(wall > usual for _, wall in times), f"the wall clock would have done: {times}"


@pytest.mark.thorough
def test_a_hang_is_found_in_its_time(crowded: Runner) -> None:
    """SeaBIOS 1.16.2 spins for 32 s, which is one as long as nobody has so much patience."""
    usual = 0.5
    record = crowded.run(cell("bookworm sid", "stock", machine="pc-q35-5.2", disk="ahci",
                              seconds=usual, patience=usual))
    assert record["verdict"] == Verdict.NO_BOOT, record["reason"]
    boot = record["boots"][1]
    assert usual <= boot["seconds"] < usual + 1, "with the reset before it"
    assert boot["wall_seconds"] > 2 * boot["seconds"], "it spins, and had a part of a processor"
