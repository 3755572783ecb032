"""Cells that begin alike share their beginning: booted once, saved, and fed to each destination.

The stream of a saved guest stands for the live migration from its source. What is lost is that
the migration is live; what is won is one boot for all cells that differ only in where they go.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bootmatrix.cell import Cell
from bootmatrix.errors import HarnessError
from bootmatrix.files import given_file
from bootmatrix.model import Host, MigrationMode, OwnGuest
from bootmatrix.records.jsonl import LONGEST_LINE
from bootmatrix.run import answers
from bootmatrix.run.guest import Guest
from bootmatrix.run.steps import is_down, run_steps
from bootmatrix.steps.base import Step
from bootmatrix.steps.migrate import Migrate
from bootmatrix.steps.reset import Reset
from bootmatrix.steps.variables import VariablesStep
from bootmatrix.witnesses.observation import StepObserved

GUEST, BEGINNING = "guest", "beginning"
"""Where a saved guest is kept, and what was seen of it until then, below a place of its own."""
MOST_BYTES = 8 << 30
"""Of all saved guests of a run together; cells beyond it run on their own."""


@dataclass(frozen=True)
class Snapshot:
    """A guest after its first steps: what was seen, of which QEMUs, and where it is saved.

    ``saved`` is None where the guest did not come up, or could not be saved.
    """

    key: str
    seen: tuple[StepObserved, ...]
    qemus: tuple[dict[str, Any], ...]
    saved: Path | None


def shared_steps(
    steps: Sequence[Step], migration: MigrationMode = MigrationMode.PRECOPY
) -> int:
    """How many steps, from the first, can be shared, before a migration.

    A start, resets, and what the guest writes to its variables, which are kept with it. None where
    it migrates in another mode, with capabilities or parameters, or paused or suspended: a stream
    that is kept stands for no such one.
    """
    if migration is not MigrationMode.PRECOPY:
        return 0
    for index, step in enumerate(steps):
        if isinstance(step, Migrate) and not step.during_post:
            alike = Migrate(step.host, step.channel)
            return index if step == alike else 0
        if not (step.boots or isinstance(step, VariablesStep)):
            return 0
    return 0


def key_of(cell: Cell, hosts: Sequence[Host], steps: Sequence[Step]) -> str:
    """What a snapshot depends on, and nothing else, as a short hash.

    Of the policy that is its mechanism; before the first reset all that counts of it is where
    the firmware lies.
    """
    source = hosts[0]
    files = (source.firmware.variables, source.firmware.payload)
    how = cell.policy.model.how
    swaps = any(isinstance(step, Reset) for step in steps)
    parts = (
        source.qemu.digest, source.firmware.sha256, cell.seconds, steps, how.nvram,
        how if swaps else None,
        [value for axis, value in cell.values.items() if axis not in ("policy", "scenario")],
        *(file and _sha256(file) for file in files), *((cell.words, source.arguments)
        if cell.words or source.arguments else ()),
        *((cell.guest,) if isinstance(cell.guest, OwnGuest) else ()),
    )  # fmt: skip
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _size(directory: Path) -> int:
    """The bytes of all files below it; those that another worker removes meanwhile are none."""
    size = 0
    for path in directory.rglob("*"):
        with suppress(FileNotFoundError):
            size += path.lstat().st_size
    return size


@cache
def _sha256(file: Path) -> str:
    """Of a file that belongs to a build, which stays what it is."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


class Snapshots:
    """The snapshots of one run, in a directory that its workers share."""

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
    ) -> Snapshot | None:
        """The snapshot of a cell, run now unless some worker has; None if it shares nothing.

        ``make_guest`` is given the snapshot's key.
        """
        steps = cell.scenario.steps[: shared_steps(cell.scenario.steps, cell.migration)]
        # What a guest writes to a disk of the user's own is in none of what is kept.
        if not steps or cell.guest.kind.is_foreign:
            return None
        key = key_of(cell, hosts, steps)
        place = self._directory / key
        with self._lock(key):
            done = place / BEGINNING
            if not done.exists():
                if _size(self._directory) > MOST_BYTES:
                    return None
                shutil.rmtree(place, ignore_errors=True)  # a killed worker's
                place.mkdir(parents=True)
                snapshot = take(key, steps, place, make_guest)
                done.with_suffix(".new").write_bytes(to_json(snapshot))
                done.with_suffix(".new").rename(done)
            return from_json(done, key, place)

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


# What a worker wrote is read by others, and after --resume by another run: data, never code.
_QEMUS = TypeAdapter(tuple[dict[str, Any], ...])
_ARGV = TypeAdapter(list[str])


def to_json(snapshot: Snapshot) -> bytes:
    """What was seen, as data."""
    return json.dumps({
        "seen": answers.as_data().dump_python(snapshot.seen, mode="json"), "qemus": snapshot.qemus,
        "saved": snapshot.saved is not None}).encode()


def from_json(file: Path, key: str, place: Path) -> Snapshot:
    """The snapshot in a file. Raises HarnessError where there is none in it."""
    try:
        return parsed(given_file.read(file, LONGEST_LINE), key, place)
    except (given_file.Unreadable, ValueError) as error:
        raise HarnessError(f"{file} holds no beginning of this run, and can be removed: "
                           f"{str(error).splitlines()[0]}") from None


def parsed(text: bytes, key: str, place: Path) -> Snapshot:
    """The snapshot that ``to_json`` has written. Raises ValueError of anything else."""
    try:
        data = json.loads(text)
        saved = place / GUEST if data["saved"] is True else None
        qemus = _QEMUS.validate_python(data["qemus"], strict=False)
        for process in qemus:  # which reports take for granted
            _ARGV.validate_python(process["argv"])
        return Snapshot(key, answers.as_data().validate_python(data["seen"]), qemus, saved)
    except (TypeError, LookupError, RecursionError) as error:
        raise ValueError(f"not a snapshot's: {error}") from None


def take(
    key: str,
    steps: Sequence[Step],
    place: Path,
    make_guest: Callable[[str], AbstractContextManager[Guest]],
) -> Snapshot:
    """Do the first steps of a guest's life, and save it in ``place``."""
    seen: list[StepObserved] = []
    saved = None
    with make_guest(key) as guest:
        run_steps(guest, steps, seen)
        if len(seen) == len(steps) and not is_down(seen[-1]):
            saving = guest.save(place / GUEST)
            if saving.refusal is None:
                saved = place / GUEST
            else:  # as the migration itself would have been refused
                seen.append(saving)
    return Snapshot(key, tuple(seen), tuple(guest.hosts.processes), saved)
