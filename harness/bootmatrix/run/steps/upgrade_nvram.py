"""``upgrade-nvram``: other firmware is staged in the guest's nvram file."""

from __future__ import annotations

from bootmatrix.errors import UserError
from bootmatrix.machines.base import KeepsNvram, able
from bootmatrix.model import FirmwareBuild
from bootmatrix.run.guest import Guest
from bootmatrix.steps.base import Step
from bootmatrix.steps.upgrade_nvram import UpgradeNvram
from bootmatrix.witnesses.observation import StepObserved
from bootmatrix.witnesses.refusal import Refusal


def do(guest: Guest, step: UpgradeNvram, following: Step | None) -> StepObserved:
    """Stage the firmware of another host."""
    return stage(guest, guest.setup.hosts[step.firmware_of].firmware)


def stage(guest: Guest, firmware: FirmwareBuild) -> StepObserved:
    """Stage a build for this guest: it runs from the next reset or start on."""
    nvram = able(guest.hosts, KeepsNvram).nvram
    if nvram is None:
        raise UserError(
            f"policy {guest.setup.policy}: this guest has no nvram to upgrade",
            hint="start it once, under guest-owned or guest-owned-versioned",
        )
    if firmware.size != nvram.size:
        return guest.refused(Refusal(
            "rom-size",
            f"{firmware.name} has {firmware.size:#x} bytes, the nvram's window {nvram.size:#x}",
        ))  # fmt: skip
    nvram.stage(firmware.path.read_bytes(), firmware.name)
    if guest.running is not None:
        guest.arm(guest.running)
    return guest.observed()
