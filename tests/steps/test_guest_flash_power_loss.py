"""An update whose power is lost is none: what ran before must run then."""

from __future__ import annotations

from bootmatrix.policies import Policy
from bootmatrix.steps.base import Ability, GuestState
from bootmatrix.steps.guest_flash_power_loss import GuestFlashPowerLoss
from bootmatrix.steps.library import parse
from bootmatrix.steps.plan import apply
from helpers.lives import HOSTS, Q35, START
from helpers.platforms import SEABIOS, hosts

LOSS = GuestFlashPowerLoss(firmware_of=1)


def test_the_guest_is_down_then_and_has_its_old_firmware() -> None:
    state = GuestState(started=True, running=True)
    LOSS.advance(state)
    assert (state.running, state.flashes) == (False, 1)
    guest = Policy.GUEST_OWNED.model(HOSTS, Q35)
    first = apply(guest, START)
    down = apply(guest, LOSS)
    assert (down.host, down.firmware, down.boots) == (None, None, False)
    assert apply(guest, START).firmware == first.firmware


def test_it_needs_power_that_can_be_cut() -> None:
    assert LOSS.needs == {Ability.CONSOLE, Ability.POWER_LOSS}
    assert LOSS.by_hand("one") == ()


def test_it_is_a_step_of_a_list() -> None:
    scenario = parse("mine", ["start", "guest-flash-power-loss", {"start": {"on": "source"}}])
    assert scenario.steps[1] == LOSS
    assert LOSS.describe(hosts(SEABIOS, SEABIOS)).startswith("guest-flash-power-loss with ")
