"""The user stages a build, which runs from the next boot on."""

from __future__ import annotations

import pytest

from bootmatrix.policies import Policy
from bootmatrix.steps.base import GuestState, Step
from bootmatrix.steps.plan import plan
from bootmatrix.steps.upgrade_nvram import UpgradeNvram
from helpers.lives import HOSTS, Q35, RESET, SHUTDOWN, START
from helpers.platforms import OVMF, SEABIOS, hosts

STAGE = UpgradeNvram(firmware_of=2)


@pytest.mark.parametrize("cleared", [True, False])
def test_there_must_be_something_to_upgrade(*, cleared: bool) -> None:
    found = STAGE.problem(GuestState(started=True, cleared=cleared))
    assert (found == "there is no nvram to upgrade after clear-nvram; start the guest first") is (
        cleared)
    assert (found is None) is not cleared


@pytest.mark.parametrize("boot", [(RESET,), (SHUTDOWN, START)])
def test_it_runs_from_the_next_boot_on(boot: tuple[Step, ...]) -> None:
    planned = plan(Policy.GUEST_OWNED, HOSTS, Q35, (START, STAGE, *boot))
    assert [planned[1].firmware, planned[1].rom, planned[-1].firmware] == ["A", "A", "C"]


def test_in_words() -> None:
    assert UpgradeNvram(firmware_of=1).describe(hosts(SEABIOS, OVMF)) == (
        "upgrade-nvram with ovmf-4m")


def test_it_is_the_user_s_own_act_on_an_nvram() -> None:
    assert UpgradeNvram.by_user
    assert UpgradeNvram.needs_nvram
