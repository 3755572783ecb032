"""A process that runs for a part of the time only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootmatrix.deadline import awake
from bootmatrix.machines.qemu.able_clock import AbleClock
from bootmatrix.machines.qemu.slowed import Slowed
from helpers.leavings import until


@pytest.fixture
def spinning() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def held(spinning: subprocess.Popen[bytes]) -> Iterator[int]:
    process = os.pidfd_open(spinning.pid)
    yield process
    os.close(process)


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def comes(pid: int, states: str) -> bool:
    return until(lambda: state(pid) in states)


def test_it_is_stopped_and_goes_on_and_then_is_let_alone(
    spinning: subprocess.Popen[bytes], held: int
) -> None:
    clock = AbleClock(spinning.pid, awake())
    wall = awake()
    begun = clock.look()
    with Slowed(held, clock, 0.05):
        for _ in range(4):
            assert comes(spinning.pid, "T")
            assert comes(spinning.pid, "R")
        able = clock.look() - begun
        assert able < (awake() - wall) / 2, "its clock stands still meanwhile"
    assert state(spinning.pid) == "R"
    clock.close()


def test_it_is_let_go_on_where_it_ends_in_the_midst(
    spinning: subprocess.Popen[bytes], held: int
) -> None:
    clock = AbleClock(spinning.pid, awake())
    slowed = Slowed(held, clock, 0.05)
    assert comes(spinning.pid, "T")
    slowed.close()
    assert state(spinning.pid) == "R"
    clock.close()


def test_what_ends_meanwhile_is_let_alone(
    spinning: subprocess.Popen[bytes], held: int
) -> None:
    clock = AbleClock(spinning.pid, awake())
    with Slowed(held, clock, 0.05):
        assert comes(spinning.pid, "T")
        spinning.kill()
        assert spinning.wait(60) == -signal.SIGKILL
        slowed = clock.deadline(1.2)  # the clock is let go on, as well
        assert not slowed.until(lambda seconds: False)
    clock.close()


def test_what_may_not_be_signalled_runs_as_ever(
    spinning: subprocess.Popen[bytes], held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(process: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(signal, "pidfd_send_signal", refused)
    clock = AbleClock(spinning.pid, awake())
    with Slowed(held, clock, 0.05):
        half = clock.deadline(0.5)
        assert not half.until(lambda seconds: False)
        assert state(spinning.pid) == "R"
    clock.close()
