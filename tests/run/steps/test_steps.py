"""The loop over a scenario: up to the first step that is refused, or leaves the guest down."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from bootmatrix.errors import TpmLost
from bootmatrix.run.steps import DEEDS, run_steps
from bootmatrix.steps.base import Step
from bootmatrix.steps.library import LIBRARY
from bootmatrix.witnesses.observation import BootObserved, StepObserved
from bootmatrix.witnesses.probe_line import ProbeLine
from bootmatrix.witnesses.refusal import Refusal

HERE = ProbeLine("here", 1)
UP = BootObserved(0, (), ProbeLine("up", 1), None, 1.0, 5.0)
DOWN = BootObserved(0, (), None, None, 5.0, 5.0)


def run(
    monkeypatch: pytest.MonkeyPatch, name: str, *seen: dict[str, Any],
    observed: list[StepObserved] | None = None, check: Callable[[], None] = lambda: None,
) -> list[str]:
    """The steps of a scenario that are done, when these things are seen of them.

    ``check`` is what the guest's hosts say then of its machines.
    """
    followers: list[tuple[str, Step | None]] = []

    def deed(guest: object, step: Step, following: Step | None) -> StepObserved:
        followers.append((step.kind, following))
        return StepObserved(step, 0.1, 0, **seen[len(followers) - 1])

    for kind in DEEDS:
        monkeypatch.setitem(DEEDS, kind, deed)
    steps = LIBRARY[name].steps
    observed = [] if observed is None else observed
    guest: Any = SimpleNamespace(begin=lambda step: None, explain=lambda: None,
                                 stopped=lambda: None, hosts=SimpleNamespace(check_engine=check))
    run_steps(guest, steps, observed)
    done = [each.step.kind for each in observed]
    assert followers == [*zip(done, (*steps[1:], None), strict=False)]
    return done


def test_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = [{"boot": UP}, {"answer": HERE}, {"boot": UP}]
    assert run(monkeypatch, "migrate-reset", *seen) == ["start", "migrate", "reset"]


@pytest.mark.parametrize(("name", "seen"), [
    ("migrate-reset", {"refusal": Refusal("other", "no")}),
    ("migrate-reset", {"answer": None}),
    ("migrate-reset", {"boot": DOWN}),
    ("guest-flash-reset", {"flashed": 0, "cut_off": "gone"}),
    ("guest-flash-reset", {"answer": None}),
    ("variables-migrate-reset", {"failed": "not a word"}),
    ("variables-migrate-reset", {"answer": None}),
    ("migrate-suspend-wake-reset", {"answer": None}),
])
def test_a_guest_that_is_down_ends_it(
    monkeypatch: pytest.MonkeyPatch, name: str, seen: dict[str, Any]
) -> None:
    assert len(run(monkeypatch, name, {"boot": UP}, seen)) == 2


def test_what_is_not_asked_need_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    # A boot of which the rest is watched on the destination; a host that gets other firmware.
    assert len(run(monkeypatch, "migrate-during-post", {}, {"boot": UP}, {"boot": UP})) == 3
    assert len(run(monkeypatch, "host-upgrade-reset", {"boot": UP}, {}, {"boot": UP})) == 3


@pytest.mark.parametrize("second", [{"answer": HERE}, {"refusal": Refusal("other", "no")}])
def test_what_is_seen_of_a_machine_that_is_lost_counts_for_nothing(
    monkeypatch: pytest.MonkeyPatch, second: dict[str, Any]
) -> None:
    """Whether the step seemed to pass or to fail."""
    observed: list[StepObserved] = []

    def check() -> None:
        if observed:
            raise TpmLost("the guest's swtpm ended")

    with pytest.raises(TpmLost):
        run(monkeypatch, "migrate-reset", {"boot": UP}, second, observed=observed, check=check)
    assert [each.step.kind for each in observed] == ["start"]
