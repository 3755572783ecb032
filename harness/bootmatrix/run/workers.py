"""How many cells are run side by side where nobody says so."""

from __future__ import annotations

import os
import re
from pathlib import Path

FOR_EACH_CORE = 2
"""Workers for each core: a cell's QEMUs and the harness wait for one another, and for guests that
hang. What that takes of a boot's time does not count: see ``bootmatrix.machines.qemu.able_clock``.
"""
WORKER_MIB = 768
"""Memory for each worker beyond the cores': its Python, and two QEMUs with OVMF."""

MEMINFO = Path("/proc/meminfo")


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def side_by_side(meminfo: Path = MEMINFO) -> int:
    """How many workers a run has: more than cores, as far as there is memory for them."""
    cores = usable_cores()
    by_memory = available_mib(meminfo) // WORKER_MIB
    return max(cores, min(FOR_EACH_CORE * cores, by_memory))


def available_mib(meminfo: Path = MEMINFO) -> int:
    """Memory that can be had without swapping, in MiB; 0 where nobody says."""
    try:
        found = re.search(r"^MemAvailable: +(\d+) kB$", meminfo.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found.group(1)) >> 10 if found else 0
