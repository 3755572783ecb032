"""What guests live through under every policy: stores, refusals, what a process has read.

Invariant 3 (the destination's nvram file equals the source's) needs real QEMUs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootmatrix.boards import Loader
from bootmatrix.model import DEFAULT_MACHINE
from bootmatrix.policies import Policy
from bootmatrix.policies.base import (
    FIRST_DISK,
    Mechanism,
    ModelProcess,
    PolicyModel,
    Swap,
    VariablesExpected,
    VariableStore,
)
from bootmatrix.policies.machine_owned import MachineOwned
from bootmatrix.policies.reread import Reread
from bootmatrix.policies.stock import Stock
from bootmatrix.steps.clear_nvram import ClearNvram
from bootmatrix.steps.plan import apply, plan
from bootmatrix.steps.upgrade_nvram import UpgradeNvram
from helpers.lives import (
    HOSTS,
    MIGRATE,
    Q35,
    RESET,
    SHUTDOWN,
    START,
    START_B,
    Property,
    a_reset_keeps_the_disk,
    a_start_finds_what_is_on_that_host,
    loaded,
    named,
    only_a_boot_changes_it,
    refused_without_a_common_default,
    search,
    variables_change_by_boots_and_writes_alone,
)


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("loader", [Loader.ROM, Loader.MEMORY])
def test_without_flash_there_is_no_store(policy: Policy, loader: Loader) -> None:
    planned = plan(policy, loaded(loader), Q35, (START, MIGRATE, RESET, SHUTDOWN, START_B))
    assert [each.variables for each in planned] == [None] * 5


@pytest.mark.parametrize(("policy", "after_reset", "after_start"), [
    (Policy.STOCK, "unlocked", "locked-out"),
    (Policy.MACHINE_OWNED, "locked-out", "locked-out"),
    (Policy.REREAD, "locked-out", "locked-out"),
    (Policy.GUEST_OWNED, "unlocked", "unlocked"),
    (Policy.GUEST_OWNED_VERSIONED, "unlocked", "unlocked"),
])
def test_a_sealed_secret_opens_under_the_firmware_of_the_first_boot(
    policy: Policy, after_reset: str, after_start: str
) -> None:
    """Its TPM goes where the guest goes, running or shut down, under each policy."""
    steps = (START, MIGRATE, RESET, SHUTDOWN, START_B)
    planned = plan(policy, loaded(Loader.FLASH), Q35, steps)
    assert [each.secret for each in planned] == ["sealed", "sealed", after_reset, None, after_start]


def test_a_guest_that_is_down_has_no_variables() -> None:
    planned = plan(Policy.STOCK, loaded(Loader.FLASH), Q35, (START, SHUTDOWN))
    assert [each.variables is None for each in planned] == [False, True]


def test_what_a_host_without_a_store_does_not_have_is_not_lost() -> None:
    hosts = [replace(HOSTS[0], loader=Loader.FLASH), *HOSTS[1:]]
    planned = plan(Policy.STOCK, hosts, Q35, (START, SHUTDOWN, START_B, SHUTDOWN, START))
    assert planned[2].variables is None
    assert planned[4].variables == VariablesExpected(1, 2, "", lost=False)


@pytest.mark.parametrize("policy", [policy for policy in Policy if not policy.keeps_nvram])
def test_without_an_nvram_there_is_none_to_upgrade_or_clear(policy: Policy) -> None:
    for step in (UpgradeNvram(firmware_of=1), ClearNvram()):
        with pytest.raises(NotImplementedError, match="no nvram"):
            plan(policy, HOSTS, Q35, (START, SHUTDOWN, step))


class MachineSwapsAtTheMigration(MachineOwned):
    def launch(self, host: int) -> ModelProcess:
        process = super().launch(host)
        if self.process is not None:
            self.running = process.image
        return process


class ResetReopensTheDisk(Stock):
    def at_reset(self, process: ModelProcess) -> str:
        process.disk = self.disk_file
        return super().at_reset(process)


class StartKeepsTheDisk(Stock):
    def launch(self, host: int) -> ModelProcess:
        return replace(super().launch(host), disk=FIRST_DISK)


class MigrationLeavesTheVariables(Stock):
    def carry_store(self, host: int, store: VariableStore) -> VariableStore:
        return self.store_at(host) or store


class MigrationMovesTheVariables(Stock):
    def carry_store(self, host: int, store: VariableStore) -> VariableStore:
        self.stores[host, self.loaders[host]] = store  # the file that stays behind goes on, too
        return store


class StartTakesTheTemplate(Reread):
    def store_at(self, host: int) -> VariableStore | None:
        return self.new_store(host)


class NobodyMissesAnything(MachineOwned):
    def misses(self, found: VariableStore | None) -> bool:
        return False


class MigrationCountsAsABoot(Stock):
    def carry_store(self, host: int, store: VariableStore) -> VariableStore:
        return replace(super().carry_store(host, store), boots=store.boots + 1)


class NeverRefused(Stock):
    def refusal(self, source: int, target: int) -> str | None:
        return None


class RefusedBetweenVersions(Stock):
    def refusal(self, source: int, target: int) -> str | None:
        differ = self.hosts[source].version != self.hosts[target].version
        return "machine-type" if differ else None


@pytest.mark.parametrize(("mutant", "check"), [
    (ResetReopensTheDisk, a_reset_keeps_the_disk),
    (StartKeepsTheDisk, a_reset_keeps_the_disk),
    (MachineSwapsAtTheMigration, only_a_boot_changes_it),
    (NeverRefused, refused_without_a_common_default),
    (RefusedBetweenVersions, refused_without_a_common_default),
    (MigrationCountsAsABoot, variables_change_by_boots_and_writes_alone),
    (MigrationLeavesTheVariables, variables_change_by_boots_and_writes_alone),
    (MigrationMovesTheVariables, a_start_finds_what_is_on_that_host),
    (StartTakesTheTemplate, a_start_finds_what_is_on_that_host),
    (NobodyMissesAnything, a_start_finds_what_is_on_that_host),
], ids=named)
def test_a_planted_defect_is_caught(mutant: type[PolicyModel], check: Property) -> None:
    with pytest.raises(AssertionError):
        search(check, mutant, nvram_steps=False, lives_tried=500)


# ---- what a policy is asked, and what goes without saying ---------------------------------------


class Plain(PolicyModel):
    """A policy that answers no more than it must."""

    name = "plain"
    how = Mechanism(nvram=False, swap=Swap.NOTHING)

    def at_reset(self, process: ModelProcess) -> str:
        return process.image


def test_a_policy_answers_what_is_not_the_same_under_all() -> None:
    model = Plain(HOSTS, Q35)
    assert {model.mechanism(loader) for loader in Loader} == {Plain.how}
    assert [model.at_start(host) for host in range(3)] == ["A", "B", "C"]
    assert (model.in_rom(), apply(model, START).rom) == (None, "A")
    with pytest.raises(NotImplementedError):
        PolicyModel(HOSTS, Q35).at_reset(model.launch(0))


@pytest.mark.parametrize(("machine", "source", "target", "refused"), [
    (DEFAULT_MACHINE, 0, 1, "machine-type"),
    (DEFAULT_MACHINE, 0, 0, None),  # one default is no difference
    (Q35, 0, 1, None),
])
def test_without_a_machine_type_defaults_that_differ_are_refused(
    machine: str, source: int, target: int, refused: str | None
) -> None:
    assert Plain(HOSTS, machine).refusal(source, target) == refused
