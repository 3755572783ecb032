"""The kernel that a guest runs, planted and judged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootmatrix.boards import Loader
from bootmatrix.model import Verdict
from bootmatrix.steps.base import Step
from bootmatrix.witnesses import kernel
from bootmatrix.witnesses.probe_line import ProbeLine
from helpers import judging
from helpers.judging import rows_of
from witnesses.test_variables import (
    MIGRATE,
    OVMF,
    RESET,
    START,
    SUSPEND,
    boots,
    here,
    judged,
    runs,
    up,
)


def linux(line: ProbeLine, token: str, uptime: int) -> ProbeLine:
    return replace(line, kernel="6.12.0-amd64", token=token, uptime=uptime)


LINUX = boots(START, 0, linux(up(1), "aa", 1))


def test_the_kernel_runs_on_and_a_boot_brings_another() -> None:
    judgement = judged([
        LINUX, runs(MIGRATE, 1, linux(here(1), "aa", 4)), runs(SUSPEND, 1, linux(here(1), "aa", 4)),
        boots(RESET, 1, linux(up(2), "bb", 1)),
    ])  # fmt: skip
    assert judgement.verdict is Verdict.PASS, judgement.reason
    assert rows_of(judgement)[1]["kernel"] == {
        "release": "6.12.0-amd64", "token": "bb", "uptime": 1,
    }  # fmt: skip


@pytest.mark.parametrize("step", [MIGRATE, SUSPEND])
def test_another_kernel_than_before(step: Step) -> None:
    judgement = judged([LINUX, runs(step, 1, linux(here(2), "bb", 1))])
    assert judgement.verdict is Verdict.WRONG_KERNEL
    assert judgement.reason == (
        f"{step.kind}: another kernel runs (token bb) than before (token aa)"
    )


def test_time_does_not_go_back_within_a_boot() -> None:
    seen = [LINUX, runs(MIGRATE, 1, linux(here(1), "aa", 9)),
            runs(SUSPEND, 1, linux(here(1), "aa", 8))]  # fmt: skip
    judgement = judged(seen)
    assert judgement.verdict is Verdict.WRONG_KERNEL
    assert judgement.reason == "suspend: the kernel's uptime went back from 9 s to 8 s"


def test_a_boot_after_which_the_old_kernel_still_runs() -> None:
    judgement = judged([LINUX, boots(RESET, 0, linux(up(2), "aa", 3))])
    assert judgement.verdict is Verdict.WRONG_KERNEL
    assert judgement.reason == (
        "boot 2 (reset on source): the kernel of boot 1 still runs (token aa)"
    )


def test_linux_on_a_bios_has_a_banner_and_no_variables() -> None:
    line = replace(
        linux(up(1), "aa", 1), uefi=None, secure_boot=None, setup_mode=None, keys=None,
        value=None, entry=None,
    )  # fmt: skip
    assert OVMF.prints is not None
    seen = boots(START, 0, line)
    assert seen.boot is not None
    seen = replace(seen, boot=replace(seen.boot, banners=(OVMF.prints,)))
    judgement = judged([seen], Loader.ROM)
    assert judgement.verdict is Verdict.PASS, judgement.reason


def test_what_a_guest_without_a_kernel_puts_into_the_record() -> None:
    assert kernel.row(up(1)) == {"kernel": None}
    assert kernel.row(None) == {"kernel": None}


def test_a_guest_that_does_not_answer_runs_no_other_kernel() -> None:
    *_, expected = judging.planned(judging.START, judging.MIGRATE)
    dead = judging.migrated(answer=None)
    running = linux(here(1), "aa", 1)
    assert kernel.problem(judging.moment(expected, dead, before=running)) is None
    alive = judging.migrated(answer=running)
    assert kernel.problem(judging.moment(expected, alive)) is None
    # A boot sector was there before, which has no kernel.
    assert kernel.problem(judging.moment(expected, alive, before=here(1))) is None


@pytest.mark.parametrize(("before", "now", "back"), [(0, 0, False), (1, 0, True), (0, 1, False)])
def test_the_first_second_counts(before: int, now: int, *, back: bool) -> None:
    *_, expected = judging.planned(judging.START, judging.MIGRATE)
    seen = judging.migrated(answer=linux(here(1), "aa", now))
    found = kernel.problem(judging.moment(expected, seen, before=linux(here(1), "aa", before)))
    assert (found is not None) is back
