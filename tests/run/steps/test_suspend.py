"""The guest suspends itself, is woken up, and asked."""

from __future__ import annotations

from pathlib import Path

from bootmatrix.machines.fake import Script
from helpers.fakes import fake_guest, life


def test_it_answers_after_its_wake_up_and_has_not_booted(tmp_path: Path) -> None:
    started, woken = life(fake_guest(tmp_path), ["start", "suspend"])
    assert started.boot is not None
    assert woken.boot is None
    assert woken.answer is not None
    assert woken.answer.boot == 1
    assert woken.rom == started.boot.rom
    assert (woken.limit, woken.failed) == (None, None)


def test_one_that_does_not_suspend(tmp_path: Path) -> None:
    seen = life(fake_guest(tmp_path, script=Script(deaf=True)), ["start", "suspend"])[1]
    assert seen.failed == "the guest did not suspend and wake within 0 s"
    assert seen.answer is None
