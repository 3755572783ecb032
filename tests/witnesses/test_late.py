"""What came after its usual time."""

from __future__ import annotations

from dataclasses import replace

from bootmatrix.model import Verdict
from bootmatrix.verdict import judge
from bootmatrix.witnesses.moment import repeatable
from helpers.judging import (
    KNOWN,
    MIGRATE,
    NEW,
    RESET,
    START,
    boot,
    judge_late,
    migrated,
    planned,
    rows_of,
    started,
)


def test_late_the_right_firmware_after_its_usual_time() -> None:
    came = replace(boot(NEW, 1, counter=2), seconds=32.6123, limit=120.0)
    judgement = judge_late(came)
    assert judgement.verdict is Verdict.LATE
    assert judgement.reason == (
        "boot 2 (reset on destination): not up within 5.0 s "
        "(up after 32.6 s when waited for)"
    )
    assert rows_of(judgement)[1]["up"]
    assert rows_of(judgement)[1]["usual"] == 5.0
    assert "usual" not in rows_of(judgement)[0]


def test_late_without_a_boot() -> None:
    answers = replace(migrated(), seconds=9.87, usual=5.0)
    judgement = judge(planned(START, MIGRATE, RESET), [started(), answers], KNOWN)
    assert judgement.verdict is Verdict.LATE
    assert judgement.reason == "migrate: not done within 5.0 s (after 9.9 s when waited for)"


def test_late_by_a_clock_of_its_own_on_a_busy_machine() -> None:
    """In time as far as its QEMU was able to run, and found to have waited all the same."""
    came = replace(boot(NEW, 1, counter=2), seconds=0.7, wall=33.6, limit=120.0)
    judgement = judge_late(came)
    assert judgement.verdict is Verdict.LATE
    assert judgement.reason == (
        "boot 2 (reset on destination): not up within 5.0 s (up after 33.6 s, in which QEMU was "
        "able to run for 0.7 s, when waited for)"
    )
    quiet = replace(boot(NEW, 1, counter=2), seconds=33.6, wall=33.6, limit=120.0)
    assert repeatable(judgement.reason) == judge_late(quiet).reason


def test_late_by_its_work_on_a_busy_machine() -> None:
    came = replace(boot(NEW, 1, counter=2), seconds=12.0, wall=90.0, limit=120.0)
    assert ("(up after 12.0 s (90.0 s by the clock, in which QEMU was able to run for 12.0 s) when "
            "waited for)") in judge_late(came).reason
