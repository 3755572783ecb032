"""``guest-flash-power-loss``: the power is cut while the guest programs its flash."""

from __future__ import annotations

from bootmatrix.machines.base import LosesPower
from bootmatrix.run.guest import Guest
from bootmatrix.steps.base import Step
from bootmatrix.steps.guest_flash import KEY, LINE
from bootmatrix.steps.guest_flash_power_loss import GuestFlashPowerLoss
from bootmatrix.witnesses.observation import StepObserved


class _Enough(Exception):
    """So many bytes are programmed."""

    def __init__(self, at: int) -> None:
        super().__init__(at)
        self.at = at


def do(guest: Guest, step: GuestFlashPowerLoss, following: Step | None) -> StepObserved:
    """Tell the guest to program its flash, and cut its power when it has begun."""
    console, cuts = guest.machine.console, guest.able(LosesPower)
    wait = guest.command_seconds
    try:
        line = console.tell(KEY.encode(), LINE, guest.deadline(wait), _stop)
    except _Enough as enough:
        cuts.cut_power()
        guest.running = None
        return guest.observed(flashed=enough.at)
    how = "fell silent" if line is None else f"said {line.result!r}"
    return guest.observed(
        failed=f"the guest {how} before its power could be cut while it programs its flash")


def _stop(at: int) -> None:
    if at > 0:
        raise _Enough(at)
