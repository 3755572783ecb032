"""A build is staged in the guest's nvram file."""

from __future__ import annotations

from pathlib import Path

from bootmatrix.machines.fake import firmware
from bootmatrix.run.steps import do_step
from bootmatrix.steps.start import Start
from bootmatrix.steps.upgrade_nvram import UpgradeNvram
from helpers.fakes import fake_guest


def test_a_build_of_another_size_is_not_staged(tmp_path: Path) -> None:
    guest = fake_guest(tmp_path, "guest-owned")
    small = firmware("1.0.0-1", tmp_path, size=4096)
    guest.setup.hosts[1].__dict__["firmware"] = small
    with guest:
        do_step(guest, Start(0))
        refusal = do_step(guest, UpgradeNvram(firmware_of=1)).refusal
    assert refusal is not None
    assert refusal.message == "seabios-1.0.0-1 has 0x1000 bytes, the nvram's window 0x10000"
