"""The guest's boot entries in the policies' models, and which of them the next boots must use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from bootmatrix.boards import Loader
from bootmatrix.model import BootBy
from bootmatrix.policies import Policy
from bootmatrix.steps.base import Step
from bootmatrix.steps.plan import plan
from bootmatrix.steps.write_boot_entry import WriteBootEntry
from helpers.lives import (
    CLEAR,
    HOSTS,
    MIGRATE,
    MIGRATE_BACK,
    Q35,
    RESET,
    SHUTDOWN,
    START,
    START_B,
    loaded,
)
from helpers.platforms import ARM, OVMF, UEFI_LINUX, UEFI_PROBE, hosts, why

ORDER, NEXT = WriteBootEntry(), WriteBootEntry(BootBy.NEXT)
D, O, N = BootBy.DEFAULT, BootBy.ORDER, BootBy.NEXT  # noqa: E741


def booted_by(policy: Policy, steps: Sequence[Step]) -> list[BootBy | None]:
    """What names the program of each boot."""
    planned = plan(policy, loaded(Loader.FLASH), Q35, steps)
    return [each.booted_by for each in planned if each.boots]


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize(("steps", "expected"), [
    ((START, RESET), [D, D]),
    ((START, ORDER, RESET, RESET), [D, O, O]),
    ((START, NEXT, RESET, RESET), [D, N, D]),
    ((START, NEXT, ORDER, RESET, RESET), [D, N, O]),
    ((START, ORDER, MIGRATE, RESET, MIGRATE_BACK, RESET), [D, O, O]),
    ((START, NEXT, MIGRATE, RESET, RESET), [D, N, D]),
    ((START, NEXT, MIGRATE, RESET, MIGRATE_BACK, RESET), [D, N, D]),
    ((START, ORDER, SHUTDOWN, START), [D, O]),
], ids=lambda value: "".join(str(step)[:1] for step in value) if value[0] is D else "")
def test_an_entry_is_used_where_the_store_is_the_guests(
    policy: Policy, steps: Sequence[Step], expected: list[BootBy]
) -> None:
    assert booted_by(policy, steps) == expected


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize(("entry", "used"), [(ORDER, O), (NEXT, N)])
def test_a_move_leaves_a_hosts_entries_behind(
    policy: Policy, entry: WriteBootEntry, used: BootBy
) -> None:
    steps = (START, entry, SHUTDOWN, START_B, SHUTDOWN, START)
    if policy.keeps_nvram:
        assert booted_by(policy, steps) == [D, used, O if entry is ORDER else D]
    else:
        assert booted_by(policy, steps) == [D, D, used], "where they were left they are found"


def test_an_nvram_that_is_cleared_has_no_entry() -> None:
    assert booted_by(Policy.GUEST_OWNED, (START, ORDER, SHUTDOWN, CLEAR, START)) == [D, D]


def test_a_running_guest_is_still_what_was_started() -> None:
    planned = plan(Policy.STOCK, loaded(Loader.FLASH), Q35, (START, ORDER, MIGRATE, SHUTDOWN))
    assert [each.booted_by for each in planned] == [D, D, D, None]


def test_without_a_store_nothing_is_expected() -> None:
    assert plan(Policy.STOCK, HOSTS, Q35, (START, ORDER, RESET))[-1].booted_by is None


def test_what_is_typed() -> None:
    assert ORDER.by_hand("1-source") == ("tell 1-source b written", "ask 1-source")
    assert NEXT.by_hand("1-source") == ("tell 1-source n written", "ask 1-source")
    assert NEXT.describe(()) == "write-boot-entry by boot-next"


def test_the_probe_alone_has_programs_to_be_named() -> None:
    assert why(ORDER, UEFI_PROBE) is None
    assert why(ORDER, ARM) is None
    assert why(ORDER, UEFI_LINUX) == (
        "write-boot-entry needs the UEFI probe, which a linux guest is not")
    memory = replace(UEFI_PROBE, board=replace(UEFI_PROBE.board, flash_at=None), hosts=hosts(OVMF))
    assert "has no variable store" in (why(ORDER, memory) or "")
