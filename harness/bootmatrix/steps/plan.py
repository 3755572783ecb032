"""What must hold after each step of a scenario, by the model of the guest's policy. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bootmatrix.boards import Loader
from bootmatrix.model import BootBy
from bootmatrix.policies import Policy
from bootmatrix.policies.base import HostFacts, PolicyModel, Secret, VariablesExpected
from bootmatrix.steps.base import Step


@dataclass(frozen=True)
class Expected:
    """What must hold after one step.

    ``boots`` tells whether the step makes the guest boot; ``firmware`` and ``disk`` are what
    runs after it (None: no process). ``refusal`` is set where QEMU must refuse the step: the
    class of the reason, and the steps after it are then not reached. ``rom`` is the firmware
    whose bytes are in the ROM: from the moment at which a guest has programmed its flash until
    its next reset another one than runs. ``label`` is the host's that fw_cfg names.
    ``variables`` is None where there is no process, or no variable store. ``qemu`` is the version
    of the QEMU in which the guest runs, "" where it runs in none. ``refilled``: its board fills the
    firmware's memory anew at each reset. ``secret`` is what has become, at the last boot, of one
    that is sealed in its TPM, if it has a TPM. ``booted_by`` is what named the program that was
    started then, None where there is no variable store.
    """

    step: Step
    host: int | None
    boots: bool
    firmware: str | None
    disk: str | None
    refusal: str | None = None
    rom: str | None = None
    label: str | None = None
    variables: VariablesExpected | None = None
    qemu: str = ""
    refilled: bool = False
    secret: Secret | None = None
    booted_by: BootBy | None = None


def plan(
    policy: Policy, hosts: Sequence[HostFacts], machine: str, steps: Sequence[Step]
) -> tuple[Expected, ...]:
    """What must hold after each step. Ends early at a step that QEMU must refuse."""
    model = policy.model.on(hosts[0].loader)(hosts, machine)
    expectations = []
    for step in steps:
        expectations.append(apply(model, step))
        if expectations[-1].refusal:
            break
    return tuple(expectations)


def apply(model: PolicyModel, step: Step) -> Expected:
    """Do a step to a policy's model, and say what must hold after it."""
    refusal = step.apply(model)
    process = model.process
    store = process.store if process else None
    return Expected(
        step=step,
        host=process.host if process else None,
        boots=step.boots,
        firmware=model.running,
        disk=process.disk if process else None,
        refusal=refusal,
        rom=model.in_rom() if process else None,
        label=model.hosts[process.host].label or None if process else None,
        variables=VariablesExpected(store.number, store.boots, store.value, model.lost,
                                    store.enrolled)
        if store else None,
        qemu=model.hosts[process.host].version if process else "",
        refilled=process is not None and process.loader is Loader.MEMORY,
        secret=model.secret if process else None,
        booted_by=model.booted_by if process else None,
    )  # fmt: skip
