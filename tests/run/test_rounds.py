"""A machine that goes round is watched for all of its usual time once, and then given up sooner."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bootmatrix.cell import Cell
from bootmatrix.machines.fake import Script
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.model import Accel, Disk, HostSpec, Verdict
from bootmatrix.policies import Policy
from bootmatrix.records.model import Record
from bootmatrix.run.rounds import Round
from bootmatrix.steps.library import LIBRARY
from bootmatrix.steps.reset import Reset
from bootmatrix.steps.start import Start
from bootmatrix.witnesses.observation import BootObserved, StepObserved
from bootmatrix.witnesses.resets import ENDLESS
from helpers import fakes
from helpers.fakes import MACHINE, FakeRunner

USUAL = 2.0
START, RESET = Start(0), Reset()
ROUND = BootObserved(0, (), None, None, USUAL + 0.01, USUAL, resets=ENDLESS)
LOOPS = Cell((HostSpec("h0", "h0"),), MACHINE, Policy("stock"), LIBRARY["reset"], Disk.IDE,
             seconds=USUAL, patience=USUAL)


def run(directory: Path, cell: Cell = LOOPS, script: Script | None = None) -> Record:
    with FakeRunner(directory, script or Script(rounds={2})) as runner:
        return runner.run(cell)


def seconds(record: Record) -> float:
    return record["boots"][1]["seconds"]


def test_the_same_again_is_given_up_sooner_with_the_same_finding(tmp_path: Path) -> None:
    first, again = run(tmp_path), run(tmp_path)
    assert seconds(first) >= USUAL > seconds(again)
    assert "went_round" not in first
    assert (first["verdict"], first["reason"]) == (again["verdict"], again["reason"])
    assert again["verdict"] == Verdict.SILENT
    assert again["reason"] == ("boot 2 (reset on source): not a byte while the machine was reset "
                               "100 times and more")
    noted = again["went_round"]
    assert (noted["step"], noted["usual"]) == (2, USUAL)
    assert (tmp_path / "kept" / f"{noted['key']}.json").is_file()


def test_what_differs_in_anything_is_watched(tmp_path: Path) -> None:
    run(tmp_path)
    longer = run(tmp_path, replace(LOOPS, seconds=1.5 * USUAL, patience=1.5 * USUAL))
    assert seconds(longer) >= 1.5 * USUAL


def test_a_guest_that_goes_round_no_more_is_up(tmp_path: Path) -> None:
    """What was watched before says nothing of one that is not reset again and again."""
    run(tmp_path)
    assert run(tmp_path, script=Script())["verdict"] == Verdict.PASS
    hangs = run(tmp_path, script=Script(silent={2}))
    assert seconds(hangs) >= USUAL
    assert "reset" not in hangs["reason"].partition("): ")[2]


# ---- what is kept ---------------------------------------------------------------------------


def kept(setup: GuestSetup, places: tuple[Path, Path], boot: BootObserved) -> list[bool]:
    """In which of the places it is known afterwards that the reset of a guest goes round."""
    started = StepObserved(START, 0.1, 0, boot=replace(boot, seconds=0.1, resets=0))
    steps = (START, RESET)
    Round(setup, steps, [started, StepObserved(RESET, boot.seconds, 0, boot=boot)], [], "fake",
          places).keep()
    return [Round(setup, steps, [started], [], "fake", [place]).known() for place in places]


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "of-this-run", tmp_path / "of-all"


@pytest.fixture
def setup(tmp_path: Path) -> GuestSetup:
    return fakes.setup(tmp_path / "images", seconds=USUAL)


def test_a_boot_that_went_round_for_all_of_its_time(
    setup: GuestSetup, places: tuple[Path, Path]
) -> None:
    assert kept(setup, places, ROUND) == [True, True]


def test_what_was_seen_with_kvm_depends_on_the_host(
    setup: GuestSetup, places: tuple[Path, Path]
) -> None:
    assert kept(replace(setup, accel=Accel.KVM), places, ROUND) == [True, False]


@pytest.mark.parametrize("changed", [
    {"seconds": USUAL / 2},  # it was given up itself
    {"resets": ENDLESS - 1},
    {"ended": "killed"},
], ids=["given up", "fewer resets", "ended"])
def test_nothing_else(
    setup: GuestSetup, places: tuple[Path, Path], changed: dict[str, object]
) -> None:
    assert kept(setup, places, replace(ROUND, **changed)) == [False, False]  # type: ignore[arg-type]
