"""The guest's own program in its memory, planted and judged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootmatrix.model import Verdict
from bootmatrix.verdict import judge
from bootmatrix.witnesses import memory
from bootmatrix.witnesses.observation import BootObserved
from helpers.judging import (
    HERE,
    KNOWN,
    MIGRATE,
    OLD,
    RESET,
    START,
    boot,
    migrated,
    planned,
    reset,
    started,
)

WHOLE, TORN = "0123cdef", "89abcdef"


def running(program_sum: str | None, seen: BootObserved) -> BootObserved:
    """A boot whose guest finds such a program in its memory."""
    assert seen.up is not None
    return replace(seen, up=replace(seen.up, program_sum=program_sum))


@pytest.mark.parametrize(("before", "after", "told"), [
    (WHOLE, WHOLE, False), (WHOLE, TORN, True), (None, TORN, False), (WHOLE, None, False),
])
def test_it_stays_where_the_guest_goes(
    before: str | None, after: str | None, told: bool
) -> None:
    answer = replace(HERE, program_sum=after)
    judgement = judge(planned(START, MIGRATE), [
        started(running(before, boot(OLD))), migrated(answer=answer)], KNOWN)
    assert judgement.verdict is (Verdict.WRONG_MEMORY if told else Verdict.PASS)
    if told:
        assert judgement.reason == (
            f"migrate: the guest's program in its memory has changed: {WHOLE} before, now {TORN}")


def test_a_boot_brings_its_own() -> None:
    """From another disk it is another program."""
    judgement = judge(planned(START, RESET), [
        started(running(WHOLE, boot(OLD))), reset(running(TORN, boot(OLD, counter=2)))], KNOWN)
    assert judgement.verdict is Verdict.PASS


def test_it_is_in_the_record() -> None:
    assert memory.row(replace(HERE, program_sum=WHOLE)) == {"program_sum": WHOLE}
    assert memory.row(None) == memory.row(HERE) == {"program_sum": None}
