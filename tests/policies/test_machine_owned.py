"""The machine's firmware: new from the first reset on."""

from __future__ import annotations

import pytest

from bootmatrix.boards import Loader
from bootmatrix.policies import Policy
from bootmatrix.policies.base import (
    ModelProcess,
    PolicyModel,
    Swap,
)
from bootmatrix.policies.machine_owned import MachineOwned
from bootmatrix.policies.reread import Reread
from bootmatrix.policies.stock import Stock
from bootmatrix.steps.plan import plan
from helpers.lives import (
    COLUMNS,
    EVERY,
    Life,
    Make,
    Property,
    a_start_finds_what_is_on_that_host,
    loaded,
    named,
    reset_is_a_restart,
    search,
    walk,
)


def test_where_stock_is_machine_owned_nothing_is_swapped() -> None:
    assert MachineOwned.mechanism(Loader.MEMORY) == Stock.mechanism()
    assert Reread.mechanism(Loader.MEMORY).swap is Swap.FILE
    hosts = loaded(Loader.MEMORY)
    for steps in COLUMNS.values():
        assert (
            plan(Policy.STOCK, hosts, "isapc", steps)[-1].firmware
            == plan(Policy.MACHINE_OWNED, hosts, "isapc", steps)[-1].firmware
        )


def new_from_the_reset_on(make: Make, life: Life) -> None:
    """5. machine-owned: old firmware until the first reset after the migration, new firmware
    from it on."""
    expected = None
    for moment in walk(make, life):
        if moment.planned.boots:
            assert moment.planned.host is not None
            expected = moment.launch_files[moment.planned.host]  # image(P)
        if moment.planned.firmware is not None:
            assert moment.planned.firmware == expected


class MachineKeepsRunning(MachineOwned):
    def at_reset(self, process: ModelProcess) -> str:
        assert self.running is not None
        return self.running


class MachineRereads(MachineOwned):
    def at_reset(self, process: ModelProcess) -> str:
        return self.files[process.host]


@pytest.mark.parametrize("check", [
    new_from_the_reset_on, reset_is_a_restart, a_start_finds_what_is_on_that_host, *EVERY,
], ids=named)
def test_invariant(check: Property) -> None:
    search(check, MachineOwned, nvram_steps=False)


@pytest.mark.parametrize(("mutant", "check"), [
    (MachineKeepsRunning, new_from_the_reset_on),
    (MachineRereads, new_from_the_reset_on),
    (MachineKeepsRunning, reset_is_a_restart),
], ids=named)
def test_a_planted_defect_is_caught(mutant: type[PolicyModel], check: Property) -> None:
    with pytest.raises(AssertionError):
        search(check, mutant, nvram_steps=False, lives_tried=500)
