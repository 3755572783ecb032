"""Lives on machines that are none: run in milliseconds, judged as any cell is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bootmatrix.explore.home import Home
from bootmatrix.explore.lives import World
from bootmatrix.explore.rig import Lived
from bootmatrix.explore.search import Search
from bootmatrix.machines.fake import Script
from bootmatrix.run import guest as guest_module
from helpers.explored import life, world
from helpers.fakes import SECONDS, FakeRunner


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GUEST_SECONDS", "ANSWER_SECONDS"):
        monkeypatch.setattr(guest_module, name, SECONDS)


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[FakeRunner]:
    with FakeRunner(tmp_path) as runner:
        yield runner


class FakeRig:
    """Runs cells on fakes."""

    def __init__(self, runner: FakeRunner, run_dir: Path) -> None:
        self.runner, self.run_dir, self.hasty = runner, run_dir, False

    def run(self, cell: Any, known: Any, repeat: int) -> Any:
        self.runner.hasty = self.hasty
        return self.runner.run(cell, known, repeat)


@pytest.fixture
def lived(runner: FakeRunner, tmp_path: Path) -> Lived:
    return Lived(FakeRig(runner, tmp_path), SimpleNamespace(known=()))  # type: ignore[arg-type]


@pytest.fixture
def there(tmp_path: Path) -> World:
    return world(tmp_path / "images")


def test_of_a_life_that_passed_nothing_is_kept(
    lived: Lived, there: World, tmp_path: Path
) -> None:
    cell = life(there, ["start", "migrate", "reset"], 0, 1).cell("life-1")
    record = lived(cell, True, 1)
    assert record["verdict"] == "pass"
    assert record["artifacts"] == ""
    assert not (tmp_path / "cells" / cell.id).exists()
    assert record["fingerprint"]
    assert record["ended"]


def test_one_that_failed_says_at_which_step(
    runner: FakeRunner, lived: Lived, there: World, tmp_path: Path
) -> None:
    runner.script = Script(silent={2})
    cell = life(there, ["start", "replace-disk", "reset", "shutdown"], 0).cell("life-1")
    record = lived(replace(cell, patience=SECONDS), True, 1)
    assert (record["verdict"], record["failed_step"]) == ("silent", 3)
    assert (tmp_path / record["artifacts"]).is_dir()


def test_in_a_hurry_what_goes_round_is_given_up_at_once(
    runner: FakeRunner, lived: Lived, there: World
) -> None:
    runner.script = Script(rounds={2})
    cell = life(there, ["start", "reset"], 0).cell("life-1")
    cell = replace(cell, seconds=10 * SECONDS, patience=10 * SECONDS)
    quick, patient = lived(cell, True, 1), lived(cell, False, 1)
    assert quick["verdict"] == patient["verdict"] == "silent"
    assert quick["reason"] == patient["reason"]
    assert quick["boots"][1]["seconds"] < 5 * SECONDS
    assert patient["boots"][1]["seconds"] >= 10 * SECONDS


def test_a_whole_exploration_on_fakes(
    runner: FakeRunner, lived: Lived, there: World, tmp_path: Path
) -> None:
    """Their second boot is silent, whatever it is: that is what is left of any life."""
    runner.script = Script(silent={2})
    said: list[str] = []
    search = Search(there, SimpleNamespace(path=Path("m.yaml"), known=()), lived,  # type: ignore[arg-type]
                    Home(tmp_path, 0), lambda record: None, said.append, seed=7, longest=6)
    tell = said.append

    def once(line: str) -> None:
        tell(line)
        if line.startswith("finding-"):
            search.until = 0.0

    search.tell = once
    search.go()
    finding = search.home.all_findings()[0]
    assert finding["state"] == "steady"
    assert finding["life"] in (["start on h0", "reset"], ["start on h0", "shutdown", "start on h0"])
