"""Out of one machine into another."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.errors import LeftTooLate
from bootmatrix.machines.base import KeepsNvram, able
from bootmatrix.machines.fake import Script
from bootmatrix.nvram import Nvram
from bootmatrix.run.steps import do_step, run_steps
from bootmatrix.steps.library import parse
from bootmatrix.steps.reset import Reset
from bootmatrix.witnesses.observation import StepObserved
from bootmatrix.witnesses.refusal import Refusal
from helpers.fakes import fake_guest, life


def test_a_guest_that_does_not_survive_its_migration_is_down(tmp_path: Path) -> None:
    seen = life(fake_guest(tmp_path, script=Script(deaf=True)), ["start", "migrate", "reset"])
    assert len(seen) == 2
    assert seen[1].answer is None
    assert seen[1].limit == 0.2


def test_a_refused_migration_leaves_the_guest_where_it_is(tmp_path: Path) -> None:
    refusal = Refusal("section", "Unknown section")
    guest = fake_guest(tmp_path, "guest-owned", Script(refuses=refusal))
    seen: list[StepObserved] = []
    with guest:
        run_steps(guest, parse("own", ["start", "migrate", "reset"]).steps, seen)
        assert [step.refusal for step in seen] == [None, refusal]
        assert guest.machine.host == 0
        nvram = able(guest.hosts, KeepsNvram).nvram
        assert isinstance(nvram, Nvram)
        assert nvram.header.moved is None
        assert do_step(guest, Reset()).boot is not None


def test_a_guest_that_is_up_before_it_leaves_is_not_waited_for_in_vain(tmp_path: Path) -> None:
    """As on a busy machine, whose POST is over before anybody can move it."""
    guest = fake_guest(tmp_path, script=Script(hurries=True), post_ms=500)
    with pytest.raises(LeftTooLate, match="up before it left"):
        life(guest, ["start", {"migrate": {"during-post": True}}])
