"""A life's beginning tells what becomes of it."""

from __future__ import annotations

from bootmatrix.explore.answers import PASSED, Answers, LifeOutcome
from bootmatrix.explore.failures import Failure

FAILURE = Failure("silent", "reset", "not a byte", "pc-q35", "seabios-1")


def test_nobody_knows_a_life_that_was_not_run() -> None:
    answers = Answers()
    assert answers.of("p", ["start"]) is None
    answers.add("p", ["start", "reset"], PASSED)
    assert answers.of("p", ["start", "migrate"]) is None
    assert answers.of("p", ["start", "reset", "reset"]) is None
    assert answers.of("q", ["start"]) is None, "elsewhere it can be otherwise"


def test_the_beginnings_of_what_passed_pass() -> None:
    answers = Answers()
    answers.add("p", ["start", "reset", "migrate"], PASSED)
    assert answers.of("p", ["start", "reset"]) == PASSED


def test_what_failed_fails_however_it_goes_on() -> None:
    answers = Answers()
    failed = LifeOutcome(1, FAILURE)
    answers.add("p", ["start", "reset", "migrate", "reset"], failed)
    assert answers.of("p", ["start", "reset"]) == failed
    assert answers.of("p", ["start", "reset", "shutdown", "start"]) == failed
    assert answers.of("p", ["start"]) == PASSED, "it came that far"


def test_a_failure_that_did_not_come_again_is_let_go_of() -> None:
    answers = Answers()
    answers.add("p", ["start", "reset"], LifeOutcome(1, FAILURE))
    answers.forget("p", ["start", "reset"])
    assert answers.of("p", ["start", "reset"]) is None
    assert answers.of("p", ["start"]) == PASSED
