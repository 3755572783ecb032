"""A reset by the monitor, or by the guest itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.errors import DeadlineExceeded
from bootmatrix.machines.fake import FakeMachine, Script
from bootmatrix.model import ResetBy
from bootmatrix.run.steps import do_step
from bootmatrix.steps.reset import Reset
from bootmatrix.steps.start import Start
from helpers.fakes import fake_guest, life

BY_CF9 = {"reset": {"by": "cf9"}}


@pytest.mark.parametrize(("reset", "words"), [
    (BY_CF9, "the machine was not reset within 0 s after the guest was told to do so by cf9"),
    ("reset", "the machine was told to reset, and was not"),
])
def test_a_reset_that_never_happens(tmp_path: Path, reset: Any, words: str) -> None:
    """The guest that goes on is asked, and its answer is in time: nothing is waited for."""
    script = Script(no_reset=True, does="halted until an interrupt comes")
    seen = life(fake_guest(tmp_path, script=script), ["start", reset, "migrate"])
    assert len(seen) == 2, "the guest is down as far as this cell is concerned"
    assert (seen[1].failed, seen[1].not_reset, seen[1].limit) == (words, True, None)
    assert seen[1].answer is not None
    assert seen[1].black_box is not None
    assert seen[1].black_box.line == "still running the guest: the reset never happened"
    assert "halted" in seen[1].black_box.text


@pytest.mark.parametrize(("reset", "soon"), [(BY_CF9, True), ("reset", False)])
def test_who_was_waited_for_with_patience_is_not_once_more(
    tmp_path: Path, reset: Any, soon: bool
) -> None:
    """What a guest was told to do had all the time that there is; the monitor's reset had none."""
    script = Script(no_reset=True, deaf=True)
    seen = life(fake_guest(tmp_path, script=script, least=2.0), ["start", reset])[-1]
    assert (seen.not_reset, seen.answer) == (True, None)
    assert (seen.seconds < 1.5) is soon, f"the guest was waited for, for {seen.seconds:.1f} s"


def test_who_was_reset_and_is_not_seen_to_stand_still_was_reset(tmp_path: Path) -> None:
    guest = fake_guest(tmp_path, script=Script(deaf=True))
    with guest:
        do_step(guest, Start(0))
        guest._resets = 1
        seen = do_step(guest, Reset(ResetBy.CF9))
    assert (seen.not_reset, seen.limit) == (False, 0.2)


def test_a_machine_that_does_not_answer_is_not_reset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stuck(self: FakeMachine, deadline: Deadline) -> bool:
        raise DeadlineExceeded("not in time: 1-source: stop")

    monkeypatch.setattr(FakeMachine, "reset", stuck)
    seen = life(fake_guest(tmp_path, script=Script(deaf=True)), ["start", "reset"])[-1]
    assert seen.failed == "the machine was not reset: not in time: 1-source: stop"
    assert (seen.not_reset, seen.answer, seen.limit) == (True, None, 0.2)
