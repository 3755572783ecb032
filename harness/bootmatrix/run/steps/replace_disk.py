"""``replace-disk``: the disk's file is renamed away, and another put in its place."""

from __future__ import annotations

from bootmatrix.machines.base import ReplacesDisk, able
from bootmatrix.run.guest import Guest
from bootmatrix.steps.base import Step
from bootmatrix.steps.replace_disk import ReplaceDisk
from bootmatrix.witnesses.observation import StepObserved


def do(guest: Guest, step: ReplaceDisk, following: Step | None) -> StepObserved:
    """Put disk B in the place of disk A."""
    able(guest.hosts, ReplacesDisk).replace_disk()
    return guest.observed()
