"""``upgrade-host``: a new file in the place of a host's firmware."""

from __future__ import annotations

from bootmatrix.machines.base import ReplacesFirmware, able
from bootmatrix.model import FirmwareBuild
from bootmatrix.run.guest import Guest
from bootmatrix.steps.base import Step
from bootmatrix.steps.upgrade_host import UpgradeHost
from bootmatrix.witnesses.observation import StepObserved


def do(guest: Guest, step: UpgradeHost, following: Step | None) -> StepObserved:
    """Install the firmware of another host."""
    return install(guest, step.host, guest.setup.hosts[step.firmware_of].firmware)


def install(guest: Guest, host: int, firmware: FirmwareBuild) -> StepObserved:
    """Replace the firmware file on a host, as a package upgrade does."""
    able(guest.hosts, ReplacesFirmware).install(host, firmware)
    return guest.observed()
