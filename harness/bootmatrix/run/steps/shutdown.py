"""``shutdown``: by the monitor, or by the guest itself."""

from __future__ import annotations

from bootmatrix.machines.base import SwitchesOff
from bootmatrix.model import ShutdownBy
from bootmatrix.run.guest import Guest
from bootmatrix.steps.base import Step
from bootmatrix.steps.shutdown import KEY, Shutdown
from bootmatrix.witnesses.observation import StepObserved


def do(guest: Guest, step: Shutdown, following: Step | None) -> StepObserved:
    """End the guest's process."""
    machine = guest.machine
    if step.by is ShutdownBy.GUEST:
        wait = guest.command_seconds
        machine.console.send(KEY.encode())
        if machine.outlives(guest.deadline(wait)):
            limit = guest.limit(wait)
            return guest.observed(
                limit=limit,
                failed=f"the machine still runs {limit:.0f} s after the guest was told to shut "
                "down",
            )
    guest.able(SwitchesOff).off(guest.rig)
    guest.running = None
    if guest.coming is not None:  # it waits for nobody
        guest.coming.close()
        guest.coming = None
    return guest.observed()
