"""A cluster of this machine alone ends with whoever has started it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from bootmatrix.cluster.address import is_loopback
from helpers.clusters import end

OWNER = """
import os, sys, time
from bootmatrix.cluster import local
local.WORKER = (sys.executable, "-c", "import sys, os; os.write(1, b''); sys.stdin.read()")
cluster = local.LocalCluster(2, 1, None)
print(cluster.open().text, *(process.pid for process in cluster._processes), flush=True)
time.sleep(60)
"""


def test_nothing_of_it_outlives_its_owner_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        address, *pids = owner.stdout.readline().decode().split()
        assert is_loopback(address)
        assert len(pids) == 3
        assert all(Path("/proc", pid).exists() for pid in pids)
        end(owner, signal.SIGKILL)
        begun = time.monotonic()
        while any(Path("/proc", pid).exists() and "Z" not in state(pid) for pid in pids):
            assert time.monotonic() - begun < 15
            time.sleep(0.1)


def state(pid: str) -> str:
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"
