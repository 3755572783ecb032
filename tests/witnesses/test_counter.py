"""The guest's boot counter, and what became of the CMOS that holds it."""

from __future__ import annotations

from dataclasses import replace

from bootmatrix.model import Verdict
from bootmatrix.witnesses import counter
from bootmatrix.witnesses.probe_line import ProbeLine
from helpers.judging import (
    OLD,
    START,
    boot,
    judge_migration,
    migrated,
    moment,
    planned,
    started,
)


def test_a_guest_does_not_tell_that_it_was_reset() -> None:
    judgement = judge_migration(replace(migrated(), went_round=True))
    assert judgement.verdict is Verdict.NO_BOOT
    assert judgement.reason == ("migrate: the machine was reset, and nobody had asked for it; "
                                "the guest does not tell of it")


def test_the_guest_rebooted_in_the_migration() -> None:
    judgement = judge_migration(migrated(answer=ProbeLine("here", 2, 1)))
    assert judgement.verdict is Verdict.NO_BOOT
    assert judgement.reason == (
        "migrate: the guest has rebooted, its boot counter went from 1 to 2"
    )


def test_a_guest_that_is_not_up_has_counted_nothing() -> None:
    (expected,) = planned(START)
    seen = moment(expected, started(replace(boot(OLD), up=None)))
    assert counter.row(seen) == {"counter": None}
