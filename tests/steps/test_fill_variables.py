"""The guest fills its variable store, which leaves its own variables alone."""

from __future__ import annotations

from bootmatrix.boards import Loader
from bootmatrix.policies import Policy
from bootmatrix.steps.fill_variables import FillVariables
from bootmatrix.steps.plan import plan
from helpers.lives import Q35, START, WRITE, loaded


def test_the_guest_is_typed_to_fill_it_and_is_done_when_it_is_full() -> None:
    step = FillVariables()
    assert step.by_hand("1-source") == ("tell 1-source x filled", "ask 1-source")
    assert step.result == "full"


def test_what_the_guest_had_written_stays() -> None:
    before, after = plan(
        Policy.STOCK, loaded(Loader.FLASH), Q35, (START, WRITE, FillVariables()))[1:]
    assert before.variables == after.variables
