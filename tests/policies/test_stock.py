"""What a QEMU does by itself, by the way in which it takes its firmware."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootmatrix.boards import Loader
from bootmatrix.policies import Policy
from bootmatrix.policies.base import (
    ModelProcess,
    PolicyModel,
    VariablesExpected,
)
from bootmatrix.policies.stock import Stock
from bootmatrix.steps.plan import plan
from bootmatrix.steps.start import Start
from helpers.lives import (
    COLUMNS,
    EVERY,
    HOSTS,
    MIGRATE,
    Q35,
    REPLACE_A,
    RESET,
    SHUTDOWN,
    START,
    START_B,
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


@pytest.mark.parametrize(
    ("loader", "migrated", "replaced", "later", "restarted", "replaced_restarted"),
    [
        (Loader.ROM, "A", "A", "B", "B", "C"),
        (Loader.FLASH, "A", "A", "B", "B", "C"),
        # stock-qemu.md: the file is rewritten at every reset, as the process read it
        (Loader.MEMORY, "B", "A", "B", "B", "C"),
        # ... and a writable flash overwrites the copy of it that the destination has
        (Loader.WRITABLE_FLASH, "A", "A", "B", "A", "A"),
    ],
)
def test_stock_is_not_the_same_for_every_loader(
    loader: Loader, migrated: str, replaced: str, later: str, restarted: str,
    replaced_restarted: str,
) -> None:
    ran = [
        plan(Policy.STOCK, loaded(loader), Q35, COLUMNS[column])[-1].firmware
        for column in ("reset after a migration", "reset, file replaced", "later start",
                       "later start after a migration", "later start, file replaced")
    ]  # fmt: skip
    assert ran == [migrated, replaced, later, restarted, replaced_restarted]


def test_an_upgrade_that_brings_another_layout_brings_another_file() -> None:
    hosts = [replace(HOSTS[0], loader=Loader.FLASH), *loaded(Loader.WRITABLE_FLASH)[1:]]
    planned = plan(Policy.STOCK, hosts, Q35, (START, REPLACE_A, SHUTDOWN, START))
    assert planned[-1].firmware == "C"
    assert planned[-1].variables == VariablesExpected(2, 1, "", lost=True)


def stock_keeps_what_it_started_with(make: Make, life: Life) -> None:
    """stock (pc, q35 with -bios): first start file(H), resets unchanged, later start file(H)."""
    running = None
    for moment in walk(make, life):
        if isinstance(moment.step, Start):
            assert moment.step.host is not None
            running = moment.files[moment.step.host]
        if moment.planned.firmware is not None:
            assert moment.planned.firmware == running


def test_invariant_6_does_not_hold_for_stock() -> None:
    """6, last sentence: "stock does not: that difference is a column of the report"."""
    with pytest.raises(AssertionError):
        search(reset_is_a_restart, Stock, nvram_steps=False)
    reset = plan(Policy.STOCK, HOSTS, Q35, (START, MIGRATE, RESET))
    restart = plan(Policy.STOCK, HOSTS, Q35, (START, MIGRATE, SHUTDOWN, START_B))
    assert (reset[-1].firmware, restart[-1].firmware) == ("A", "B")


class StockReloads(Stock):
    def at_reset(self, process: ModelProcess) -> str:
        return process.image


@pytest.mark.parametrize("check", [
    stock_keeps_what_it_started_with, a_start_finds_what_is_on_that_host, *EVERY,
], ids=named)
def test_invariant(check: Property) -> None:
    search(check, Stock, nvram_steps=False)


@pytest.mark.parametrize(("mutant", "check"), [
    (StockReloads, stock_keeps_what_it_started_with),
], ids=named)
def test_a_planted_defect_is_caught(mutant: type[PolicyModel], check: Property) -> None:
    with pytest.raises(AssertionError):
        search(check, mutant, nvram_steps=False, lives_tried=500)
