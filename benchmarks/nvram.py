"""The nvram store: how long a guest's start waits for it, and 100,000 files that are none."""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bootmatrix.nvram import Nvram

from .meter import Figure
from .nvram_inputs import mutated, try_all

FIRMWARE_BYTES = 4 << 20
INPUTS = 100_000


def figures(count: int = 30, inputs: int = INPUTS) -> Iterator[tuple[str, Figure]]:
    """Name and figure: opening (lock, parse, verify) of a 4 MiB nvram; inputs that broke it."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "nvram")
        with Nvram(path) as nvram:
            nvram.initialise(os.urandom(FIRMWARE_BYTES), qemu="5.2.0")
        seconds = []
        for _ in range(count):
            begun = time.perf_counter()
            nvram = Nvram(path)
            seconds.append(time.perf_counter() - begun)
            nvram.close()
    yield "nvram open and verify, 4 MiB", Figure(
        1000 * statistics.median(seconds), 15, "ms", count
    )
    chance = random.Random(1)  # noqa: S311  # no secret
    broken = 0
    for _ in range(inputs):
        try:
            try_all(*mutated(chance))
        except Exception:  # counted: the goal is none
            broken += 1
    yield "nvram header inputs not refused cleanly", Figure(broken, 0, "inputs", inputs)
