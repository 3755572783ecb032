"""Deadlines, on a clock that the test sets."""

from __future__ import annotations

import time

import pytest

from harness.deadline import Deadline
from harness.errors import DeadlineExceeded, HarnessError


class Clock:
    """A clock that stands still until it is told to move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_it_counts_down_and_stops_at_nothing(clock: Clock) -> None:
    deadline = Deadline.after(5.0, clock)
    assert (deadline.at, deadline.remaining, deadline.expired) == (1005.0, 5.0, False)
    clock.now += 3.0
    assert (deadline.remaining, deadline.expired) == (2.0, False)
    clock.now += 2.0
    assert (deadline.remaining, deadline.expired) == (0.0, True)
    clock.now += 60.0
    assert (deadline.remaining, deadline.expired) == (0.0, True)


def test_expired_says_the_same_as_remaining(clock: Clock) -> None:
    deadline = Deadline.after(1.0, clock)
    for _ in range(8):
        assert deadline.expired == (deadline.remaining == 0.0)
        clock.now += 0.25


def test_no_time_and_less_than_none(clock: Clock) -> None:
    for seconds in (0.0, -1.0):
        deadline = Deadline.after(seconds, clock)
        assert deadline.expired
        assert deadline.remaining == 0.0


def test_check(clock: Clock) -> None:
    deadline = Deadline.after(1.0, clock)
    deadline.check("the banner")
    clock.now += 1.0
    with pytest.raises(DeadlineExceeded, match=r"^not in time: the banner$") as caught:
        deadline.check("the banner")
    assert isinstance(caught.value, HarnessError)


@pytest.mark.parametrize(("seconds", "at"), [(2.0, 1002.0), (5.0, 1005.0), (9.0, 1005.0)])
def test_sooner_never_gives_more_time(clock: Clock, seconds: float, at: float) -> None:
    assert Deadline.after(5.0, clock).sooner(seconds).at == at


def test_sooner_keeps_the_clock_and_counts_from_now(clock: Clock) -> None:
    deadline = Deadline.after(5.0, clock)
    clock.now += 1.0
    part = deadline.sooner(2.0)
    assert part.remaining == 2.0
    clock.now += 2.0
    assert part.expired
    assert not deadline.expired
    assert deadline.sooner(10.0) == deadline


def test_without_a_clock_it_is_the_monotonic_one() -> None:
    before = time.monotonic()
    deadline = Deadline.after(100.0)
    assert before + 100.0 <= deadline.at <= time.monotonic() + 100.0
    assert 0.0 < deadline.remaining <= 100.0
