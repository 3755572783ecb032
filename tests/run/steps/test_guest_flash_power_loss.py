"""The power is cut when the guest has begun, and never when it is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.machines.fake import FakeMachine, Script
from bootmatrix.run.steps import do_step
from bootmatrix.steps.guest_flash_power_loss import GuestFlashPowerLoss
from bootmatrix.steps.start import Start
from helpers.fakes import fake_guest

LOSS = GuestFlashPowerLoss(firmware_of=1)


def test_it_is_cut_as_soon_as_a_part_is_programmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = FakeMachine._do

    def slowly(machine: FakeMachine, key: bytes, nonce: str) -> None:
        if key == b"f":
            machine._print(f"BOOTMATRIX flashing{nonce} at=0")
            machine._print(f"BOOTMATRIX flashing{nonce} at=4096")
        else:
            said(machine, key, nonce)

    monkeypatch.setattr(FakeMachine, "_do", slowly)
    with fake_guest(tmp_path, "guest-owned") as guest:
        do_step(guest, Start(0))
        machine = guest.machine
        seen = do_step(guest, LOSS)
        assert (seen.flashed, seen.cut_off, seen.failed, seen.host) == (4096, None, None, None)
        assert guest.running is None
        assert not machine.alive


@pytest.mark.parametrize(("script", "how"), [
    (Script(), "said 'ok'"), (Script(deaf=True), "fell silent"),
], ids=["done", "deaf"])
def test_a_guest_that_says_nothing_of_it(tmp_path: Path, script: Script, how: str) -> None:
    with fake_guest(tmp_path, "guest-owned", script) as guest:
        do_step(guest, Start(0))
        seen = do_step(guest, LOSS)
        assert seen.failed == (
            f"the guest {how} before its power could be cut while it programs its flash")
