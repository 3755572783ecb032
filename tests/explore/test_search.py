"""A whole exploration with something in the place of QEMUs: found, shrunk, confirmed, gone on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from bootmatrix.cell import Cell
from bootmatrix.errors import EngineError
from bootmatrix.explore.search import state_of
from bootmatrix.matrix.expansion import load
from bootmatrix.model import Known, Verdict
from bootmatrix.steps.base import Step
from helpers.explored import Explored, Lived, explored

LIVES, LONGEST = 40, 8
"""So many of so many steps suffice to find and shrink what ``after("migrate", "reset")`` breaks."""


def after(*kinds: str) -> Lived:
    """A life breaks at the last of these steps, if it has all of them in this order."""

    def breaks(steps: Sequence[Step], cell: Cell) -> int | None:
        left = list(kinds)
        for index, step in enumerate(steps):
            if step.kind == left[0]:
                left.pop(0)
                if not left:
                    return index
        return None

    return Lived(breaks)


def nothing(steps: Sequence[Step], cell: Cell) -> int | None:
    return None


def go(one: Explored, lives: int = 300) -> Explored:
    """Until so many lives were run, by a clock that counts them."""
    run = one.search.run

    def counted(cell: Cell, hasty: bool, repeat: int) -> object:
        if hasty and len(one.lived.ran) >= lives and one.search._current is None:
            one.search.until = 0.0
        return run(cell, hasty, repeat)

    one.search.run = counted  # type: ignore[assignment]
    one.search.go()
    return one


@pytest.fixture(scope="module")
def shrunk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Explored, Path]:
    """An exploration that has found what it is to find, and where: several tests look at it."""
    directory = tmp_path_factory.mktemp("shrunk")
    return go(explored(directory, after("migrate", "reset"), longest=LONGEST), LIVES), directory


def test_a_life_that_fails_is_found_and_shrunk(shrunk: tuple[Explored, Path]) -> None:
    one, _ = shrunk
    assert one.findings[0]["life"] == ["start on h0", "migrate to h1", "reset"]
    for finding in one.findings:
        assert finding["state"] == "steady"
        assert finding["shrunk"]
        assert finding["verdicts"] == ["silent"] * 3
    assert [hasty for _, hasty in one.lived.ran].count(False) == 3 * len(one.findings)
    # No two records are of different cells of one name, which reports would not take.
    for cell, hasty in one.lived.ran:
        assert cell.scenario.name.startswith("try-" if hasty else "life-")


def test_its_matrix_file_has_that_cell_alone(shrunk: tuple[Explored, Path]) -> None:
    one, directory = shrunk
    text = (directory / "findings" / "finding-1.yaml").read_text()
    assert text.startswith("# finding-1: silent: boot 2 (reset on source): not a byte in 5 s\n"
                           "# steady: silent, silent, silent in 3 runs; found by `bootmatrix "
                           "explore mine.yaml --seed 7`\nschema: 1\n")
    matrix = load(directory / "findings" / "finding-1.yaml")
    (cell,) = matrix.cells(lambda host: ())
    ran = next(cell for cell, hasty in one.lived.ran if not hasty)
    assert (cell.hosts, cell.machine, cell.policy, cell.disk, cell.scenario.steps) == (
        ran.hosts, ran.machine, ran.policy, ran.disk, ran.scenario.steps)


@pytest.mark.thorough
def test_what_was_found_is_no_hindrance_to_the_next(tmp_path: Path) -> None:
    first = after("start", "reset").breaks
    second = after("replace-disk", "shutdown").breaks

    def breaks(steps: Sequence[Step], cell: Cell) -> int | None:
        found = [index for index in (first(steps, cell), second(steps, cell)) if index is not None]
        return min(found) if found else None

    one = go(explored(tmp_path, Lived(breaks)), 60)
    lives = {tuple(step.split()[0] for step in finding["life"]) for finding in one.findings}
    assert {("start", "reset"), ("start", "replace-disk", "shutdown")} <= lives
    assert len(one.findings) == len(lives), "each once, whatever the firmware"


@pytest.mark.thorough
def test_a_life_keeps_out_of_the_way_of_what_was_found(tmp_path: Path) -> None:
    one = go(explored(tmp_path, after("start", "reset")), 50)
    last = [cell for cell, hasty in one.lived.ran if hasty][-20:]
    assert not any(step.kind == "reset" for cell in last for step in cell.scenario.steps)


def test_what_the_matrix_declares_is_no_finding(tmp_path: Path) -> None:
    entry = Known((("source.firmware", ("seabios-*",)),), (Verdict.SILENT,), "as it is")
    one = go(explored(tmp_path, after("start", "reset"), known=[entry]), 30)
    assert one.findings == []
    assert {seen.name for seen in one.search.home.seen} == {"as it is"}


def test_what_comes_only_when_it_is_waited_for_is_judged_so(tmp_path: Path) -> None:
    """It was compared in a hurry, in which late is silent."""
    entry = Known((("source.firmware", ("seabios-*",)),), (Verdict.LATE,), "it waits")
    lived = after("start", "reset")
    one = go(explored(tmp_path, lived, known=[entry]), 30)
    assert one.findings == []
    assert lived.ran


def test_flaky_is_told_from_steady(tmp_path: Path) -> None:
    lived = after("start", "reset")
    lived.patient = lambda repeat: repeat == 2
    one = go(explored(tmp_path, lived), 20)
    assert {finding["state"] for finding in one.findings} == {"flaky"}
    assert one.findings[0]["verdicts"] == ["pass", "silent", "pass"]
    assert one.findings[0]["reason"].endswith("not a byte in 5 s")


def test_what_does_not_come_again_is_not_shrunk(tmp_path: Path) -> None:
    lived = after("start", "reset")
    failing: list[int] = []
    # The first time that any life fails is the only one.
    lived.hasty = lambda number: not failing and not failing.append(number)  # type: ignore[func-returns-value]
    lived.patient = lambda repeat: False
    one = go(explored(tmp_path, lived), 30)
    (finding,) = one.findings
    assert finding["state"] == "gone"
    assert not finding["shrunk"]


def test_a_rig_that_breaks_ends_it_and_is_no_finding(tmp_path: Path) -> None:
    def breaks(steps: Sequence[Step], cell: Cell) -> int | None:
        raise EngineError("the engine has gone")

    one = explored(tmp_path, Lived(breaks))
    with pytest.raises(EngineError, match="the engine has gone"):
        one.search.go()
    assert len(one.lived.ran) == 1, "it is not shrunk"


def test_a_fault_of_ours_in_a_life_is_found(tmp_path: Path) -> None:
    lived = after("replace-disk")
    lived.verdict, lived.reason = "error", "ValueError: 3"
    one = go(explored(tmp_path, lived), 25)
    assert one.findings[0]["failure"]["verdict"] == "error"


@pytest.mark.thorough
def test_interrupted_it_goes_on_without_loss(tmp_path: Path) -> None:
    one = explored(tmp_path, after("migrate", "migrate", "reset"))
    run = one.search.run

    def interrupted(cell: Cell, hasty: bool, repeat: int) -> object:
        if len(one.lived.ran) == 30:
            raise KeyboardInterrupt
        return run(cell, hasty, repeat)

    one.search.run = interrupted  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        one.search.go()
    one.search.home.close()
    ran = {(cell.hosts, cell.policy, cell.scenario.steps) for cell, hasty in one.lived.ran if hasty}
    again = go(explored(tmp_path, after("migrate", "migrate", "reset")), 50)
    assert again.lived.ran
    # Only what fails is run again, to be sure of it.
    twice = [cell for cell, hasty in again.lived.ran if hasty
             and (cell.hosts, cell.policy, cell.scenario.steps) in ran]
    assert len(twice) <= 1


@pytest.mark.slow
def test_two_workers_find_a_thing_once(tmp_path: Path) -> None:
    for worker in (0, 1):
        one = go(explored(tmp_path, after("start", "migrate", "reset"), worker=worker,
                          longest=12), 40)
        one.search.home.close()
    # A life that is not shrunk to its core can fail as another does; the same is there once.
    found = [(str(finding["failure"]), str(finding["life"])) for finding in one.findings]
    assert len(found) == len(set(found)) > 0


def ways(one: Explored) -> list[tuple[Step, ...]]:
    """What was lived, in its order."""
    return [cell.scenario.steps for cell, _ in one.lived.ran]


@pytest.mark.slow
def test_one_seed_finds_the_same_by_the_same_lives(
    shrunk: tuple[Explored, Path], tmp_path: Path
) -> None:
    assert shrunk[0].findings
    for directory, seed, same in (("b", 7, True), ("c", 8, False)):
        other = go(explored(tmp_path / directory, after("migrate", "reset"), longest=LONGEST,
                            seed=seed), LIVES)
        assert (ways(shrunk[0]) == ways(other)) is same


ELSEWHERE = """
import sys
from pathlib import Path
from explore.test_search import LIVES, LONGEST, after, go, ways
from helpers.explored import explored
CONSTANTS_OF_ITS_OWN = 311, 312, 313, 314, 315, 316, 317, 318, 319, 320, 411, 412, 413
one = explored(Path(sys.argv[1]), after("migrate", "reset"), longest=LONGEST)
print(ways(go(one, LIVES)))
"""


@pytest.mark.thorough
def test_one_seed_finds_the_same_in_any_process(
    shrunk: tuple[Explored, Path], tmp_path: Path
) -> None:
    """Whatever order its sets have, and whatever else is imported: found was that a constant in any
    module changed the lives of a seed.
    """
    tests = Path(__file__).parents[1]
    (program := tmp_path / "elsewhere.py").write_text(ELSEWHERE)
    number = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    said = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "there")], check=True, text=True,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(tests), "PYTHONHASHSEED": number}).stdout
    assert said == f"{ways(shrunk[0])}\n"
    assert "Migrate" in said


def test_when_time_is_up_it_ends_and_keeps_its_coverage(tmp_path: Path) -> None:
    one = explored(tmp_path, Lived(nothing))
    one.search.until = time.monotonic()
    one.search.go()
    assert one.lived.ran == []
    assert one.search.home.all_coverage().possible


@pytest.mark.slow
def test_what_shrinking_a_life_of_twenty_steps_takes_is_bounded(tmp_path: Path) -> None:
    """Where its core is long. Each is a real run: measured were 24 to 309."""
    one = go(explored(tmp_path, after("migrate", "migrate", "shutdown", "start"), longest=20), 60)
    finding = one.findings[0]
    # Five steps would do: hypothesis can end at a life that none of its changes makes shorter.
    assert len(finding["life"]) <= 9
    assert finding["runs"] < 1000


@pytest.mark.parametrize(("verdicts", "state"), [
    (["silent"] * 3, "steady"), (["silent", "pass", "silent"], "flaky"),
    (["silent", "late", "silent"], "flaky"), (["pass"] * 3, "gone"),
])  # fmt: skip
def test_states(verdicts: list[str], state: str) -> None:
    assert state_of(verdicts) == state
