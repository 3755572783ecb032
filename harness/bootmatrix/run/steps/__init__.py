"""What is done to a guest in each step, and seen of it: a file a kind, and here the table of them.

What must be seen stands in ``bootmatrix.steps``, in a file of the same name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from bootmatrix.run.guest import Guest
from bootmatrix.run.steps import (
    clear_nvram,
    guest_flash,
    guest_flash_power_loss,
    migrate,
    migration_begins,
    migration_fails,
    replace_disk,
    reset,
    shutdown,
    start,
    suspend,
    upgrade_host,
    upgrade_nvram,
    variables,
)
from bootmatrix.steps.base import Step
from bootmatrix.witnesses.observation import BlackBox, StepObserved

DEEDS: dict[str, Callable[[Guest, Any, Step | None], StepObserved]] = {
    "start": start.do,
    "reset": reset.do,
    "migrate": migrate.do,
    "migration-begins": migration_begins.do,
    "migration-fails": migration_fails.do,
    "shutdown": shutdown.do,
    "upgrade-host": upgrade_host.do,
    "upgrade-nvram": upgrade_nvram.do,
    "guest-flash": guest_flash.do,
    "guest-flash-power-loss": guest_flash_power_loss.do,
    "clear-nvram": clear_nvram.do,
    "replace-disk": replace_disk.do,
    "write-variable": variables.do,
    "fill-variables": variables.do,
    "write-boot-entry": variables.do,
    "enrol-keys": variables.do,
    "suspend": suspend.do,
}
"""Each is given the guest, the step, and the step after it."""


def do_step(guest: Guest, step: Step, following: Step | None = None) -> StepObserved:
    """Do one step to a guest, and say what was seen of it. Raises HarnessError.

    Where the guest is down then, its machine is asked what it is doing.
    """
    guest.begin(step)
    observed = DEEDS[step.kind](guest, step, following)
    if observed.refusal is None and is_down(observed):
        box = _black_box(guest, observed)
        return replace(observed, stopped=guest.stopped(), black_box=box)
    return observed


def _black_box(guest: Guest, observed: StepObserved) -> BlackBox | None:
    box = guest.explain()
    if box is not None and observed.not_reset and observed.answer is not None:
        return replace(box, line="still running the guest: the reset never happened")
    return box


def run_steps(guest: Guest, steps: Sequence[Step], seen: list[StepObserved]) -> None:
    """Do the steps of a scenario, up to the first that is refused or leaves the guest down.

    What was seen is appended to ``seen`` as it comes, so that it survives an exception; not what
    was seen of a machine that was lost meanwhile (HarnessError: Hosts.check_engine).
    """
    for step, following in zip_longest(steps, steps[1:]):
        observed = do_step(guest, step, following)
        guest.hosts.check_engine()
        seen.append(observed)
        if observed.refusal or is_down(observed):
            return


def is_down(observed: StepObserved) -> bool:
    """Whether the guest did not come up, did not do what it was told, or no longer answers."""
    if observed.boot is not None:
        return observed.boot.up is None
    if observed.cut_off is not None or observed.failed is not None:
        return True
    return bool(observed.step.must_answer) and observed.answer is None
