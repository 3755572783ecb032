"""``write-variable``, ``write-boot-entry``, ...: the guest writes to its variable store."""

from __future__ import annotations

from bootmatrix.run.guest import Guest
from bootmatrix.steps.base import Step
from bootmatrix.steps.variables import VariablesStep
from bootmatrix.witnesses.observation import StepObserved


def do(guest: Guest, step: VariablesStep, following: Step | None) -> StepObserved:
    """Tell the guest to do it, and ask it how it is."""
    console = guest.machine.console
    wait, patience = guest.command_seconds, guest.answer_seconds
    wrote = console.tell(step.key.encode(), step.line, guest.deadline(wait))
    answer = console.ask(guest.deadline(patience)) if wrote else None
    return guest.observed(
        wrote=wrote, answer=answer,
        failed=None if wrote else f"not a word of it from the guest in {guest.limit(wait):.0f} s",
        limit=guest.limit(patience if wrote else wait) if answer is None else None,
        went_round=guest.went_round(),
    )  # fmt: skip
