"""A guest that enrols keys: where it can, and in whose store they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bootmatrix.boards import Loader
from bootmatrix.model import FirmwareBuild, Signing
from bootmatrix.policies import Policy
from bootmatrix.steps.enrol_keys import EnrolKeys
from bootmatrix.steps.plan import plan
from helpers.lives import HOSTS, MIGRATE, Q35, RESET, SHUTDOWN, START, START_B, loaded
from helpers.platforms import OVMF, SEABIOS, UEFI_LINUX, UEFI_PROBE, hosts, why

ENROL = EnrolKeys()
SECURE = replace(OVMF, name="secure", signing=Signing(Path(), Path()), features=("secure-boot",))
WITH_KEYS = replace(SECURE, name="ms", features=("secure-boot", "enrolled-keys"))


@pytest.mark.parametrize("policy", Policy)
def test_they_are_in_the_store(policy: Policy) -> None:
    steps = (START, ENROL, MIGRATE, RESET, SHUTDOWN, START_B, SHUTDOWN, START)
    planned = plan(policy, loaded(Loader.FLASH), Q35, steps)
    assert [each.variables and each.variables.enrolled for each in planned] == [
        False, True, True, True, None, True, None, True]


@pytest.mark.parametrize("policy", Policy)
def test_a_move_leaves_a_hosts_behind(policy: Policy) -> None:
    planned = plan(policy, loaded(Loader.FLASH), Q35, (START, ENROL, SHUTDOWN, START_B))
    assert planned[-1].variables
    assert planned[-1].variables.enrolled is policy.keeps_nvram
    assert planned[-1].variables.lost is not policy.keeps_nvram


def test_without_a_store_there_are_none() -> None:
    assert plan(Policy.STOCK, HOSTS, Q35, (START, ENROL))[-1].variables is None


@pytest.mark.parametrize(("firmware", "told"), [
    ((SECURE, SECURE), None),
    ((OVMF, OVMF), "enrol-keys needs Secure Boot and a guest that is signed for the keys, and with "
     "ovmf-4m it is not"),
    ((SECURE, OVMF), "enrol-keys needs Secure Boot and a guest that is signed for the keys, and "
     "with ovmf-4m it is not"),
    ((WITH_KEYS, SECURE), "enrol-keys needs setup mode, ms has keys enrolled"),
    ((SEABIOS, SEABIOS), "enrol-keys needs UEFI firmware in flash, seabios on pc-q35 has no "
     "variable store"),
], ids=["secure", "plain", "one of them", "enrolled", "bios"])
def test_where_it_can(firmware: tuple[FirmwareBuild, ...], told: str | None) -> None:
    assert why(ENROL, replace(UEFI_PROBE, hosts=hosts(*firmware))) == told


def test_the_probe_alone_is_signed() -> None:
    on = replace(UEFI_LINUX, hosts=hosts(SECURE))
    assert why(ENROL, on) == "enrol-keys needs the UEFI probe, which a linux guest is not"


def test_what_is_typed() -> None:
    assert ENROL.by_hand("1-source") == ("tell 1-source p written", "ask 1-source")
