"""``migration-fails``: a migration is begun, and does not arrive."""

from __future__ import annotations

from dataclasses import replace

from bootmatrix.deadline import Deadline, slowest
from bootmatrix.errors import QemuError
from bootmatrix.machines.base import Migrates, able
from bootmatrix.run.guest import RIG_SECONDS, Guest
from bootmatrix.run.steps.migrate import ask
from bootmatrix.steps.base import Step
from bootmatrix.steps.migration_fails import MigrationFails
from bootmatrix.witnesses.observation import StepObserved
from bootmatrix.witnesses.refusal import classify


def do(guest: Guest, step: MigrationFails, following: Step | None) -> StepObserved:
    """Let it fail, take the destination away, and ask the guest how it is."""
    source, target = guest.machine, guest.launch(step.host, incoming=True)
    try:
        try:
            target.start(guest.rig)
        except QemuError as error:
            return guest.refused(classify(error.tail, error.status))
        both = Deadline.after(RIG_SECONDS, slowest(source.clock, target.clock))
        how = able(source, Migrates).fail_to_migrate(target, step.by, step.cut_at, both)
    finally:
        target.close()
    return replace(ask(guest), ended=how)
