"""``migrate``: out of one machine, or out of a file, into another."""

from __future__ import annotations

from dataclasses import replace

from bootmatrix.deadline import Deadline, slowest
from bootmatrix.errors import DeadlineExceeded, LeftTooLate, MonitorError, QemuError
from bootmatrix.machines.base import KeepsNvram, Migrates, Pauses, SwitchesOff, Wakes, able
from bootmatrix.model import MovesAs
from bootmatrix.run.guest import RIG_SECONDS, Guest
from bootmatrix.steps.base import Step
from bootmatrix.steps.migrate import Migrate
from bootmatrix.steps.suspend import KEY
from bootmatrix.witnesses.observation import StepObserved
from bootmatrix.witnesses.refusal import classify


def do(guest: Guest, step: Migrate, following: Step | None) -> StepObserved:
    """Move the guest; it is then seen to boot, or asked how it is, on its new host."""
    source = None if guest.saved else guest.machine
    left_first = source is not None and able(source, Migrates).leaves_first
    if source is not None and left_first:
        if (refusal := able(source, Migrates).leave(guest.rig)) is not None:
            return guest.refused(refusal)
        guest.left(source)
        able(source, SwitchesOff).off(guest.rig)
        guest.running, source = None, None
    target, guest.coming = guest.coming, None
    if target is None:
        target, guest.incoming = guest.incoming, None
        if target is None or target.host != step.host:
            target = guest.launch(step.host, incoming=True)
        try:
            target.start(guest.rig)
        except QemuError as error:
            target.close()
            return guest.refused(classify(error.tail, error.status))
    guest.arm(target)
    try:
        if source is not None:
            _before(guest, step)
    except DeadlineExceeded:
        target.close()
        limit = guest.limit(guest.command_seconds)
        return guest.observed(limit=limit, failed=f"the guest did not suspend within {limit:.0f} s")
    if source is not None:
        both = Deadline.after(RIG_SECONDS, slowest(source.clock, target.clock))
        refusal = able(source, Migrates).migrate(
            target, step.channel, both, step.capabilities, dict(step.parameters),
            recovers=step.recovers)
    elif left_first:
        refusal = able(target, Migrates).arrive(target.clock.deadline(RIG_SECONDS))
    else:
        refusal = able(target, Migrates).restore(guest.stream, target.clock.deadline(RIG_SECONDS))
    if refusal is not None:
        target.close()
        return guest.refused(refusal)
    if source is not None:
        guest.left(source)
        able(source, SwitchesOff).off(guest.rig)
        if step.during_post and source.console.guest_spoke():
            raise LeftTooLate("the guest was up before it left: it did not migrate during its POST")
    guest.running, guest.saved = target, None
    try:
        _after(guest, step)
    except (DeadlineExceeded, MonitorError) as error:
        return guest.observed(failed=f"the guest did not go on where it arrived: {error.message}")
    observed = guest.boot() if step.during_post else ask(guest)
    if isinstance(guest.hosts, KeepsNvram):
        return replace(observed, nvram_equal=guest.hosts.arrived(target))
    return observed


def _before(guest: Guest, step: Migrate) -> None:
    if step.moves_as is MovesAs.PAUSED:
        guest.able(Pauses).pause(guest.rig)
    elif step.moves_as is MovesAs.SUSPENDED:
        guest.able(Wakes).suspend_by(KEY.encode(), guest.deadline(guest.command_seconds))


def _after(guest: Guest, step: Migrate) -> None:
    if step.moves_as is MovesAs.PAUSED:
        guest.able(Pauses).go_on(guest.rig)
    elif step.moves_as is MovesAs.SUSPENDED:
        guest.able(Wakes).wake(guest.deadline(guest.command_seconds))


def ask(guest: Guest) -> StepObserved:
    """Ask a guest how it is that is to have noticed nothing."""
    wait = guest.answer_seconds
    answer = guest.machine.console.ask(guest.deadline(wait))
    return guest.observed(
        rom=guest.rom(), answer=answer, limit=guest.limit(wait) if answer is None else None,
        went_round=guest.went_round(),
    )  # fmt: skip
