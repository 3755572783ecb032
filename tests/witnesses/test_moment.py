"""A step as its witnesses see it, and how reasons say what they found."""

from __future__ import annotations

import pytest

from bootmatrix.witnesses.moment import clock_note, in_seconds, last_line, repeatable, time_given
from helpers.judging import (
    DURING_POST,
    HERE,
    MIGRATE,
    NEW,
    START,
    boot,
    migrated,
    moment,
    planned,
    started,
    up,
)


def test_a_boot_is_counted_and_named_by_the_step_that_began_it() -> None:
    start, migrate = planned(START, DURING_POST)
    first = moment(start, started())
    assert (first.n, first.step, first.where) == (1, "start", "boot 1 (start on source)")
    assert first.line == up("1.14.0-2")
    seen = started(boot(NEW, 1))
    second = moment(migrate, seen, begun=start, boots=(first,))
    assert (second.n, second.step, second.where) == (2, "start", "boot 2 (start on destination)")
    assert second.boot is seen.boot


def test_without_a_boot_it_is_the_step_and_the_guest_s_answer() -> None:
    running = moment(planned(START, MIGRATE)[-1], migrated())
    assert (running.step, running.where, running.line) == ("migrate", "migrate", HERE)


@pytest.mark.parametrize(("seconds", "said"), [
    (0.04, "0.0 s"), (5, "5.0 s"), (99.9, "99.9 s"), (100, "100 s"), (120.4, "120 s"),
])
def test_a_wait_in_words(seconds: float, said: str) -> None:
    assert in_seconds(seconds) == said


@pytest.mark.parametrize(("seconds", "wall", "said"), [
    (25.1, 25.2, "25.0 s"), (25.1, 104.0, "25.0 s"), (18.4, 104.0, "25.0 s of patience"),
    (0.2, 0.3, "25.0 s"),
])
def test_a_time_that_goes_by_the_wall_clock_is_called_patience(
    seconds: float, wall: float, said: str
) -> None:
    assert time_given(25.0, seconds, wall) == said
    assert repeatable(f"not in {said}{clock_note(seconds, wall)}") == "not in 25.0 s"


def test_what_no_two_runs_have_alike_is_left_out_of_a_reason() -> None:
    for clock in ("kept waiting", "able to run for 6.1 s"):  # the first in older records
        waited = ("not up within 5.0 s (up after 6.1 s "
                  f"(33 s by the clock, in which QEMU was {clock}))")
        assert repeatable(waited) == "not up within 5.0 s (up after 6.1 s)"
    for often in ("once", "5 times"):
        start = f"the machine was reset {often} or more, and nobody had asked for it"
        assert repeatable(start) == "the machine was reset N or more, and nobody had asked for it"
    loops = "not a byte in 2.5 s; the machine was reset 538 times meanwhile"
    assert repeatable(loops) == "not a byte in 2.5 s; the machine was reset N times meanwhile"
    for round_ in ("in 1.0 s; the machine was reset again and again",
                   "while the machine was reset 100 times and more"):
        assert repeatable(f"not a byte {round_}") == (
            "not a byte while the machine was reset again and again")
    finding = "the machine was reset 3 times, where once was asked for"
    assert repeatable(finding) == finding, "how often it was is what is wrong there"


@pytest.mark.parametrize(("text", "last"), [
    ("a\nb\n", "b"), ("a\n\n \n", "a"), ("", "no last words"), ("\n", "no last words"),
])
def test_last_words(text: str, last: str) -> None:
    assert last_line(text) == last
