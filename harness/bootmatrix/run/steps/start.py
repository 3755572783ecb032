"""``start``: a new machine, and the boot in it."""

from __future__ import annotations

from bootmatrix.errors import QemuError, UserError
from bootmatrix.machines.base import Migrates, able
from bootmatrix.run.guest import Guest
from bootmatrix.steps.base import Step
from bootmatrix.steps.migrate import Migrate, leaves_during_post
from bootmatrix.steps.start import Start
from bootmatrix.witnesses.observation import StepObserved
from bootmatrix.witnesses.refusal import classify


def do(guest: Guest, step: Start, following: Step | None) -> StepObserved:
    """Boot in a new process; the destination of a migration to come is launched beside it.

    One that has to be launched behind it is not.
    """
    if guest.running is not None:
        raise UserError("the guest runs already", hint="shut it down first")
    guest.banners = ()
    try:
        machine = guest.launch(step.host, incoming=False)
        if isinstance(following, Migrate) and not able(machine, Migrates).leaves_first:
            guest.incoming = guest.launch(following.host, incoming=True)
        machine.start(guest.rig)
    except QemuError as error:
        return guest.refused(classify(error.tail, error.status))
    guest.running = machine
    return guest.boot(banner_only=leaves_during_post(following))
