"""``clear-nvram``: the guest's nvram file is emptied."""

from __future__ import annotations

from bootmatrix.errors import UserError
from bootmatrix.machines.base import KeepsNvram, able
from bootmatrix.run.guest import Guest
from bootmatrix.steps.base import Step
from bootmatrix.steps.clear_nvram import ClearNvram
from bootmatrix.witnesses.observation import StepObserved


def do(guest: Guest, step: ClearNvram, following: Step | None) -> StepObserved:
    """Empty the nvram of this guest, which must not run."""
    if guest.running is not None:
        raise UserError("the nvram of a running guest cannot be cleared", hint="shut it down")
    nvram = able(guest.hosts, KeepsNvram).nvram
    if nvram is not None:
        nvram.clear()
    return guest.observed()
