"""``migration-begins``: a migration that is held back, beside the steps that follow."""

from __future__ import annotations

from bootmatrix.deadline import Deadline, slowest
from bootmatrix.errors import QemuError
from bootmatrix.machines.base import Migrates, able
from bootmatrix.run.guest import RIG_SECONDS, Guest
from bootmatrix.run.steps.migrate import ask
from bootmatrix.steps.base import Step
from bootmatrix.steps.migration_begins import MigrationBegins
from bootmatrix.witnesses.observation import StepObserved
from bootmatrix.witnesses.refusal import classify


def do(guest: Guest, step: MigrationBegins, following: Step | None) -> StepObserved:
    """Begin, and ask the guest how it is meanwhile; a refusal is told where it ends."""
    source, target = guest.machine, guest.launch(step.host, incoming=True)
    try:
        target.start(guest.rig)
    except QemuError as error:
        target.close()
        return guest.refused(classify(error.tail, error.status))
    both = Deadline.after(RIG_SECONDS, slowest(source.clock, target.clock))
    able(source, Migrates).begin_to_migrate(target, both)
    guest.coming = target
    return ask(guest)
