"""Deadlines, on a clock that the test sets."""

from __future__ import annotations

import time

import pytest

from bootmatrix.deadline import Awake, Deadline, awake, hurried, slowest
from bootmatrix.errors import DeadlineExceeded, HarnessError


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


def test_without_a_clock_it_is_that_of_this_process_awake() -> None:
    before = awake()
    deadline = Deadline.after(100.0)
    assert before + 100.0 <= deadline.at <= awake() + 100.0
    assert 0.0 < deadline.remaining <= 100.0


def test_what_is_left_by_another_clock(clock: Clock) -> None:
    deadline = Deadline.after(5.0, clock)
    clock.now += 2.0
    other = Clock()
    other.now = 7.0
    assert deadline.by(other) == Deadline(10.0, other)


def test_the_slowest_of_several_clocks_decides(clock: Clock) -> None:
    other = Clock()
    both = slowest(clock, other)
    clock.now += 3.0
    assert both() == 0.0
    other.now += 2.0
    assert both() == 2.0
    other.now += 2.0
    assert both() == 3.0


def test_a_hurried_clock_goes_faster_but_not_than_time(clock: Clock) -> None:
    time_ = Clock()
    hurried_ = hurried(clock, 4, time_)
    time_.now += 100.0
    clock.now += 20.0
    assert hurried_() == 80.0
    clock.now += 20.0
    assert hurried_() == 100.0


# -- the clock of a process that is awake ----------------------------------------------------


def test_while_the_heart_beats_it_is_the_clock_that_it_is_taken_from(clock: Clock) -> None:
    time_ = Awake(clock, beats=False)
    begun = time_()
    for _ in range(100):
        clock.now += 0.1
        time_.beat()
    clock.now += 0.25
    assert time_() - begun == pytest.approx(10.25)


def test_without_a_heartbeat_it_stands_still_and_goes_on_from_there(clock: Clock) -> None:
    time_ = Awake(clock, beats=False)
    begun = time_()
    deadline = Deadline.after(5.0, time_)
    clock.now += 20.0  # everything was stopped: nobody has seen anything
    assert time_() - begun < 0.5
    time_.beat()
    clock.now += 0.1
    assert time_() - begun < 0.6
    assert deadline.remaining > 4.0


def test_it_never_goes_back(clock: Clock) -> None:
    time_ = Awake(clock, beats=False)
    seen = []
    for pause in (0.1, 0.0, 5.0, 0.2, 0.31, 0.1):
        clock.now += pause
        seen.append(time_())
        time_.beat()
        seen.append(time_())
    assert seen == sorted(seen)


def test_its_heart_beats_by_itself() -> None:
    time_ = Awake()
    begun, before = time_(), time.monotonic()
    time.sleep(0.5)
    passed = time.monotonic() - before
    assert 0.3 < time_() - begun <= passed + 0.01
    time_.forked()  # nothing beats in a child: it has a heart of its own from now on
    begun = time_()
    time.sleep(0.5)
    assert time_() - begun > 0.3


def test_until_something_comes_or_no_time_is_left() -> None:
    now, waits = [0.0], []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        now[0] += 2
        return now[0] == 6

    assert Deadline.after(9, lambda: now[0]).until(wait)
    assert waits == [9, 7, 5]
    assert not Deadline.after(3, lambda: now[0]).until(wait)
    assert waits[3:] == [3, 1, 0]
    now[0] = 4
    assert Deadline.after(0, lambda: now[0]).until(wait), "it has come, and nobody had looked"
    assert waits[6:] == [0]
