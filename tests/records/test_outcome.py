"""A verdict in the light of what the matrix declares."""

from __future__ import annotations

from typing import Any

import pytest

from bootmatrix.records.outcome import Outcome, outcome_of


@pytest.mark.parametrize(("verdict", "known", "state", "outcome"), [
    ("pass", None, None, Outcome.PASSED),
    ("pass", "why", "fixed", Outcome.FIXED),
    ("silent", "why", "known", Outcome.KNOWN),
    ("silent", "why", "changed", Outcome.FAILED),
    ("silent", None, None, Outcome.FAILED),
    ("wrong-firmware", None, None, Outcome.FAILED),
    ("witness-conflict", None, None, Outcome.FAILED),
    ("unsupported", None, None, Outcome.UNSUPPORTED),
    ("error", None, None, Outcome.ERROR),
])
def test_outcomes(verdict: str, known: str | None, state: str | None, outcome: Outcome) -> None:
    told: Any = {"verdict": verdict, "known": known} | ({"known_state": state} if state else {})
    assert outcome_of(told) is outcome


@pytest.mark.parametrize("flaky", [{"pass": 1, "silent": 2}, {"pass": "some"}])
def test_repeats_that_differ_are_flaky_whatever_is_declared(flaky: dict[str, object]) -> None:
    told: Any = {"verdict": "silent", "known": "why", "flaky": flaky}
    assert outcome_of(told) is Outcome.FLAKY
    assert outcome_of(told | {"flaky": {}}) is Outcome.KNOWN


@pytest.mark.parametrize("outcome", list(Outcome))
def test_what_makes_a_run_red(outcome: Outcome) -> None:
    assert outcome.is_bad == (outcome in {Outcome.FAILED, Outcome.ERROR, Outcome.FLAKY})
