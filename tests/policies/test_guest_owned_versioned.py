"""The guest's own firmware, until it moves to another version without -M."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootmatrix.boards import Loader
from bootmatrix.model import DEFAULT_MACHINE
from bootmatrix.policies import Policy
from bootmatrix.policies.base import (
    HostFacts,
    PolicyModel,
    VariablesExpected,
)
from bootmatrix.policies.guest_owned import GuestOwned
from bootmatrix.policies.guest_owned_versioned import GuestOwnedVersioned
from bootmatrix.steps.plan import plan
from bootmatrix.steps.start import Start
from helpers.lives import (
    _NVRAM_STEPS,
    EVERY,
    HOSTS,
    MIGRATE,
    Q35,
    RESET,
    SHUTDOWN,
    START,
    START_B,
    WRITE,
    Life,
    Make,
    Property,
    a_start_finds_what_the_guest_left,
    loaded,
    named,
    never_changes_by_itself,
    reset_is_a_restart,
    search,
    staged_until_the_next_boot,
    walk,
    written_once,
)


def test_the_nvram_that_clears_itself_loses_its_variables_too() -> None:
    hosts, policy = loaded(Loader.FLASH), Policy.GUEST_OWNED_VERSIONED
    moved = plan(policy, hosts, DEFAULT_MACHINE, (START, WRITE, SHUTDOWN, START_B))[-1]
    assert (moved.firmware, moved.variables) == ("B", VariablesExpected(2, 1, "", lost=True))


def test_versioned_compares_with_the_stamp_and_not_with_the_last_host() -> None:
    # B's firmware came at the move to B; a start on B again is no move, one on A is.
    steps = (START, SHUTDOWN, START_B, SHUTDOWN, START_B, RESET, SHUTDOWN, START)
    planned = plan(Policy.GUEST_OWNED_VERSIONED, HOSTS, DEFAULT_MACHINE, steps)
    assert [each.firmware for each in planned if each.boots] == ["A", "B", "B", "B", "A"]


def versioned_moves(make: Make, life: Life) -> None:
    """4. versioned: move without -M to another version: new firmware; with -M: old firmware;
    same version: old firmware."""
    firmware: str | None = None
    stamp: str | None = None
    for moment in walk(make, life):
        if isinstance(moment.step, _NVRAM_STEPS):
            return
        if isinstance(moment.step, Start):
            assert moment.step.host is not None
            version = life.hosts[moment.step.host].version
            if stamp is None or (life.machine == DEFAULT_MACHINE and version != stamp):
                firmware, stamp = moment.files[moment.step.host], version
        if moment.planned.firmware is not None:
            assert moment.planned.firmware == firmware


def with_a_machine_type(check: Property) -> Property:
    """The property for guests that name one; versioned is guest-owned then."""

    def checked(make: Make, life: Life) -> None:
        check(make, replace(life, machine=Q35) if life.machine == DEFAULT_MACHINE else life)

    checked.__doc__, checked.__name__ = check.__doc__, check.__name__
    return checked


def test_invariant_6_needs_a_machine_type_under_versioned() -> None:
    # Two versions with one default machine type: the migration works, and is a move without -M.
    hosts = (HostFacts("9.0.1", "pc-i440fx-9.0", "A"), HostFacts("9.0.2", "pc-i440fx-9.0", "B"))
    policy = Policy.GUEST_OWNED_VERSIONED
    reset = plan(policy, hosts, DEFAULT_MACHINE, (START, MIGRATE, RESET))
    restart = plan(policy, hosts, DEFAULT_MACHINE, (START, MIGRATE, SHUTDOWN, START_B))
    assert (reset[-1].firmware, restart[-1].firmware) == ("A", "B")


class VersionedNeverClears(GuestOwnedVersioned):
    at_start = GuestOwned.at_start


class VersionedClearsAlways(GuestOwnedVersioned):
    def at_start(self, host: int) -> str:
        if self.stamp != self.hosts[host].version:
            self.clear_nvram()
        return GuestOwned.at_start(self, host)


class VersionedKeepsTheFirstStamp(GuestOwnedVersioned):
    def clear_nvram(self) -> None:
        stamp = self.stamp
        super().clear_nvram()
        self.stamp = stamp

    def _initialise(self, host: int) -> None:
        self.nvram = self.files[host]
        self.stamp = self.stamp or self.hosts[host].version


class VersionedComparesWithTheLastHost(GuestOwnedVersioned):
    def at_start(self, host: int) -> str:
        running = super().at_start(host)
        self.stamp = self.hosts[-1].version
        return running


@pytest.mark.parametrize("check", [
    versioned_moves, *EVERY, *map(with_a_machine_type, (
        never_changes_by_itself, written_once, reset_is_a_restart, staged_until_the_next_boot,
        a_start_finds_what_the_guest_left,
    )),
], ids=named)
def test_invariant(check: Property) -> None:
    search(check, GuestOwnedVersioned, nvram_steps=False)
    search(check, GuestOwnedVersioned, nvram_steps=True)


@pytest.mark.parametrize(("mutant", "check"), [
    (VersionedNeverClears, versioned_moves),
    (VersionedClearsAlways, versioned_moves),
    (VersionedKeepsTheFirstStamp, versioned_moves),
    (VersionedComparesWithTheLastHost, versioned_moves),
], ids=named)
def test_a_planted_defect_is_caught(mutant: type[PolicyModel], check: Property) -> None:
    with pytest.raises(AssertionError):
        search(check, mutant, nvram_steps=False, lives_tried=500)
