"""A migration that begins: the guest lives on where it is, and then arrives."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.machines.base import KeepsNvram, able
from bootmatrix.machines.fake import Script
from bootmatrix.nvram import Nvram
from bootmatrix.run.steps import run_steps
from bootmatrix.steps.library import LIBRARY
from bootmatrix.witnesses.observation import StepObserved
from bootmatrix.witnesses.refusal import Refusal
from helpers.fakes import fake_guest, life


def test_a_reset_meanwhile_is_where_the_guest_is(tmp_path: Path) -> None:
    guest = fake_guest(tmp_path, "machine-owned")
    seen: list[StepObserved] = []
    with guest:
        run_steps(guest, LIBRARY["reset-during-migration"].steps, seen)
        _, begun, reset, moved, last = seen
        assert begun.answer is not None
        assert begun.host == 0
        assert reset.boot is not None
        assert reset.boot.up is not None
        assert (reset.boot.host, reset.boot.up.boot) == (0, 2)
        assert moved.answer is not None
        assert (moved.host, moved.answer.boot) == (1, 2)
        assert last.boot is not None
        assert (last.boot.host, last.boot.banners) == (1, ("1.17.0-1",))
        assert len(guest.hosts.processes) == 2, "the destination is the one that was begun with"


@pytest.mark.parametrize(("policy", "runs"), [("machine-owned", "1.17.0-1"),
                                              ("reread", "1.16.2-1"), ("stock", "1.14.0-2")])
def test_the_destination_has_read_its_firmware_by_then(
    tmp_path: Path, policy: str, runs: str
) -> None:
    seen = life(fake_guest(tmp_path, policy), [
        "start", "migration-begins",
        {"upgrade-host": {"host": "destination", "firmware-of": "host-3"}}, "migrate", "reset"])
    assert seen[-1].boot is not None
    assert seen[-1].boot.banners == (runs,)


def test_a_guest_that_is_shut_down_meanwhile_is_where_it_was(tmp_path: Path) -> None:
    guest = fake_guest(tmp_path, "guest-owned")
    seen: list[StepObserved] = []
    with guest:
        run_steps(guest, LIBRARY["shutdown-during-migration"].steps, seen)
        assert guest.machine.host == 0
        assert guest.coming is None
        nvram = able(guest.hosts, KeepsNvram).nvram
        assert isinstance(nvram, Nvram)
        assert nvram.header.moved is None
    assert seen[-1].boot is not None
    assert seen[-1].boot.up is not None


def test_what_is_refused_is_told_where_it_ends(tmp_path: Path) -> None:
    refusal = Refusal("machine-type", "no such type")
    seen = life(fake_guest(tmp_path, script=Script(refuses=refusal)),
                ["start", "migration-begins", "reset", "migrate", "reset"])
    assert [step.refusal for step in seen] == [None, None, None, refusal]


def test_a_guest_that_does_not_answer_meanwhile_is_down(tmp_path: Path) -> None:
    seen = life(fake_guest(tmp_path, script=Script(deaf=True)),
                ["start", "migration-begins", "migrate"])
    assert len(seen) == 2
    assert seen[1].answer is None
