"""The guest writes a value that names how many boots its store has seen."""

from __future__ import annotations

from bootmatrix.boards import Loader
from bootmatrix.policies import Policy
from bootmatrix.steps.plan import plan
from bootmatrix.steps.write_variable import WriteVariable
from helpers.lives import HOSTS, Q35, RESET, START, WRITE, loaded


def test_the_value_names_the_boot() -> None:
    planned = plan(Policy.STOCK, loaded(Loader.FLASH), Q35, (START, WRITE, RESET, WRITE))
    values = [each.variables and each.variables.value for each in planned]
    assert values == ["", "boot-1", "boot-1", "boot-2"]
    assert WriteVariable().result == "ok"


def test_without_a_store_nothing_is_written() -> None:
    assert plan(Policy.STOCK, HOSTS, Q35, (START, WRITE))[-1].variables is None
