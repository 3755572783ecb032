"""The guest programs its flash, where it has one."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.errors import UserError
from bootmatrix.machines.fake import Script
from bootmatrix.run.steps import do_step
from bootmatrix.steps.guest_flash import GuestFlash
from bootmatrix.steps.start import Start
from helpers.fakes import fake_guest, life, setup


@pytest.mark.parametrize(("policy", "result"), [("guest-owned", "ok"), ("stock", "no-flash")])
def test_what_the_guest_says_of_it_and_what_stands_in_the_rom(
    tmp_path: Path, policy: str, result: str
) -> None:
    old, new, _ = setup(tmp_path / "known").hosts
    seen = life(fake_guest(tmp_path, policy), ["start", "guest-flash"])[1]
    assert seen.flash is not None
    assert seen.flash.result == result
    wanted = new if result == "ok" else old
    assert seen.rom == wanted.firmware.sha256
    assert seen.answer is not None


def test_a_guest_that_fell_silent_is_cut_off(tmp_path: Path) -> None:
    seen = life(fake_guest(tmp_path, "guest-owned", Script(deaf=True)), ["start", "guest-flash"])[1]
    assert (seen.cut_off, seen.flashed) == ("the guest fell silent", 0)


def test_a_guest_that_was_given_no_image(tmp_path: Path) -> None:
    with fake_guest(tmp_path, "guest-owned") as guest:
        guest.setup.__dict__["flash"] = None
        do_step(guest, Start(0))
        with pytest.raises(UserError, match="the guest has no image to flash"):
            do_step(guest, GuestFlash(1))
