"""Expectation and observation, compared: the verdict of a cell. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bootmatrix.firmware.identity import KnownFirmware
from bootmatrix.model import Verdict, role_name
from bootmatrix.steps.plan import Expected
from bootmatrix.witnesses import (
    answer,
    boot_entry,
    cmos,
    console,
    counter,
    devices,
    disk,
    flash,
    fw_cfg,
    hardware,
    kernel,
    late,
    memory,
    nvram,
    refusal,
    resets,
    rom,
    smbios,
    stopped,
    tables,
    tpm,
    variables,
)
from bootmatrix.witnesses.moment import Given, Moment, Problem
from bootmatrix.witnesses.observation import StepObserved

Witness = Callable[[Moment], Problem | None]

# The order in which witnesses are heard: what the first of them finds wrong is the verdict.
AT_A_BOOT: tuple[Witness, ...] = (
    stopped.problem, console.problem, smbios.problem, rom.problem, tpm.conflict, disk.problem,
    fw_cfg.problem, variables.problem, boot_entry.problem, kernel.still_runs, cmos.lost,
    smbios.made_by_another, smbios.of_another_machine, tables.stale, hardware.problem,
    devices.problem, tpm.problem, resets.problem, console.said_again,
)  # fmt: skip
WITHOUT_A_BOOT: tuple[Witness, ...] = (
    stopped.problem, answer.not_done, flash.problem, variables.not_written, rom.changed,
    answer.missing, kernel.problem, counter.problem, fw_cfg.problem, variables.problem,
    cmos.changed, memory.changed, tables.changed, hardware.problem, devices.problem, tpm.changed,
)  # fmt: skip


@dataclass(frozen=True)
class Judgement:
    """The verdict with its reason, and the moments at which a boot was seen.

    ``failed`` is the index of the step that is to blame, None where there is none.
    """

    verdict: Verdict
    reason: str
    boots: tuple[Moment, ...]
    failed: int | None = None


def judge(
    plan: Sequence[Expected], seen: Sequence[StepObserved], firmware: KnownFirmware,
    given: Given = Given(),  # noqa: B008  # frozen
) -> Judgement:
    """Compare the plan of a policy's model with what was seen; the first failure is the verdict.

    What was late is that only where nothing else has failed, before it or after.

    A boot that is spread over two steps (it began before a migration and ended after it) is
    the boot of the first step, seen at the second. For ``given`` see Moment.
    """
    boots: tuple[Moment, ...] = ()
    begun = before = None
    found: dict[bool, tuple[Problem, int]] = {}  # the first that is late, and the first that fails
    for index, (expected, observed) in enumerate(zip(plan, seen, strict=False)):
        begun = expected if expected.boots else begun
        watched = begun if observed.boot is not None else None
        moment = Moment(expected, observed, firmware, watched, boots, before, given)
        if (problem := _problem(moment)) is not None:
            found.setdefault(problem[0] is Verdict.LATE, (problem, index))
        before = moment.line if watched is not None else moment.line or before
        if watched is not None:
            boots, begun = (*boots, moment), None
    failure, failed = found.get(False) or found.get(True) or (None, None)
    if failure is None and len(seen) < len(plan):
        failure = (Verdict.ERROR, f"only {len(seen)} of {len(plan)} steps were done")
    if failure is None and begun is not None and not plan[-1].refusal:
        failure = (Verdict.ERROR, f"{begun.step.kind}: nobody watched the boot")
    verdict, reason = failure or (Verdict.PASS, _summary(plan, boots))
    return Judgement(verdict, reason, boots, failed)


def _problem(moment: Moment) -> Problem | None:
    """What is wrong at a moment, with its place; what comes late is judged first by what came."""
    step = moment.expected.step.kind
    first: tuple[str, tuple[Witness, ...]]
    if moment.seen.refusal is not None or moment.expected.refusal is not None:
        first = step, (refusal.problem,)
    elif moment.seen.boot is None:
        first = step, WITHOUT_A_BOOT
    elif moment.begun is None:
        return Verdict.ERROR, f"{step}: a boot was watched that no step began"
    else:
        first = moment.where, AT_A_BOOT
    for where, witnesses in (first, (step, (nvram.problem,)), (moment.where, (late.problem,))):
        for witness in witnesses:
            if (found := witness(moment)) is not None:
                return found[0], f"{where}: {found[1]}"
    return None


def _summary(plan: Sequence[Expected], boots: Sequence[Moment]) -> str:
    if plan and plan[-1].refusal:
        return f"QEMU refused the {plan[-1].step.kind}, as it must ({plan[-1].refusal})"
    lost, ran = False, []
    for boot in boots:
        store = boot.expected.variables if boot.line else None
        loses = not lost and store is not None and store.lost
        lost = lost or loses
        ran.append(f"{rom.ran(boot)} ({boot.step} on {role_name(boot.boot.host)}"
                   f"{', its variables are lost' if loses else ''})")
    return ", then ".join(ran)
