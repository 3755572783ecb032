"""Suspend to RAM and wake up: no boot, and not everybody can."""

from __future__ import annotations

import pytest

from bootmatrix.boards import Loader
from bootmatrix.model import Arch, GuestKind
from bootmatrix.policies import Policy
from bootmatrix.steps.base import Platform
from bootmatrix.steps.plan import plan
from bootmatrix.steps.suspend import Suspend
from helpers.lives import Q35, START, loaded
from helpers.platforms import BIOS_LINUX, OVMF, SECTOR, UEFI_LINUX, UEFI_PROBE, platform, why


@pytest.mark.parametrize("policy", list(Policy))
def test_it_changes_nothing_and_counts_no_boot(policy: Policy) -> None:
    started, woken = plan(policy, loaded(Loader.FLASH), Q35, (START, Suspend()))
    assert not woken.boots
    assert (woken.firmware, woken.rom, woken.variables) == (
        started.firmware, started.rom, started.variables)


@pytest.mark.parametrize(("on", "words"), [
    (SECTOR, "suspend needs a Linux guest, a boot sector cannot"),
    (UEFI_PROBE, "suspend needs a Linux guest, a probe guest cannot"),
    (BIOS_LINUX, None),
    (UEFI_LINUX, None),
    (platform(OVMF, "virt-5.2", Arch.AARCH64, GuestKind.LINUX),
     "virt (aarch64) has no suspend to RAM"),
    (platform(machine="microvm", guest=GuestKind.LINUX),
     "microvm (x86_64) has no suspend to RAM"),
])
def test_linux_can_where_the_board_can(on: Platform, words: str | None) -> None:
    assert why(Suspend(), on) == words


def test_by_hand() -> None:
    assert Suspend().by_hand("1-source") == ("suspend 1-source", "ask 1-source")
