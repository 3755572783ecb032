"""The guest programs its flash with an image that fw_cfg brings it."""

from __future__ import annotations

import pytest

from bootmatrix.policies import Policy
from bootmatrix.steps.base import GuestState, Platform
from bootmatrix.steps.guest_flash import GuestFlash, flashed
from bootmatrix.steps.plan import apply
from helpers.lives import HOSTS, Q35, RESET, START
from helpers.platforms import BIOS_LINUX, OVMF, SEABIOS, SECTOR, UEFI_PROBE, hosts, why


def test_a_qemu_offers_one_image() -> None:
    state = GuestState(started=True, running=True)
    assert GuestFlash(0).problem(state) is None
    GuestFlash(0).advance(state)
    assert GuestFlash(0).problem(state) is None
    assert GuestFlash(1).problem(state) == (
        "the guest flashes the firmware of source already; a QEMU offers it one image")
    assert GuestFlash(0).problem(GuestState(flashes=1)) == (
        "the guest flashes the firmware of destination already; a QEMU offers it one image")


def test_whose_image_it_is_stands_in_the_steps() -> None:
    assert flashed((START, RESET)) is None
    assert flashed((START, GuestFlash(2), RESET)) == 2
    assert flashed((START, GuestFlash(0))) == 0


@pytest.mark.parametrize(("policy", "firmware"), [
    (Policy.GUEST_OWNED, "C"), (Policy.STOCK, "A"), (Policy.MACHINE_OWNED, "A"),
])
def test_it_programs_what_is_a_flash_and_nothing_else(policy: Policy, firmware: str) -> None:
    guest = policy.model(HOSTS, Q35)
    for step in (START, GuestFlash(2)):
        apply(guest, step)
    assert apply(guest, RESET).firmware == firmware


@pytest.mark.parametrize(("on", "words"), [
    (SECTOR, None),
    (UEFI_PROBE, "guest-flash needs the boot sector on a BIOS, a probe guest cannot"),
    (BIOS_LINUX, "guest-flash needs the boot sector on a BIOS, a linux guest cannot"),
])
def test_the_boot_sector_alone_knows_how(on: Platform, words: str | None) -> None:
    assert why(GuestFlash(1), on) == words


def test_in_words_and_by_hand() -> None:
    assert GuestFlash(1).describe(hosts(SEABIOS, OVMF)) == "guest-flash with ovmf-4m"
    (line,) = GuestFlash(1).by_hand("1-source")
    assert line.startswith("tell 1-source f flash  #")
