"""An nvram file that has come to the destination."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootmatrix.model import Verdict
from bootmatrix.policies import Policy
from bootmatrix.verdict import judge
from bootmatrix.witnesses import nvram
from helpers.judging import (
    KNOWN,
    MIGRATE,
    OLD,
    RESET,
    START,
    boot,
    migrated,
    moment,
    planned,
    reset,
    started,
)


def test_an_nvram_that_does_not_arrive_whole() -> None:
    seen = [started(), replace(migrated(), nvram_equal=True), reset(boot(OLD, 1, 2))]
    expected = planned(START, MIGRATE, RESET, policy=Policy.GUEST_OWNED)
    assert judge(expected, seen, KNOWN).verdict is Verdict.PASS
    seen[1] = replace(migrated(), nvram_equal=False)
    judgement = judge(expected, seen, KNOWN)
    assert (judgement.verdict, judgement.reason) == (
        Verdict.WRONG_FIRMWARE,
        "migrate: the nvram on destination does not hold what the source's did",
    )


@pytest.mark.parametrize("equal", [True, False, None])
def test_what_is_in_the_record(equal: bool | None) -> None:
    row = nvram.step_row(replace(migrated(), nvram_equal=equal))
    assert row == ({} if equal is None else {"nvram_equal": equal})


def test_a_host_that_is_not_told_is_the_source() -> None:
    *_, expected = planned(START, MIGRATE)
    seen = replace(migrated(), host=None, nvram_equal=False)
    assert nvram.problem(moment(expected, seen)) == (
        Verdict.WRONG_FIRMWARE, "the nvram on source does not hold what the source's did")
