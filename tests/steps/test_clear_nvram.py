"""The user empties the nvram of a guest that is down."""

from __future__ import annotations

import pytest

from bootmatrix.boards import Loader
from bootmatrix.policies import Policy
from bootmatrix.policies.guest_owned import GuestOwned
from bootmatrix.steps.base import GuestState
from bootmatrix.steps.clear_nvram import ClearNvram
from bootmatrix.steps.plan import apply
from bootmatrix.steps.upgrade_nvram import UpgradeNvram
from helpers.lives import CLEAR, Q35, SHUTDOWN, START, START_B, WRITE, loaded


@pytest.mark.parametrize("running", [True, False])
def test_nothing_may_use_it(*, running: bool) -> None:
    found = CLEAR.problem(GuestState(running=running))
    assert found == ("clear-nvram needs a guest that is shut down" if running else None)


def test_it_is_empty_until_the_next_start() -> None:
    state = GuestState(started=True)
    CLEAR.advance(state)
    assert state.cleared
    assert UpgradeNvram(1).problem(state) is not None
    START.advance(state)
    assert not state.cleared


def test_firmware_variables_and_what_was_staged_are_gone() -> None:
    guest = Policy.GUEST_OWNED.model(loaded(Loader.FLASH), Q35)
    assert isinstance(guest, GuestOwned)
    for step in (START, WRITE, UpgradeNvram(2), SHUTDOWN, CLEAR):
        apply(guest, step)
    assert (guest.nvram, guest.nvram_store, guest.staged, guest.stamp) == (None,) * 4
    assert apply(guest, START_B).firmware == "B"


def test_it_is_the_user_s_own_act_on_an_nvram() -> None:
    assert ClearNvram.by_user
    assert ClearNvram.needs_nvram
