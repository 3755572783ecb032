"""What the guest has written to the CMOS, planted and judged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootmatrix.model import Verdict
from bootmatrix.steps.start import Start
from bootmatrix.verdict import Judgement, judge
from bootmatrix.witnesses.observation import BootObserved, StepObserved
from helpers.judging import (
    HERE,
    KNOWN,
    MIGRATE,
    NEW,
    OLD,
    RESET,
    SHUTDOWN,
    START,
    boot,
    migrated,
    planned,
    reset,
    rows_of,
    started,
)


def counting(cmos: int | None, seen: BootObserved | None = None) -> BootObserved:
    """A boot whose guest finds itself so often in the CMOS."""
    seen = seen or boot(OLD)
    assert seen.up is not None
    return replace(seen, up=replace(seen.up, cmos=cmos))


def judge_reset(before: int | None, after: int | None) -> Judgement:
    return judge(planned(START, RESET), [started(counting(before)), reset(counting(after))], KNOWN)


@pytest.mark.parametrize(("before", "after", "fate", "told"), [
    (1, 2, "survived", ""),
    (7, 8, "survived", ""),
    (3, 1, "lost", "is 1, expected 4: what it had written there is lost"),
    (1, 1, "lost", "is 1, expected 2: what it had written there is lost"),
    (1, 3, "survived", "is 3, expected 2"),
    (None, 1, None, ""),
    (1, None, None, ""),
])
def test_after_a_reset(
    before: int | None, after: int | None, fate: str | None, told: str
) -> None:
    judgement = judge_reset(before, after)
    assert [row["cmos"] for row in rows_of(judgement)] == [None, fate]
    assert judgement.verdict is (Verdict.WRONG_CMOS if told else Verdict.PASS)
    if told:
        assert judgement.reason == (
            f"boot 2 (reset on source): the guest's count of its boots in the CMOS {told}")


def test_a_new_process_has_a_new_one() -> None:
    steps = planned(START, SHUTDOWN, Start(1))
    seen = [started(counting(5)), StepObserved(SHUTDOWN, 0.1),
            StepObserved(Start(1), 0.1, 1, boot=counting(1, boot(NEW, 1)))]
    judgement = judge(steps, seen, KNOWN)
    assert judgement.verdict is Verdict.PASS, judgement.reason
    assert rows_of(judgement)[1]["cmos"] == "lost"


@pytest.mark.parametrize(("now", "told"), [
    (2, ""), (None, ""),
    (0, "the CMOS has lost the guest's count of its boots, 2"),
    (1, "the guest's count of its boots in the CMOS went from 2 to 1"),
])
def test_after_a_migration(now: int | None, told: str) -> None:
    seen = [started(counting(2)), migrated(answer=replace(HERE, cmos=now))]
    judgement = judge(planned(START, MIGRATE), seen, KNOWN)
    assert judgement.verdict is (Verdict.WRONG_CMOS if told else Verdict.PASS)
    assert judgement.reason == (f"migrate: {told}" if told else "seabios-old (start on source)")
