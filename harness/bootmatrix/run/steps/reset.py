"""``reset``: by the monitor, or by the guest itself."""

from __future__ import annotations

from bootmatrix.errors import DeadlineExceeded, GdbError, MonitorError
from bootmatrix.machines.base import LAST_WORDS_SECONDS, Resets, Types
from bootmatrix.model import ResetBy
from bootmatrix.run import guest as guests
from bootmatrix.run.guest import Guest
from bootmatrix.steps.base import Step
from bootmatrix.steps.migrate import leaves_during_post
from bootmatrix.steps.reset import KEYS, Reset
from bootmatrix.witnesses.observation import StepObserved


def do(guest: Guest, step: Reset, following: Step | None) -> StepObserved:
    """Boot in the same process."""
    machine = guest.machine
    guest.banners = ()
    missed = None
    try:
        missed = _missed(guest, step.by)
    except (MonitorError, GdbError):
        if machine.outlives(machine.clock.deadline(LAST_WORDS_SECONDS)):
            raise
        # A machine that is no longer there is seen when the boot is watched, with its last words.
    except DeadlineExceeded as error:  # who is to do it does not answer
        missed = f"the machine was not reset: {error.message}"
    if missed is not None and machine.alive:
        return _not_reset(guest, step.by, missed)
    return guest.boot(banner_only=leaves_during_post(following))


def _missed(guest: Guest, by: ResetBy) -> str | None:
    """Have the machine reset; None, or how it was not. Raises HarnessError."""
    if by is ResetBy.MONITOR:
        if guest.able(Resets).reset(guest.rig):
            return None
        return "the machine was told to reset, and was not"
    # A guest that shows nothing in the usual time is waited for with patience, as in its boots.
    wait = guest.setup.seconds
    if guest.able(Types).reset_by(KEYS[by].encode(), guest.deadline(wait)):
        return None
    return (f"the machine was not reset within {guest.limit(wait):.0f} s after the guest was told "
            f"to do so by {by}")


def _not_reset(guest: Guest, by: ResetBy, missed: str) -> StepObserved:
    """The machine was not reset in time; the guest is asked whether it simply goes on.

    One that was to do it itself has been waited for already, with patience where there is any,
    and what it says changes the reason alone: it is not waited for as long once more.
    """
    never = guest.resets() == 0
    deadline = guest.deadline(guest.answer_seconds)
    if by is not ResetBy.MONITOR:
        deadline = guest.machine.clock.deadline(guests.ANSWER_SECONDS)
    answer = guest.machine.console.ask(deadline)
    # What goes on has done what it was told, in vain: there is nothing to be waited for.
    limit = None if answer else guest.limit(guest.setup.seconds)
    return guest.observed(failed=missed, not_reset=never, answer=answer, limit=limit)
