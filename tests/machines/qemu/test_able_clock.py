"""The time in which a QEMU was able to run, by a /proc that the test writes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import thread_time

import pytest

from bootmatrix.deadline import awake
from bootmatrix.machines.qemu.able_clock import UNSEEN, AbleClock

QEMU = 4242


class Time:
    """A clock that stands still until it is told to move."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Proc:
    """A /proc with one QEMU and this process in it; threads wait and run as they are told."""

    def __init__(self, directory: Path) -> None:
        self.path = directory
        self._threads: dict[tuple[int, int], list[float]] = {}
        self.thread(QEMU, QEMU)
        self.thread(os.getpid(), threading.get_native_id())

    def thread(
        self, pid: int, thread: int, ran: float = 0.0, waited: float = 0.0, turns: int = 1,
        state: str = "S",
    ) -> None:
        """So much more has it run and waited, in so many turns, and it is in this state now."""
        seen = self._threads.setdefault((pid, thread), [0.0, 0.0, 0])
        for at, more in enumerate((ran, waited, turns)):
            seen[at] += more
        directory = self.path / str(pid) / "task" / str(thread)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "schedstat").write_text(
            f"{int(seen[0] * 1e9)} {int(seen[1] * 1e9)} {int(seen[2])}\n")
        (directory / "stat").write_text(f"{thread} (a) name) {state} 1 1 1 0 -1\n")


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


@pytest.fixture
def clock(time: Time, proc: Proc) -> Iterator[AbleClock]:
    made = AbleClock(QEMU, time.now, lambda: (77,), proc=proc.path, now=time)
    yield made
    made.close()


def test_who_is_kept_waiting_by_nobody_has_the_time_that_all_have(
    clock: AbleClock, time: Time, proc: Proc,
) -> None:
    assert clock.seen
    assert clock() == time.now
    for _ in range(5):
        time.now += 1.0
        proc.thread(QEMU, QEMU, ran=0.3)
        assert clock() == time.now
    assert clock.limit(5.0) == 5.0


def test_what_it_waits_for_a_processor_does_not_count(
    clock: AbleClock, time: Time, proc: Proc,
) -> None:
    deadline = clock.deadline(5.0)
    for _ in range(10):  # as with ten busy loops beside it on a processor
        time.now += 4.0
        proc.thread(QEMU, QEMU, ran=0.4, waited=3.6)
        clock()
    assert clock() - 1000.0 == pytest.approx(4.0)
    assert not deadline.expired
    assert deadline.remaining == pytest.approx(1.0)
    time.now += 10.0
    proc.thread(QEMU, QEMU, ran=1.0, waited=9.0)
    assert deadline.expired


def test_of_several_threads_the_one_counts_that_waited_most(
    clock: AbleClock, time: Time, proc: Proc,
) -> None:
    time.now += 1.0
    proc.thread(QEMU, QEMU, waited=0.2)
    proc.thread(QEMU, 5, waited=0.5)  # it is new
    proc.thread(QEMU, 6, waited=0.4)
    assert clock() - 1000.0 == pytest.approx(0.5)


