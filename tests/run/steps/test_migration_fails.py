"""A migration that does not arrive: the guest is asked where it was."""

from __future__ import annotations

from pathlib import Path

from bootmatrix.machines.base import KeepsNvram, able
from bootmatrix.machines.fake import Script
from bootmatrix.nvram import Nvram
from bootmatrix.run.steps import run_steps
from bootmatrix.steps.library import parse
from bootmatrix.witnesses.observation import StepObserved
from helpers.fakes import fake_guest, life


def test_the_guest_goes_on_where_it_is_and_its_nvram_has_not_moved(tmp_path: Path) -> None:
    guest = fake_guest(tmp_path, "guest-owned")
    seen: list[StepObserved] = []
    with guest:
        run_steps(guest, parse("own", ["start", "migration-fails"]).steps, seen)
        assert guest.machine.host == 0
        assert seen[1].answer is not None
        assert seen[1].answer.boot == 1
        nvram = able(guest.hosts, KeepsNvram).nvram
        assert isinstance(nvram, Nvram)
        assert nvram.header.moved is None


def test_it_migrates_afterwards(tmp_path: Path) -> None:
    guest = fake_guest(tmp_path)
    _, _, moved, reset = life(guest, ["start", "migration-fails", "migrate", "reset"])
    assert moved.answer is not None
    assert moved.answer.boot == 1
    assert reset.boot is not None
    assert reset.boot.host == 1


def test_a_guest_that_does_not_survive_it_is_down(tmp_path: Path) -> None:
    seen = life(fake_guest(tmp_path, script=Script(deaf=True)),
                ["start", "migration-fails", "reset"])
    assert len(seen) == 2
    assert seen[1].answer is None


def test_how_it_ended_is_told(tmp_path: Path) -> None:
    step = {"migration-fails": {"by": "stream-cut", "seed": 7}}
    seen = life(fake_guest(tmp_path), ["start", step, "reset"])
    assert seen[1].ended is not None
    assert seen[1].ended.startswith("cut after ")
