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


@pytest.mark.parametrize("policy", ["stock", "machine-owned", "guest-owned"])
def test_a_guest_that_leaves_one_machine_before_there_is_another(
    tmp_path: Path, policy: str
) -> None:
    guest = fake_guest(tmp_path, policy, Script(leaves_first=True))
    seen = life(guest, ["start", "migrate", "reset"])
    assert [step.host for step in seen] == [0, 1, 1]
    assert seen[1].answer is not None
    assert seen[1].answer.boot == 1, "the same boot goes on"
    assert seen[2].boot is not None
    assert seen[2].boot.up is not None


def test_one_that_cannot_leave_stays(tmp_path: Path) -> None:
    refusal = Refusal("block-device", "does not support snapshots")
    guest = fake_guest(tmp_path, script=Script(leaves_first=True, refuses=refusal))
    with guest:
        seen: list[StepObserved] = []
        run_steps(guest, parse("own", ["start", "migrate"]).steps, seen)
        assert seen[1].refusal == refusal
        assert guest.machine.host == 0
        assert len(guest.hosts.processes) == 1, "no other was launched"


def test_a_guest_that_is_up_before_it_leaves_is_not_waited_for_in_vain(tmp_path: Path) -> None:
    """As on a busy machine, whose POST is over before anybody can move it."""
    guest = fake_guest(tmp_path, script=Script(hurries=True), post_ms=500)
    with pytest.raises(LeftTooLate, match="up before it left"):
        life(guest, ["start", {"migrate": {"during-post": True}}])


@pytest.mark.parametrize("moves_as", ["paused", "suspended"])
def test_a_guest_that_does_nothing_when_it_moves_goes_on_there(
    tmp_path: Path, moves_as: str
) -> None:
    seen = life(fake_guest(tmp_path, "guest-owned"), [
        "start", {"migrate": {"as": moves_as}}, "reset"])
    assert seen[1].answer is not None
    assert (seen[1].host, seen[1].answer.boot, seen[1].nvram_equal) == (1, 1, True)
    assert seen[2].boot is not None
    assert seen[2].boot.up is not None


def test_a_guest_that_does_not_suspend_stays(tmp_path: Path) -> None:
    seen = life(fake_guest(tmp_path, script=Script(deaf=True)),
                ["start", {"migrate": {"as": "suspended"}}, "reset"])
    assert seen[1].failed is not None
    assert "did not suspend" in seen[1].failed