def test_a_qemu_that_waits_for_ever_is_not_waited_for_for_ever(
    clock: AbleClock, time: Time, proc: Proc, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bootmatrix.machines.qemu.able_clock.LONGEST_LOST", 30.0)
    deadline = clock.deadline(5.0)
    for _ in range(10):
        time.now += 4.0
        proc.thread(QEMU, QEMU, waited=4.0)
        clock()
    assert clock() - 1000.0 == pytest.approx(10.0)
    assert deadline.expired


def test_what_waited_before_does_not_count(time: Time, proc: Proc) -> None:
    proc.thread(QEMU, QEMU, waited=100.0)
    proc.thread(os.getpid(), threading.get_native_id(), waited=100.0)
    clock = AbleClock(QEMU, time.now, proc=proc.path, now=time)
    assert clock() == time.now
    time.now += 0.5
    assert clock() == time.now
    clock.close()


def test_what_it_waits_until_it_connects_does(time: Time, proc: Proc) -> None:
    proc.thread(QEMU, QEMU, ran=0.05, waited=0.8)
    clock = AbleClock(QEMU, time.now - 1.0, proc=proc.path, now=time)
    assert clock() == pytest.approx(time.now - 0.8)
    clock.close()


def test_the_guest_may_stand_still_for_the_harness(
    clock: AbleClock, time: Time, proc: Proc,
) -> None:
    """Its reset is stopped at a breakpoint, and who is to let it go on waits for a processor."""
    own = os.getpid()
    proc.thread(own, 77)
    time.now += 1.0
    clock()
    time.now += 2.0
    proc.thread(QEMU, QEMU, waited=0.5)
    proc.thread(own, 77, waited=0.75)
    proc.thread(own, threading.get_native_id(), waited=0.25)
    proc.thread(own, 78, waited=2.0)  # for which no guest waits
    assert clock() - 1001.0 == pytest.approx(0.5)


def test_what_it_has_run_is_never_taken_away(clock: AbleClock, time: Time, proc: Proc) -> None:
    """Else a guest that spins for ever on a busy machine would never be a hang."""
    own = os.getpid()
    proc.thread(own, 77)
    clock.look()
    for _ in range(100):
        time.now += 1.0
        proc.thread(QEMU, QEMU, ran=0.1, waited=0.9)
        proc.thread(own, 77, waited=1.0)
        clock()
    assert clock() - 1000.0 == pytest.approx(10.0)


def test_a_wait_that_is_not_over_is_told_by_nobody_and_counts(
    clock: AbleClock, time: Time, proc: Proc,
) -> None:
    proc.thread(QEMU, 5, ran=0.1)
    time.now += 1.0
    clock()
    begun = clock()
    proc.thread(QEMU, 5, turns=0, state="R")
    for _ in range(5):
        time.now += 1.0
        assert clock() == begun
    time.now += 1.0  # its turn has come: now all of it is told, and counted once
    proc.thread(QEMU, 5, ran=0.5, waited=5.5)
    assert clock() - begun == pytest.approx(0.5)
    time.now += 1.0
    assert clock() - begun == pytest.approx(1.5)


def test_a_qemu_that_is_stopped_from_here_has_no_time(
    clock: AbleClock, time: Time, proc: Proc,
) -> None:
    for _ in range(3):
        clock.hold(True)
        time.now += 0.9
        clock.hold(False)
        time.now += 0.1
        proc.thread(QEMU, QEMU, ran=0.1)
    assert clock.look() - 1000.0 == pytest.approx(0.3)


def test_a_thread_that_sleeps_waits_for_nothing_that_the_machine_has(
    clock: AbleClock, time: Time,
) -> None:
    """Halted with interrupts off: that is a hang, and found in its time."""
    deadline = clock.deadline(5.0)
    time.now += 4.9
    assert not deadline.expired
    time.now += 0.1
    assert deadline.expired


def test_what_is_told_late_is_made_good(clock: AbleClock, time: Time, proc: Proc) -> None:
    time.now += 0.5
    proc.thread(QEMU, QEMU, waited=1.0)  # half of it before the last look
    assert clock() == 1000.0
    time.now += 1.0
    assert clock() - 1000.0 == pytest.approx(0.5)


def test_it_never_goes_back_nor_faster_than_time(clock: AbleClock, time: Time, proc: Proc) -> None:
    last = clock()
    for step, waited in enumerate((0.0, 5.0, 0.2, 30.0, 0.0, 0.0, 0.4, 0.0)):
        time.now += 0.3
        proc.thread(QEMU, QEMU, waited=waited, state="SR"[step % 2], turns=step % 2)
        now = clock()
        assert last <= now <= last + 0.3 + 1e-9
        last = now


def test_it_is_looked_at_no_oftener_than_it_matters(
    clock: AbleClock, time: Time, proc: Proc,
) -> None:
    time.now += 0.04
    proc.thread(QEMU, QEMU, waited=0.02)
    assert clock() == 1000.0
    assert clock.look() == pytest.approx(1000.02)


def test_a_deadline_that_is_made_between_two_looks_is_not_too_early(
    clock: AbleClock, time: Time,
) -> None:
    time.now += 0.04
    deadline = clock.deadline(1.0)
    time.now += 0.99
    assert not deadline.expired
    time.now += 0.06  # it may be looked at a little later
    assert deadline.expired


def test_who_cannot_be_seen_gets_more_time(time: Time, proc: Proc) -> None:
    clock = AbleClock(0, time.now, proc=proc.path, now=time)
    assert not clock.seen
    assert clock.limit(5.0) == 5.0 * UNSEEN
    deadline = clock.deadline(5.0)
    time.now += 5.0 * UNSEEN - 0.1
    assert (deadline.expired, clock()) == (False, time.now)
    time.now += 0.1
    assert deadline.expired


@pytest.mark.parametrize("pid", [QEMU, os.getppid()], ids=["no schedstat", "hidden"])
def test_a_proc_that_does_not_tell(time: Time, proc: Proc, pid: int) -> None:
    (proc.path / f"{QEMU}/task/{QEMU}/schedstat").unlink()
    clock = AbleClock(pid, time.now, proc=proc.path, now=time)
    assert not clock.seen
    time.now += 1.0
    assert clock() == time.now


def test_one_that_has_ended_is_no_longer_waited_for_than_any(time: Time, proc: Proc) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    clock = AbleClock(ended.pid, time.now, proc=proc.path, now=time)
    assert clock.seen
    time.now += 1.0
    assert clock() == time.now


def test_a_qemu_that_ends_meanwhile(time: Time, proc: Proc) -> None:
    clock = AbleClock(QEMU, time.now, proc=proc.path, now=time)
    for file in (proc.path / str(QEMU) / "task" / str(QEMU)).iterdir():
        file.unlink()
    time.now += 1.0
    assert clock() == time.now
    clock.close()
    time.now += 1.0
    assert clock() == time.now


def test_this_very_process_can_be_seen() -> None:
    """The kernel's own files; what this thread runs is no waiting."""
    clock = AbleClock(os.getpid(), awake())
    assert clock.seen
    begun = awake()
    # A busy machine may not let it run at all for longer than that by the clock on the wall.
    used = thread_time()
    while thread_time() - used < 0.2:
        pass
    assert 0.0 < clock.look() - begun <= awake() - begun + 0.01
    clock.close()
