"""A host gets other firmware: for whoever reads it from then on."""

from __future__ import annotations

from dataclasses import replace

from bootmatrix.boards import Loader
from bootmatrix.policies import Policy
from bootmatrix.steps.base import GuestState
from bootmatrix.steps.plan import apply
from bootmatrix.steps.upgrade_host import UpgradeHost
from helpers.lives import HOSTS, Q35, RESET, SHUTDOWN, START
from helpers.platforms import OVMF, SEABIOS, hosts


def test_it_must_be_another_one() -> None:
    assert UpgradeHost(0, 1).problem(GuestState()) is None
    assert UpgradeHost(1, 1).problem(GuestState()) == "destination has that firmware already"


def test_the_file_and_how_it_is_taken_are_the_other_host_s() -> None:
    flash = replace(HOSTS[2], loader=Loader.FLASH)
    guest = Policy.REREAD.model([*HOSTS[:2], flash], Q35)
    apply(guest, START)
    upgraded = apply(guest, UpgradeHost(0, firmware_of=2))
    assert (upgraded.firmware, upgraded.rom) == ("A", "A"), "nobody has read it yet"
    assert (guest.files, guest.loaders) == (
        ["C", "B", "C"], [Loader.FLASH, Loader.ROM, Loader.FLASH])
    assert apply(guest, RESET).firmware == "C"
    apply(guest, SHUTDOWN)
    assert apply(guest, START).variables is not None, "it has come with a store"


def test_in_words() -> None:
    assert UpgradeHost(0, firmware_of=1).describe(hosts(SEABIOS, OVMF)) == (
        "upgrade-host of source (QEMU 5.2.0) with ovmf-4m")
