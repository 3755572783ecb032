"""The guest writes variables, and is asked how it is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bootmatrix.run.steps import variables
from bootmatrix.steps.fill_variables import FillVariables
from bootmatrix.steps.variables import VariablesStep
from bootmatrix.steps.write_variable import WriteVariable
from bootmatrix.witnesses.probe_line import ProbeLine

HERE = ProbeLine("here", 1)


class Console:
    """Says what it was told to say, and keeps what was asked."""

    def __init__(self, wrote: ProbeLine | None, answer: ProbeLine | None) -> None:
        self.told: list[tuple[bytes, str]] = []
        self._wrote, self._answer = wrote, answer

    def tell(self, key: bytes, line: str, deadline: float) -> ProbeLine | None:
        self.told.append((key, line))
        return self._wrote

    def ask(self, deadline: float) -> ProbeLine | None:
        assert self._wrote is not None, "who said nothing is not asked"
        return self._answer


def seen(step: VariablesStep, console: Console) -> Any:
    guest: Any = SimpleNamespace(
        machine=SimpleNamespace(console=console), command_seconds=60.0, answer_seconds=5.0,
        deadline=lambda seconds: seconds, limit=lambda seconds: seconds,
        went_round=lambda: False, observed=lambda **seen: SimpleNamespace(**seen))
    return variables.do(guest, step, None)


@pytest.mark.parametrize(("step", "told"), [
    (WriteVariable(), (b"v", "written")), (FillVariables(), (b"x", "filled")),
])
def test_the_guest_is_told_and_asked(step: VariablesStep, told: tuple[bytes, str]) -> None:
    console = Console(wrote := ProbeLine("written", value="boot-1", result="ok"), HERE)
    found = seen(step, console)
    assert console.told == [told]
    assert (found.wrote, found.answer, found.failed, found.limit) == (wrote, HERE, None, None)


def test_not_a_word_and_no_answer_are_told_apart_by_what_was_waited() -> None:
    silent = seen(WriteVariable(), Console(None, None))
    assert (silent.failed, silent.limit) == ("not a word of it from the guest in 60 s", 60.0)
    dead = seen(WriteVariable(), Console(ProbeLine("written", result="ok"), None))
    assert (dead.failed, dead.answer, dead.limit) == (None, None, 5.0)


