"""A running guest moves: where to, when, and what comes along."""

from __future__ import annotations

import pytest

from bootmatrix.boards import Loader
from bootmatrix.model import DEFAULT_MACHINE, Channel, MovesAs
from bootmatrix.policies import Policy
from bootmatrix.steps.base import Ability, GuestState, Platform
from bootmatrix.steps.migrate import Migrate, leaves_during_post
from bootmatrix.steps.plan import apply, plan
from helpers.lives import HOSTS, MIGRATE, Q35, RESET, START, WRITE, loaded
from helpers.platforms import (
    BIOS_LINUX,
    ISAPC,
    MICROVM,
    OVMF,
    SEABIOS,
    SECTOR,
    UEFI_PROBE,
    hosts,
    why,
)

DURING_POST = Migrate(1, during_post=True)


@pytest.mark.parametrize(("step", "booting", "words"), [
    (Migrate(1), False, None),
    (Migrate(0), True, "the guest is on source already; migrate it elsewhere"),
    (DURING_POST, True, None),
    (DURING_POST, False, "during-post must come right after a start or a reset"),
    (Migrate(1, capabilities=("xbzrle",), parameters=(("xbzrle-cache-size", 1),)), True, None),
    (Migrate(1, capabilities=("multifd",)), True,
     "multifd is said by the axis migration, or by the harness"),
    (Migrate(1, parameters=(("tls-creds", "mine"),)), True,
     "tls-creds is said by the axis migration, or by the harness"),
])
def test_when_it_makes_sense(step: Migrate, booting: bool, words: str | None) -> None:
    assert step.problem(GuestState(running=True, booting=booting)) == words


def test_the_guest_is_there() -> None:
    state = GuestState(running=True)
    Migrate(2).advance(state)
    assert (state.host, state.running) == (2, True)


def test_what_comes_along_and_what_the_new_process_has_read() -> None:
    guest = Policy.MACHINE_OWNED.model(loaded(Loader.FLASH), Q35)
    for step in (START, WRITE):
        apply(guest, step)
    moved = apply(guest, MIGRATE)
    assert (moved.host, moved.firmware, moved.rom, moved.boots) == (1, "A", "A", False)
    assert moved.variables is not None
    assert moved.variables.value == "boot-1"
    assert guest.process is not None
    assert guest.process.image == "B"


def test_a_guest_without_a_store_brings_none() -> None:
    guest = Policy.STOCK.model([HOSTS[0], *loaded(Loader.FLASH)[1:]], Q35)
    apply(guest, START)
    assert apply(guest, MIGRATE).variables is None


def test_a_refusal_leaves_it_where_it_was() -> None:
    guest = Policy.STOCK.model(HOSTS, DEFAULT_MACHINE)
    apply(guest, START)
    refused = apply(guest, MIGRATE)
    assert (refused.refusal, refused.host, refused.firmware) == ("machine-type", 0, "A")


@pytest.mark.parametrize(("on", "step", "words"), [
    (SECTOR, DURING_POST, None),
    (BIOS_LINUX, DURING_POST, None),
    (UEFI_PROBE, DURING_POST,
     "during-post needs firmware that says its name as it begins, as a BIOS does"),
    (UEFI_PROBE, Migrate(1), None),
    (ISAPC, Migrate(1), None),  # no word says that it does not
    (MICROVM, Migrate(1), "microvm does not migrate between versions of QEMU "
                          "(its documentation says so): 5.2.0 to 11.1.3"),
    (MICROVM, Migrate(0), None),  # of one version
])
def test_where_it_cannot_be_done(on: Platform, step: Migrate, words: str | None) -> None:
    assert why(step, on) == words


@pytest.mark.parametrize(("step", "words"), [
    (Migrate(1), "migrate to destination (QEMU 11.1.3)"),
    (Migrate(0, Channel.FILE), "migrate to source (QEMU 5.2.0) through file"),
    (DURING_POST, "migrate to destination (QEMU 11.1.3) while the firmware runs"),
    (Migrate(1, capabilities=("xbzrle",), parameters=(("xbzrle-cache-size", 4096),)),
     "migrate to destination (QEMU 11.1.3) with xbzrle, xbzrle-cache-size=4096"),
    (Migrate(1, recovers=True),
     "migrate to destination (QEMU 11.1.3), by a second connection once the first is broken"),
])
def test_in_words(step: Migrate, words: str) -> None:
    assert step.describe(hosts(SEABIOS, OVMF)) == words


def test_only_a_migration_can_leave_during_post() -> None:
    assert leaves_during_post(DURING_POST)
    assert not any(map(leaves_during_post, (Migrate(1), RESET, None)))


@pytest.mark.parametrize(("moves_as", "needs"), [
    (MovesAs.RUNNING, set()), (MovesAs.PAUSED, {Ability.PAUSE}),
    (MovesAs.SUSPENDED, {Ability.CONSOLE, Ability.WAKE}),
])
def test_what_a_guest_does_when_it_moves_changes_nothing(
    moves_as: MovesAs, needs: set[Ability]
) -> None:
    step = Migrate(1, moves_as=moves_as)
    assert step.needs == {Ability.MIGRATE, *needs}
    for policy in Policy:
        assert [each.firmware for each in plan(policy, HOSTS, Q35, (START, step, RESET))] == [
            each.firmware for each in plan(policy, HOSTS, Q35, (START, MIGRATE, RESET))]


def test_a_connection_that_breaks_changes_nothing_either() -> None:
    broken = Migrate(1, recovers=True)
    assert broken.problem(GuestState(running=True)) is None
    assert broken.problem(GuestState(running=True, coming=1)) is not None
    for policy in Policy:
        assert [each.firmware for each in plan(policy, HOSTS, Q35, (START, broken, RESET))] == [
            each.firmware for each in plan(policy, HOSTS, Q35, (START, MIGRATE, RESET))]


def test_who_can_be_suspended_when_it_moves() -> None:
    step = Migrate(1, moves_as=MovesAs.SUSPENDED)
    assert why(step, BIOS_LINUX) is None
    assert why(step, SECTOR) == "suspend needs a Linux guest, a boot sector cannot"
    assert Migrate(1, during_post=True, moves_as=MovesAs.PAUSED).problem(
        GuestState(running=True, booting=True)) == "a guest whose firmware still runs is not paused"
