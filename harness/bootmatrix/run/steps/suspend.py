"""``suspend``: the guest suspends itself, and is woken up."""

from __future__ import annotations

from bootmatrix.errors import DeadlineExceeded
from bootmatrix.machines.base import Wakes
from bootmatrix.run.guest import Guest
from bootmatrix.steps.base import Step
from bootmatrix.steps.suspend import KEY, Suspend
from bootmatrix.witnesses.observation import StepObserved


def do(guest: Guest, step: Suspend, following: Step | None) -> StepObserved:
    """Suspend to RAM, wake up, and ask the guest how it is."""
    machine, wait = guest.machine, guest.command_seconds
    try:
        guest.able(Wakes).suspend_by(KEY.encode(), guest.deadline(wait))
        guest.able(Wakes).wake(guest.deadline(wait))
    except DeadlineExceeded:
        limit = guest.limit(wait)
        return guest.observed(
            limit=limit, failed=f"the guest did not suspend and wake within {limit:.0f} s")
    answer = machine.console.ask(guest.deadline(guest.setup.seconds))
    machine.check()
    return guest.observed(
        rom=guest.rom(), answer=answer,
        limit=guest.limit(guest.setup.seconds) if answer is None else None,
        went_round=guest.went_round(),
    )  # fmt: skip
