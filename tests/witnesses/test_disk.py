"""The disk's label against the model's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootmatrix.model import Verdict
from bootmatrix.steps.replace_disk import ReplaceDisk
from bootmatrix.verdict import judge
from bootmatrix.witnesses import disk
from bootmatrix.witnesses.observation import StepObserved
from helpers.judging import KNOWN, OLD, RESET, START, boot, moment, planned, reset, started, up


def test_wrong_disk() -> None:
    replaced = ReplaceDisk()
    judgement = judge(
        planned(START, replaced, RESET),
        [
            started(),
            StepObserved(replaced, 0.0, 0),
            reset(replace(boot(OLD), up=up(OLD, 2, disk="B"))),
        ],
        KNOWN,
    )
    assert judgement.verdict is Verdict.WRONG_DISK
    assert judgement.reason == "boot 2 (reset on source): expected disk A, seen B"


@pytest.mark.parametrize(("kernel", "label", "wrong"), [
    (None, "A", False), (None, "B", True), (None, "", True),
    # -kernel starts it from no disk; one that says B has booted from it
    ("6.1.0", "", False), ("6.1.0", "B", True),
])
def test_a_kernel_that_came_from_no_disk(kernel: str | None, label: str, *, wrong: bool) -> None:
    (expected,) = planned(START)
    line = replace(up(OLD, disk=label), kernel=kernel)
    found = disk.problem(moment(expected, started(replace(boot(OLD), up=line))))
    assert found == ((Verdict.WRONG_DISK, f"expected disk A, seen {label}") if wrong else None)


def test_what_is_in_the_record() -> None:
    (expected,) = planned(START)
    assert disk.row(moment(expected, started())) == {"disk": "A", "expected_disk": "A"}
    down = started(replace(boot(OLD), up=None))
    assert disk.row(moment(expected, down)) == {"disk": None, "expected_disk": "A"}
    assert disk.problem(moment(expected, down)) is None
