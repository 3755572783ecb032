"""A step that is not over in its usual time is waited for, beside the other cells: late, or never?

One representative of each distinct failure is run again, with patience, in a thread of its own.
What it saw answers for all cells to which the same happened, in all workers of a run, and in later
runs.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from bootmatrix.arguments import machine_type
from bootmatrix.boards import host_label
from bootmatrix.errors import EngineError
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.model import DEFAULT_MACHINE
from bootmatrix.run import answers
from bootmatrix.run.answers import Seen
from bootmatrix.steps.base import Step
from bootmatrix.steps.reset import Reset
from bootmatrix.witnesses.observation import BootObserved, StepObserved
from bootmatrix.witnesses.resets import endless

AT_ONCE = 8
"""How many representatives one worker runs at a time: nearly all that they do is to wait."""
# To be changed where what a step says of a guest changes its meaning.
_FORMAT = 5
BESIDE, BEFORE, SLOWED = LOOKS = (1, 2, 3)
"""The looks at a step, by representatives: one leaves the processor to others. Where a busy machine
hides what the guest waits for, one comes before all others, and one has a part of that.
"""
_ENDED = "it was waited for, and the engine was closed meanwhile"
# A boot that takes no more than this part of its usual time is none that waits for something: on a
# machine where QEMU has a tenth of a processor; where it has less, nothing is sure.
_SURE, _STARVED = 0.1, 3.0
# So much less of a processor than it has had does one have that is slowed down.
_SLOWER = 12.0
# But never less than this, which is as good as nothing.
_LEAST_SHARE = 1e-4
# Where QEMU had less than half of a processor, its own clock can have so many times too much: what
# its hypervisor took, and caches that others emptied, cannot be seen.
_BUSY, _INEXACT = 2.0, 3.0

Watch = Callable[[Callable[[Callable[[], None]], None]], Sequence[StepObserved]]
"""Runs a representative. It is given what to tell how it can be ended from outside."""


def missed(seen: Sequence[StepObserved]) -> bool:
    """Whether the last step was waited for in vain, so that waiting longer can change it."""
    if not seen:
        return False
    last = seen[-1]
    if last.boot is not None:
        return last.boot.up is None and last.boot.ended is None and (
            last.boot.panic is None and not endless(last.boot))
    return last.limit is not None


def doubtful(seen: Sequence[StepObserved], begin: int = 0) -> int | None:
    """The first boot, from ``begin`` on, that came in time, but not by the wall clock, if any.

    A guest that works takes as long as the first clock says, one that waits by its own clock as
    long as the second. Of what takes no more than a fraction of the usual time nobody doubts that
    it works, unless the machine had hardly anything for it. The boot before tells nothing: it may
    have had more of a processor, or less.
    """
    for index, step in enumerate(seen[begin:], begin):
        boot = step.boot
        if boot is None or boot.up is None:
            continue
        if boot.limit < boot.wall and (
                _SURE * boot.limit < boot.seconds or _STARVED * boot.limit < boot.wall):
            return index
    return None


def in_time(seen: StepObserved, usual: float) -> bool | None:
    """Whether a step that came did so in its usual time; None where a busy machine hides it."""
    now = seen.boot or seen
    if max(now.wall, now.seconds) <= usual:
        return True
    return now.seconds <= usual if now.wall <= _BUSY * now.seconds else None


def late(usual: float, *seen: StepObserved) -> bool | None:
    """Whether a step is late, by all that was seen of it; None where that does not tell.

    The last is decisive, where the machine was not too busy. Otherwise those two are compared that
    had the most and the least of a processor: of a guest that works, about the same time of its
    QEMU's clock has passed, of one that waits by its own clock that of the wall clock. What did not
    come tells nothing.
    """
    found = None if missed(seen[-1:]) else in_time(seen[-1], usual)
    if found is not None:
        return not found
    came = _came(seen)
    if not came:
        return None
    least, most = came[0], came[-1]
    worked, passed = _ratio(least.seconds, most.seconds), _ratio(least.wall, most.wall)
    if max(worked, passed) <= _INEXACT:
        return None
    waits = passed < worked
    return None if waits and not any(step.slowed and not missed([step]) for step in seen) else waits


def surely_late(usual: float, *seen: StepObserved) -> bool:
    """What to say where nothing more is looked at: whatever that clock can have too much."""
    found, last = late(usual, *seen), seen[-1].boot or seen[-1]
    return last.seconds > _INEXACT * usual if found is None else found


def slowed(*seen: StepObserved) -> float:
    """The share of a processor with which a step can be told that was seen so, and came."""
    return max(_share(_came(seen)[-1]) / _SLOWER, _LEAST_SHARE)


def _came(seen: Sequence[StepObserved]) -> list[BootObserved | StepObserved]:
    """What came, that with the least of a processor first."""
    return sorted((step.boot or step for step in seen if not missed([step])), key=_share)


def _share(now: BootObserved | StepObserved) -> float:
    """How much of a processor it had, if it took as much as it could."""
    return now.seconds / max(now.wall, now.seconds, 1e-9)


def _ratio(one: float, other: float) -> float:
    return max(one, other) / max(min(one, other), 1e-9)


def usual_of(step: StepObserved) -> float:
    """How long a step that was missed was waited for."""
    limit = step.boot.limit if step.boot is not None else step.limit
    assert limit is not None
    return limit


def key_of(
    setup: GuestSetup, steps: Sequence[Step], argvs: Sequence[Sequence[str]], engine: str,
    patience: float,
) -> str:
    """A hash over everything that takes part in what these steps can show.

    Of the policy that is its mechanism, as far as it has been at work.
    """
    how = setup.mechanism
    if machine_type(setup.machine) != DEFAULT_MACHINE:
        how = replace(how, clears_on_move=False)
    swaps = any(isinstance(step, Reset) for step in steps)
    files: list[Path | None] = [*setup.disks]
    if setup.kernel is not None:
        files += [setup.kernel.kernel, setup.kernel.initramfs]
    if setup.flash is not None:
        files.append(setup.flash.path)
    for host in setup.hosts:
        files += [host.firmware.path, host.firmware.variables, host.firmware.payload]
    parts = (
        _FORMAT, engine, patience, tuple(steps), how.nvram, how if swaps else None,
        setup.machine, setup.disk, setup.accel, setup.guest, setup.cpu, setup.smp, setup.nic,
        setup.post_ms, *([setup.limits] if setup.limits.given else []),
        [tuple(argv) for argv in argvs],
        [(host.qemu.digest, host_label(index, host.qemu), host.firmware.store_size)
         for index, host in enumerate(setup.hosts)],
        [file and _sha256(file) for file in files],
        *((found.st_size, found.st_mtime_ns) for disk in [setup.own_disk] if disk is not None
          for found in [disk.path.stat()]),
    )  # fmt: skip
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def outlasts(setup: GuestSetup, seen: Sequence[StepObserved]) -> bool:
    """Whether an answer is true in later runs, too.

    KVM's depend on this host and its kernel. Where even what came in time before was not in time
    now, the machine had no time to spare.
    """
    boots = [step.boot for step in seen[:-1] if step.boot is not None]
    return not setup.accel.with_kvm and all(boot.seconds <= setup.seconds for boot in boots)


class Wait:
    """The answer to come for one distinct failure."""

    def __init__(self, find: Callable[[], Seen], ready: Callable[[], bool], earlier: bool) -> None:
        self._find = find
        self._ready = ready
        self.earlier = earlier

    @property
    def done(self) -> bool:
        """Whether the answer is there."""
        return self._ready()

    def answer(self) -> Seen:
        """What was seen with patience; waits for it. Raises HarnessError if it broke."""
        return self._find()


class Patience:
    """Finds the answers of one worker, in ``run_dir`` shared with the others.

    ``cache`` is where answers outlast the run.
    """

    def __init__(self, run_dir: Path, cache: Path) -> None:
        self._run_dir = run_dir
        self._cache = cache
        self._threads: ThreadPoolExecutor | None = None
        self._ends: list[Callable[[], None]] = []
        self._closed = False

    def ask(self, key: str, watch: Watch, number: int = BESIDE) -> Wait:
        """Have a representative run, unless the answer is known or another worker finds it.

        ``number`` is that of the look (LOOKS). Raises EngineError where it was closed meanwhile.
        """
        key = _name(key, number)
        for place in (self._run_dir, self._cache):
            known = answers.read(place, key)
            if known is not None:
                return Wait(_just(known), lambda: True, earlier=place is self._cache)
        self.check()
        held = answers.lock(self._run_dir, key, wait=False)
        if held is None:
            return Wait(lambda: self._await(key, watch),
                        lambda: answers.read(self._run_dir, key) is not None, earlier=False)
        if self._threads is None:
            self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="patience")
        try:
            future = self._threads.submit(self._watch, key, watch, held)
        except RuntimeError:  # it is closed at this moment
            os.close(held)
            raise EngineError(_ENDED) from None
        return Wait(lambda: _result(future), future.done, earlier=False)

    def keep(self, key: str) -> None:
        """Have the looks of this run answer later runs, too."""
        for name in (_name(key, number) for number in LOOKS):
            seen = answers.read(self._run_dir, name)
            if seen is not None:
                with suppress(OSError):  # a cache that cannot be written to costs time alone
                    answers.write(self._cache, name, seen)

    def _await(self, key: str, watch: Watch) -> Seen:
        """What another worker finds; found here if that one ended before it had."""
        held = answers.lock(self._run_dir, key, wait=True)
        assert held is not None
        return self._watch(key, watch, held)

    def _watch(self, key: str, watch: Watch, held: int) -> Seen:
        with answers.held(held):
            known = answers.read(self._run_dir, key)
            if known is not None:
                return known
            self.check()
            seen = tuple(watch(self._can_be_ended_by))
            answers.write(self._run_dir, key, seen)
            return seen

    def check(self) -> None:
        """Raise EngineError where it is closed: as at the run's end, or with an engine that failed.

        Who still waits then is nobody's representative any more, and is run again.
        """
        if self._closed:
            raise EngineError(_ENDED)

    def _can_be_ended_by(self, end: Callable[[], None]) -> None:
        self._ends.append(end)
        if self._closed:
            end()

    def close(self) -> None:
        """End the representatives that still run."""
        self._closed = True
        if self._threads is None:
            return
        for end in tuple(self._ends):  # of one that has ended, nothing happens any more
            with suppress(EngineError):
                end()
        self._threads.shutdown(cancel_futures=True)


def _name(key: str, number: int) -> str:
    return key if number == BESIDE else f"{key}-{number}"


def _just(seen: Seen) -> Callable[[], Seen]:
    return lambda: seen


def _result(future: Future[Any]) -> Seen:
    try:
        seen: Seen = future.result()
    except CancelledError:
        raise EngineError(_ENDED) from None
    return seen
