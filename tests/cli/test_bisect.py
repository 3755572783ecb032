"""What a bisection does to a candidate: made, run, remembered, and made again to be sure."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from bootmatrix.builds.host import Builds
from bootmatrix.builds.source import BuildFailed
from bootmatrix.cell import Cell
from bootmatrix.cli.bisect import Ahead, Trial, _number, _question
from bootmatrix.diagnose.bisect import Over, Skip, substituted
from bootmatrix.diagnose.tried import Answer, Tried
from bootmatrix.errors import HarnessError, ImageError, UserError
from bootmatrix.model import GitSource, GuestKind, OwnDisk, OwnGuest
from bootmatrix.records.model import Record
from helpers.cells import cell
from helpers.leavings import until

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


def test_a_guest_of_ones_own_in_a_bisection(tmp_path: Path) -> None:
    image = tmp_path / "mine.img"
    image.write_bytes(b"one")
    guest = OwnGuest("mine", GuestKind.DISK, None, OwnDisk(image, "raw"), "login: ")
    wanted = replace(cell("trixie sid", "stock"), guest=guest)
    options = argparse.Namespace(at=None, build=None, source=None)
    before = _question(options, Over.DESTINATION, wanted, [])
    assert before == _question(options, Over.DESTINATION, wanted, [])
    image.write_bytes(b"others")
    assert before != _question(options, Over.DESTINATION, wanted, [])
    hosts = tuple(replace(host, arguments=("-smp", "2")) for host in wanted.hosts)
    new = substituted(replace(wanted, hosts=hosts), Over.DESTINATION, (1,), "x", "debian-bookworm",
                      lambda host: "")
    assert (new.guest, new.hosts[1].arguments) == (guest, ("-smp", "2"))


# ---- builds ahead -------------------------------------------------------------------------------


class Building:
    """Stands in for Builds: what is built ahead takes until it is stopped, or is let go."""

    def __init__(self) -> None:
        self.begun: dict[str, threading.Event] = {}
        self.tries: list[str] = []
        self.stopped: list[str] = []

    def build_ahead(self, git: GitSource, stop: threading.Event) -> None:
        self.begun[git.revision] = stop
        self.tries.append(git.revision)
        if git.revision == "broken":
            raise BuildFailed("does not build")
        stop.wait()
        self.stopped.append(git.revision)


def test_the_next_are_built_and_others_no_more() -> None:
    building = Building()
    what = {name: GitSource(Path("x"), name) for name in ("a", "b", "c", "broken")}
    with Ahead(cast(Builds, building), what) as ahead:
        ahead.after(["a", "b", "answered before"])
        assert building.begun == {}, "nothing runs yet"
        ahead.begin()
        assert until(lambda: set(building.begun) == {"a", "b"})
        ahead.after(["b", "c"])
        ahead.begin()
        assert building.stopped == ["a"]
        assert until(lambda: set(building.begun) == {"a", "b", "c"})
        ahead.begin()  # the cell once more, to be sure
        assert building.stopped == ["a"]
        ahead.after(["broken"])
        ahead.begin()
        assert sorted(building.stopped) == ["a", "b", "c"]
        with pytest.raises(BuildFailed):  # and it is not tried twice
            ahead.wait("broken")
        ahead.begin()
        ahead.after(["a"])
        ahead.begin()
        assert building.tries.count("broken") == 1
        assert until(lambda: building.tries.count("a") == 2)
        building.begun["a"].set()
        ahead.wait("a")
        assert building.stopped.count("a") == 2
    assert not [one for one in threading.enumerate() if one.name.startswith("builds ")]
