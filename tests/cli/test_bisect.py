"""What a bisection does to a candidate: made, run, remembered, and made again to be sure."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from bootmatrix.cell import Cell
from bootmatrix.cli.bisect import Trial, _number
from bootmatrix.diagnose.bisect import Skip
from bootmatrix.diagnose.tried import Answer, Tried
from bootmatrix.errors import HarnessError, ImageError, UserError
from bootmatrix.records.model import Record
from helpers.cells import cell

NAMES = {"one": "key-1", "two": "key-2"}


class Candidates:
    """Makes and runs them: ``verdicts`` in the order of the runs, each of a build ``content``."""

    def __init__(self, *verdicts: str, fails: Exception | None = None) -> None:
        self.verdicts = list(verdicts)
        self.fails = fails
        self.made: list[str] = []
        self.content = "bytes"

    def make(self, name: str) -> Cell:
        self.made.append(name)
        if self.fails is not None:
            raise self.fails
        return replace(cell("sid", "stock"), seconds=float(len(self.made)))

    def run(self, one: Cell) -> Record:
        return cast(Record, {"verdict": self.verdicts.pop(0), "reason": "so"})


@pytest.fixture
def trial(tmp_path: Path) -> Callable[..., Trial]:
    def made(candidates: Candidates, *, built: bool = False, **answers: Answer) -> Trial:
        tried = Tried(tmp_path / "state.json", {"question": 1})
        tried.answers.update({NAMES[name]: answer for name, answer in answers.items()})
        return Trial(candidates.make, lambda one: candidates.content, candidates.run, tried,
                     NAMES, built)

    return made


def kept(trial: Trial) -> dict[str, Answer]:
    return trial._tried.answers


def test_it_is_made_and_run_once(trial: Callable[..., Trial]) -> None:
    candidates = Candidates("pass")
    one = trial(candidates)
    answer, known = one.ask("one")
    assert (answer.verdict, known) == ("pass", False)
    assert kept(one) == {"key-1": answer}
    assert one.answers == {"one": answer}


def test_the_same_bytes_are_not_run_again(trial: Callable[..., Trial]) -> None:
    candidates = Candidates("pass")
    one = trial(candidates)
    first, _ = one.ask("one")
    assert one.ask("two")[0] == first
    assert candidates.made == ["one", "two"]


def test_a_revision_that_was_answered_is_not_built(trial: Callable[..., Trial]) -> None:
    before, candidates = Answer("silent", "so", content="bytes"), Candidates()
    assert trial(candidates, built=True, one=before).ask("one") == (before, True)
    assert candidates.made == []


def test_what_stands_under_a_name_is_looked_at_each_time(trial: Callable[..., Trial]) -> None:
    before = Answer("silent", "so", content="bytes")
    candidates = Candidates("pass")
    assert trial(candidates, one=before).ask("one") == (before, True), "they are those bytes still"
    candidates.content = "others"
    answer, known = trial(candidates, one=before).ask("one")
    assert (answer.verdict, known) == ("pass", False)


@pytest.mark.parametrize(("fails", "lasting"), [
    (Skip("the build says 125", lasting=True), True), (Skip("killed"), False),
    (UserError("is no QEMU"), False), (ImageError("no such suite"), False),
])
def test_what_cannot_be_made_is_skipped_with_its_reason(
    trial: Callable[..., Trial], fails: Exception, lasting: bool
) -> None:
    one = trial(Candidates(fails=fails))
    answer, _ = one.ask("one")
    assert answer.skipped
    assert (answer.reason, answer.lasting) == (str(fails).splitlines()[0], lasting)


def test_to_be_sure_it_is_run_again(trial: Callable[..., Trial]) -> None:
    one = trial(Candidates("silent", "silent"))
    one.ask("one")
    assert one.again("one").verdict == "silent"
    assert kept(one)["key-1"].confirmed
    candidates = Candidates("silent", "pass")
    candidates.content = "others"
    other = trial(candidates)
    other.ask("one")
    assert other.again("one").verdict == "pass"
    assert not kept(other)["key-1"].confirmed


def test_one_that_cannot_be_made_again_is_nothing_to_be_sure_of(
    trial: Callable[..., Trial],
) -> None:
    before = Answer("silent", "so", content="bytes")
    one = trial(Candidates(fails=Skip("its tag is gone")), built=True, one=before)
    one.ask("one")
    with pytest.raises(HarnessError, match=r"one was silent, and cannot be made again, .*tag"):
        one.again("one")


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("1000000", 10**6)])
def test_how_many_may_be_skipped(text: str, number: int) -> None:
    assert _number(text) == number


@pytest.mark.parametrize("text", ["0", "-1", "1000001", "many", "", "1.5", "²"])
def test_no_number_of_skips(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no number from 1 to 1000000"):
        _number(text)
