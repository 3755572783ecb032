"""What a plan tells of each step, and where it ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootmatrix.model import DEFAULT_MACHINE
from bootmatrix.policies import Policy
from bootmatrix.policies.base import (
    FIRST_DISK,
    SECOND_DISK,
    Secret,
)
from bootmatrix.steps.guest_flash import GuestFlash
from bootmatrix.steps.library import LIBRARY, applies_to
from bootmatrix.steps.plan import Expected, plan
from bootmatrix.steps.replace_disk import ReplaceDisk
from helpers.lives import HOSTS, MIGRATE, Q35, RESET, SHUTDOWN, START, START_B


def test_what_a_plan_tells_of_each_step() -> None:
    steps = (START, ReplaceDisk(), MIGRATE, RESET, SHUTDOWN, START_B)
    old, new = (host.version for host in HOSTS[:2])
    planned = plan(Policy.MACHINE_OWNED, HOSTS, Q35, steps)
    assert planned == (
        Expected(steps[0], 0, True, "A", FIRST_DISK, rom="A", qemu=old, secret=Secret.SEALED),
        Expected(steps[1], 0, False, "A", FIRST_DISK, rom="A", qemu=old, secret=Secret.SEALED),
        Expected(steps[2], 1, False, "A", SECOND_DISK, rom="A", qemu=new,
                 secret=Secret.SEALED),
        Expected(steps[3], 1, True, "B", SECOND_DISK, rom="B", qemu=new,
                 secret=Secret.LOCKED_OUT),
        Expected(steps[4], None, False, None, None),
        Expected(steps[5], 1, True, "B", SECOND_DISK, rom="B", qemu=new,
                 secret=Secret.LOCKED_OUT),
    )


def test_a_plan_tells_what_fw_cfg_must_say() -> None:
    hosts = [replace(host, label=f"label {host.firmware}") for host in HOSTS]
    planned = plan(Policy.STOCK, hosts, Q35, (START, MIGRATE, RESET, SHUTDOWN, START))
    assert [each.label for each in planned] == ["label A", "label B", "label B", None, "label A"]


@pytest.mark.parametrize(("policy", "in_rom", "after"), [
    (Policy.STOCK, "A", "A"),
    (Policy.GUEST_OWNED, "C", "C"),
    (Policy.GUEST_OWNED_VERSIONED, "C", "C"),
    (Policy.MACHINE_OWNED, "A", "B"),
    (Policy.REREAD, "A", "B"),
])
def test_what_a_guest_flashes_is_in_the_rom_at_once_and_runs_later(
    policy: Policy, in_rom: str, after: str
) -> None:
    flash = GuestFlash(firmware_of=2)
    planned = plan(policy, HOSTS, Q35, (START, flash, MIGRATE, RESET))
    assert [each.firmware for each in planned] == ["A", "A", "A", after]
    assert [each.rom for each in planned] == ["A", in_rom, in_rom, after]


@pytest.mark.parametrize("policy", list(Policy))
def test_every_scenario_of_the_library_has_a_plan(policy: Policy) -> None:
    for scenario in LIBRARY.values():
        if applies_to(scenario, policy):
            planned = plan(policy, HOSTS, Q35, scenario.steps)
            assert len(planned) == len(scenario.steps)
            assert any(each.boots for each in planned)


@pytest.mark.parametrize("policy", list(Policy))
def test_a_plan_ends_at_the_refusal(policy: Policy) -> None:
    planned = plan(policy, HOSTS, DEFAULT_MACHINE, LIBRARY["migrate-reset"].steps)
    assert [each.refusal for each in planned] == [None, "machine-type"]
    assert (planned[-1].host, planned[-1].boots, planned[-1].firmware) == (0, False, "A")
