"""The guest's own firmware: written once, staged by its user, never changed by itself."""

from __future__ import annotations

import pytest

from bootmatrix.boards import Loader
from bootmatrix.policies import Policy
from bootmatrix.policies.base import (
    ModelProcess,
    PolicyModel,
    VariablesExpected,
    VariableStore,
)
from bootmatrix.policies.guest_owned import GuestOwned
from bootmatrix.steps.clear_nvram import ClearNvram
from bootmatrix.steps.plan import plan
from bootmatrix.steps.upgrade_nvram import UpgradeNvram
from helpers.lives import (
    CLEAR,
    EVERY,
    HOSTS,
    Q35,
    RESET,
    SHUTDOWN,
    START,
    START_B,
    WRITE,
    Property,
    a_start_finds_what_the_guest_left,
    loaded,
    named,
    never_changes_by_itself,
    only_a_boot_changes_it,
    reset_is_a_restart,
    search,
    staged_until_the_next_boot,
    written_once,
)


@pytest.mark.parametrize("policy", [Policy.GUEST_OWNED, Policy.GUEST_OWNED_VERSIONED])
def test_a_cleared_nvram_has_lost_its_variables(policy: Policy) -> None:
    planned = plan(policy, loaded(Loader.FLASH), Q35, (START, WRITE, SHUTDOWN, CLEAR, START))
    assert planned[-1].variables == VariablesExpected(2, 1, "", lost=True)


def test_upgrading_the_nvram_keeps_the_variables() -> None:
    steps = (START, WRITE, UpgradeNvram(firmware_of=1), RESET)
    last = plan(Policy.GUEST_OWNED, loaded(Loader.FLASH), Q35, steps)[-1]
    assert (last.firmware, last.variables) == ("B", VariablesExpected(1, 2, "boot-1", lost=False))


def test_clear_nvram_initialises_again_with_the_file_of_that_host() -> None:
    steps = (START, SHUTDOWN, ClearNvram(), START_B, SHUTDOWN, START)
    for policy in (Policy.GUEST_OWNED, Policy.GUEST_OWNED_VERSIONED):
        planned = plan(policy, HOSTS, Q35, steps)
        assert [each.firmware for each in planned if each.boots] == ["A", "B", "B"]


class GuestInitialisesAtEachStart(GuestOwned):
    def at_start(self, host: int) -> str:
        self.nvram = None
        return super().at_start(host)


class GuestTakesTheHostsAtAReset(GuestOwned):
    def at_reset(self, process: ModelProcess) -> str:
        return process.image


class GuestWritesItsNvramBehindItsBack(GuestOwned):
    def at_start(self, host: int) -> str:
        running = super().at_start(host)
        self.nvram = self.files[host]
        return running


class GuestUpgradesAtOnce(GuestOwned):
    def upgrade_nvram(self, firmware: str) -> None:
        self.nvram = self.running = firmware


class GuestUpgradesOnlyAtAStart(GuestOwned):
    def at_reset(self, process: ModelProcess) -> str:
        assert self.nvram is not None
        return self.nvram


class GuestLosesTheUpgradeInAMigration(GuestOwned):
    def launch(self, host: int) -> ModelProcess:
        if self.process is not None:
            self.staged = None
        return super().launch(host)


class GuestNeverClears(GuestOwned):
    def clear_nvram(self) -> None:
        pass


class GuestLeavesItsVariables(GuestOwned):
    def store_at(self, host: int) -> VariableStore | None:
        return PolicyModel.store_at(self, host)


class GuestClearsTheFirmwareAlone(GuestOwned):
    def clear_nvram(self) -> None:
        self.nvram = self.staged = self.stamp = None

    def _initialise(self, host: int) -> None:
        store = self.nvram_store
        super()._initialise(host)
        self.nvram_store = store or self.nvram_store


def test_a_planted_upgrade_at_once_is_caught_by_what_runs_between_boots() -> None:
    with pytest.raises(AssertionError):
        search(only_a_boot_changes_it, GuestUpgradesAtOnce, nvram_steps=True)


@pytest.mark.parametrize("check", [
    never_changes_by_itself, written_once, reset_is_a_restart, staged_until_the_next_boot,
    a_start_finds_what_the_guest_left, *EVERY,
], ids=named)
def test_invariant(check: Property) -> None:
    search(check, GuestOwned, nvram_steps=False)
    search(check, GuestOwned, nvram_steps=True)


@pytest.mark.parametrize(("mutant", "check"), [
    (GuestInitialisesAtEachStart, never_changes_by_itself),
    (GuestTakesTheHostsAtAReset, never_changes_by_itself),
    (GuestInitialisesAtEachStart, written_once),
    (GuestWritesItsNvramBehindItsBack, written_once),
    (GuestInitialisesAtEachStart, reset_is_a_restart),
    (GuestTakesTheHostsAtAReset, reset_is_a_restart),
    (GuestUpgradesAtOnce, staged_until_the_next_boot),
    (GuestUpgradesOnlyAtAStart, staged_until_the_next_boot),
    (GuestLosesTheUpgradeInAMigration, staged_until_the_next_boot),
    (GuestNeverClears, staged_until_the_next_boot),
    (GuestLeavesItsVariables, a_start_finds_what_the_guest_left),
    (GuestClearsTheFirmwareAlone, a_start_finds_what_the_guest_left),
], ids=named)
def test_a_planted_defect_is_caught(mutant: type[PolicyModel], check: Property) -> None:
    nvram_steps = check in (staged_until_the_next_boot, a_start_finds_what_the_guest_left)
    with pytest.raises(AssertionError):
        search(check, mutant, nvram_steps, lives_tried=500)
