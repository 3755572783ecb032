"""The guest's process ends, and what it had may be looked for."""

from __future__ import annotations

import pytest

from bootmatrix.boards import Loader
from bootmatrix.model import ShutdownBy
from bootmatrix.policies import Policy
from bootmatrix.steps.base import Ability, GuestState, Platform
from bootmatrix.steps.plan import apply
from bootmatrix.steps.shutdown import Shutdown
from helpers.lives import HOSTS, Q35, SHUTDOWN, START, WRITE, loaded
from helpers.platforms import ARM, BIOS_LINUX, SECTOR, UEFI_PROBE, hosts, why

BY_GUEST = Shutdown(ShutdownBy.GUEST)


def test_nothing_runs() -> None:
    state = GuestState(started=True, running=True)
    SHUTDOWN.advance(state)
    assert not state.running
    guest = Policy.STOCK.model(HOSTS, Q35)
    apply(guest, START)
    down = apply(guest, SHUTDOWN)
    assert (down.host, down.firmware, down.disk, down.rom) == (None,) * 4


def test_what_the_guest_had_written_is_what_it_may_miss() -> None:
    hosts = [*loaded(Loader.FLASH)[:1], *HOSTS[1:]]  # the second has no store
    guest = Policy.STOCK.model(hosts, Q35)
    for step in (START, WRITE, SHUTDOWN):
        apply(guest, step)
    assert guest.last_store is not None
    assert guest.last_store.value == "boot-1"
    for step in (type(START)(1), SHUTDOWN):
        apply(guest, step)
    assert guest.last_store is not None, "a life without a store does not make it forgotten"


def test_a_switch_or_a_guest_that_is_typed_to() -> None:
    assert SHUTDOWN.needs == {Ability.POWER}
    assert BY_GUEST.needs == {Ability.CONSOLE}


@pytest.mark.parametrize(("step", "on", "words"), [
    (BY_GUEST, SECTOR, "shutdown by the guest: a boot sector cannot"),
    (BY_GUEST, UEFI_PROBE, None),
    (BY_GUEST, BIOS_LINUX, None),
    (BY_GUEST, ARM, None),
    (SHUTDOWN, SECTOR, None),
])
def test_a_boot_sector_cannot(step: Shutdown, on: Platform, words: str | None) -> None:
    assert why(step, on) == words


def test_in_words() -> None:
    assert SHUTDOWN.describe(hosts()) == "shutdown"
    assert BY_GUEST.describe(hosts()) == "shutdown by the guest"
