"""How often a machine was reset for a boot, planted and judged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootmatrix.model import Verdict
from bootmatrix.verdict import Judgement, judge
from bootmatrix.witnesses.observation import BootObserved
from bootmatrix.witnesses.resets import ENDLESS
from helpers.judging import (
    DURING_POST,
    KNOWN,
    MIGRATE,
    NEW,
    OLD,
    RESET,
    START,
    boot,
    migrated,
    planned,
    reset,
    rows_of,
    started,
)


def judge_reset(qemu: str = "11.1.3", **changed: object) -> Judgement:
    """A guest that was reset on the destination, on a QEMU of that version."""
    steps = [replace(step, qemu=qemu) for step in planned(START, MIGRATE, RESET)]
    seen = reset(replace(boot(NEW, 1, counter=2), **changed))  # type: ignore[arg-type]
    return judge(steps, [started(), migrated(), seen], KNOWN)


@pytest.mark.parametrize(("qemu", "seen", "told"), [
    ("11.1.3", {"resets": 1}, ""),
    ("11.1.3", {"resets": 2}, ""),
    ("8.2.0", {"resets": 3}, "3 times, where once was asked for, and SeaBIOS does it once more"),
    ("11.1.3", {"resets": 5}, "5 times, where once was asked for, and SeaBIOS does it once more"),
    ("8.1.4", {"resets": 5}, ""),
    ("11.1.3", {"resets": 1, "swapped": True}, ""),
    ("5.2.0", {"resets": 2, "swapped": True}, "2 times, where once was asked for"),
    ("7.2.22", {"resets": 1, "nameless": True}, ""),
    ("7.2.22", {"resets": 2, "nameless": True}, "2 times, where once was asked for"),
    ("11.1.3", {"resets": None}, ""),  # an answer that was kept before it was counted
])
def test_of_a_reset(qemu: str, seen: dict[str, object], told: str) -> None:
    judgement = judge_reset(qemu, **seen)
    row = rows_of(judgement)[1]
    assert (row["resets"], row["swapped"]) == (seen["resets"], "swapped" in seen)
    if told:
        assert judgement.verdict is Verdict.EXTRA_RESET
        assert judgement.reason == (
            f"boot 2 (reset on destination): the machine was reset {told}")
    else:
        assert judgement.verdict is Verdict.PASS, judgement.reason


@pytest.mark.parametrize(("resets", "told"), [
    (0, ""), (1, "once or more, and nobody had asked for it"),
    (3, "3 times or more, and nobody had asked for it"),
])
def test_of_a_start(resets: int, told: str) -> None:
    judgement = judge(planned(START), [started(replace(boot(OLD), resets=resets))], KNOWN)
    assert judgement.verdict is (Verdict.EXTRA_RESET if told else Verdict.PASS)
    assert judgement.reason.endswith(told)


@pytest.mark.parametrize(("source", "resets", "verdict"), [
    ("11.1.3", 2, Verdict.PASS),
    ("11.1.3", 3, Verdict.EXTRA_RESET),
    ("7.2.22", 3, Verdict.PASS),  # it was reset there
])
def test_of_a_boot_that_ends_on_another_host(source: str, resets: int, verdict: Verdict) -> None:
    steps = [replace(step, qemu=source if step.host == 0 else "11.1.3")
             for step in planned(START, RESET, DURING_POST)]
    moved = BootObserved(1, (OLD.prints or "",), boot(OLD, counter=2).up, OLD.sha256, 1.0, 5.0,
                         resets=resets)
    seen = [started(), replace(reset(boot(OLD)), boot=None),
            replace(migrated(), boot=moved, answer=None)]
    assert judge(steps, seen, KNOWN).verdict is verdict


def test_what_else_is_wrong_comes_first() -> None:
    judgement = judge_reset(resets=9, rom=OLD.sha256, banners=(OLD.prints,))
    assert judgement.verdict is Verdict.WITNESS_CONFLICT


def test_a_machine_that_goes_round_explains_a_guest_that_does_not_come_up() -> None:
    silent = judge_reset(resets=1000, up=None, banners=())
    assert silent.verdict is Verdict.SILENT
    assert silent.reason.endswith(
        "not a byte while the machine was reset 100 times and more")
    gone = judge_reset(resets=1000, up=None, banners=(), ended="killed")
    assert gone.reason.endswith(
        "before QEMU ended: killed, and before that the machine was reset 100 times and more")
    waited = judge_reset(resets=ENDLESS - 1, up=None, banners=())
    assert waited.reason.endswith("not a byte in 5.0 s; the machine was reset again and again")
    assert "again" not in judge_reset(resets=2, up=None, banners=()).reason
