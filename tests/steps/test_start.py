"""A boot in a new process."""

from __future__ import annotations

from bootmatrix.boards import Loader
from bootmatrix.policies import Policy
from bootmatrix.steps.base import GuestState
from bootmatrix.steps.plan import apply
from bootmatrix.steps.start import Start
from helpers.lives import Q35, SHUTDOWN, START, START_B, WRITE, loaded
from helpers.platforms import OVMF, SEABIOS, hosts


def test_a_guest_runs_once() -> None:
    assert START.problem(GuestState()) is None
    assert START.problem(GuestState(started=True, running=True)) == (
        "the guest is running already; shut it down first")


def test_it_runs_there() -> None:
    state = GuestState(cleared=True)
    START_B.advance(state)
    assert (state.host, state.started, state.running, state.cleared) == (1, True, True, False)


def test_the_policy_says_what_runs_and_a_store_that_is_another_one_is_missed() -> None:
    guest = Policy.STOCK.model(loaded(Loader.FLASH), Q35)
    first = apply(guest, START)
    assert (first.host, first.firmware, first.boots) == (0, "A", True)
    for step in (WRITE, SHUTDOWN):
        apply(guest, step)
    moved = apply(guest, START_B)
    assert (moved.host, moved.firmware) == (1, "B")
    assert [each.variables and each.variables.lost for each in (first, moved)] == [False, True]
    apply(guest, SHUTDOWN)
    back = apply(guest, START)
    assert back.variables is not None
    assert back.variables.lost, "what was once lost does not come back"


def test_in_words() -> None:
    assert Start(1).describe(hosts(SEABIOS, OVMF)) == "start on destination (QEMU 11.1.3)"
