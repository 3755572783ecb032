"""Cells that begin alike share their beginning: booted once, saved, and fed to each destination.

The stream of a saved guest stands for the live migration from its source. What is lost is that
the migration is live; what is won is one boot for all cells that differ only in where they go.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.model import Cell, Host, Step, StepKind
from harness.observation import StepObserved
from harness.policies import mechanism
from harness.scenario import Guest, run_steps


@dataclass(frozen=True)
class Beginning:
    """A beginning that was run: what was seen, of which QEMUs, and where the guest is kept.

    ``saved`` is None where the guest did not come up, or could not be saved.
    """

    key: str
    seen: tuple[StepObserved, ...]
    qemus: tuple[dict[str, Any], ...]
    saved: Path | None


def shared_steps(steps: Sequence[Step]) -> int:
    """How many steps, from the first, can be shared: a start and resets, before a migration."""
    for index, step in enumerate(steps):
        if step.kind is StepKind.MIGRATE and not step.during_post:
            return index
        if step.kind not in (StepKind.START, StepKind.RESET):
            return 0
    return 0


def key_of(cell: Cell, hosts: Sequence[Host], steps: Sequence[Step]) -> str:
    """What a beginning depends on, and nothing else, as a short hash.

    Of the policy that is its mechanism; before the first reset all that counts of it is where
    the firmware lies.
    """
    source = hosts[0]
    files = (source.firmware.variables, source.firmware.payload)
    how = mechanism(cell.policy)
    swaps = any(step.kind is StepKind.RESET for step in steps)
    parts = (
        source.qemu.digest, source.firmware.sha256, cell.machine, cell.disk.value,
        cell.accel.value, cell.seconds, steps, how.nvram, how if swaps else None,
        cell.arch.value, cell.guest.value, cell.cpu, cell.smp, cell.nic.value,
        *(file and _sha256(file) for file in files),
    )  # fmt: skip
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


@cache
def _sha256(file: Path) -> str:
    """Of a file that belongs to a build, which stays what it is."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


class Beginnings:
    """The beginnings of one run, in a directory that its workers share."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        # Held by each worker that uses them: the last one removes them.
        self._held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._held, fcntl.LOCK_SH)

    def run(
        self,
        cell: Cell,
        hosts: Sequence[Host],
        make_guest: Callable[[str], AbstractContextManager[Guest]],
    ) -> Beginning | None:
        """The beginning of a cell, run now unless some worker has; None if it shares nothing.

        ``make_guest`` is given the beginning's key.
        """
        steps = cell.scenario.steps[: shared_steps(cell.scenario.steps)]
        if not steps:
            return None
        key = key_of(cell, hosts, steps)
        place = self._directory / key
        with self._lock(key):
            done = place / "beginning"
            if not done.exists():
                shutil.rmtree(place, ignore_errors=True)  # a killed worker's
                place.mkdir(parents=True)
                beginning = _begin(key, steps, place, make_guest)
                done.with_suffix(".new").write_bytes(pickle.dumps(beginning))
                done.with_suffix(".new").rename(done)
            # Written by a worker of this run, in a directory that no sandbox sees.
            loaded: Beginning = pickle.loads(done.read_bytes())  # noqa: S301
            return loaded

    def close(self) -> None:
        """Remove them, unless another worker still uses them."""
        with suppress(BlockingIOError):
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(self._directory)
        os.close(self._held)

    @contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        lock = os.open(self._directory / f"{key}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _begin(
    key: str,
    steps: Sequence[Step],
    place: Path,
    make_guest: Callable[[str], AbstractContextManager[Guest]],
) -> Beginning:
    seen: list[StepObserved] = []
    saved = None
    with make_guest(key) as guest:
        run_steps(guest, steps, seen)
        boots = [step.boot for step in seen if step.boot is not None]
        if len(seen) == len(steps) and all(boot.up is not None for boot in boots):
            kept = guest.save(place / "guest")
            if kept.refusal is None:
                saved = place / "guest"
            else:  # as the migration itself would have been refused
                seen.append(kept)
    return Beginning(key, tuple(seen), tuple(guest.processes), saved)
