"""A boot in the same process, and who can ask for it in which way."""

from __future__ import annotations

import pytest

from bootmatrix.model import ResetBy
from bootmatrix.policies import Policy
from bootmatrix.steps.base import Ability, Platform
from bootmatrix.steps.plan import apply
from bootmatrix.steps.reset import KEYS, Reset
from helpers.lives import HOSTS, MIGRATE, Q35, START
from helpers.platforms import (
    ARM,
    BIOS_LINUX,
    ISAPC,
    MICROVM,
    PSERIES,
    RISCV,
    SECTOR,
    UEFI_LINUX,
    UEFI_PROBE,
    hosts,
    why,
)


def test_each_way_but_the_monitor_s_has_a_key_of_its_own() -> None:
    assert set(KEYS) == set(ResetBy) - {ResetBy.MONITOR}
    assert len(set(KEYS.values())) == len(KEYS)


@pytest.mark.parametrize("by", list(ResetBy))
def test_the_monitor_has_a_button_and_a_guest_is_typed_to(by: ResetBy) -> None:
    needed = Ability.RESET if by is ResetBy.MONITOR else Ability.CONSOLE
    assert Reset(by).needs == {needed}


def test_the_policy_says_what_a_reset_has_in_its_process() -> None:
    for policy, firmware in ((Policy.STOCK, "A"), (Policy.MACHINE_OWNED, "B")):
        guest = policy.model(HOSTS, Q35)
        for step in (START, MIGRATE):
            apply(guest, step)
        seen = apply(guest, Reset())
        assert (seen.firmware, seen.boots, seen.host) == (firmware, True, 1)


@pytest.mark.parametrize(("by", "on", "words"), [
    (ResetBy.EFI_COLD, SECTOR, "reset by efi-cold needs UEFI firmware"),
    (ResetBy.EFI_WARM, BIOS_LINUX, "reset by efi-warm needs UEFI firmware"),
    (ResetBy.EFI_WARM, UEFI_PROBE, None),
    (ResetBy.EFI_COLD, UEFI_LINUX, None),
    (ResetBy.EFI_COLD, ARM, None),
    (ResetBy.EFI_COLD, RISCV, None),
    (ResetBy.CF9, SECTOR, None),
    (ResetBy.CF9, UEFI_PROBE, None),
    (ResetBy.CF9, ARM, "virt (aarch64) has no reset by cf9"),
    (ResetBy.CF9, ISAPC, "isapc (x86_64) has no reset by cf9"),
    (ResetBy.KEYBOARD, ISAPC, None),
    (ResetBy.KEYBOARD, MICROVM, "microvm (x86_64) has no reset by keyboard"),
    (ResetBy.TRIPLE_FAULT, MICROVM, None),
    (ResetBy.TRIPLE_FAULT, ARM, "virt (aarch64) has no reset by triple-fault"),
    (ResetBy.ACPI, UEFI_LINUX, None),
    (ResetBy.ACPI, BIOS_LINUX, None),
    (ResetBy.ACPI, SECTOR,
     "reset by acpi needs a Linux guest, a boot sector knows nothing of ACPI"),
    (ResetBy.ACPI, UEFI_PROBE,
     "reset by acpi needs a Linux guest, a probe guest knows nothing of ACPI"),
    (ResetBy.RTAS, PSERIES, None),
    (ResetBy.RTAS, SECTOR, "pc-q35 (x86_64) has no reset by rtas"),
    (ResetBy.EFI_COLD, PSERIES, "reset by efi-cold needs UEFI firmware"),
    *((ResetBy.MONITOR, on, None) for on in (SECTOR, ISAPC, MICROVM, ARM, RISCV, UEFI_LINUX)),
])
def test_a_guest_resets_itself_as_it_and_its_board_can(
    by: ResetBy, on: Platform, words: str | None
) -> None:
    assert why(Reset(by), on) == words


def test_in_words() -> None:
    assert Reset().describe(hosts()) == "reset"
    assert Reset(ResetBy.CF9).describe(hosts()) == "reset by the guest: cf9"
