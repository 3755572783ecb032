"""bootmatrix explore: what it is given, and what it says, without a QEMU."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.cli import explore
from bootmatrix.cli.main import main
from bootmatrix.errors import Status
from bootmatrix.explore.search import Counts
from bootmatrix.model import Verdict

MATRIX = str(Path(__file__).parents[2] / "matrices" / "quickstart.yaml")


@pytest.mark.parametrize(("words", "told"), [
    (["--minutes", "0"], "'0' is no number of minutes above 0"),
    (["--minutes", "nan"], "'nan' is no number of minutes above 0"),
    (["--seed", "-1"], "'-1' is no whole number"),
    (["--seed", "x"], "'x' is no whole number"),
    (["--steps", "1"], "'1' is no number from 2 to 100"),
    (["-n", "many"], "'many' is neither a number up to 256 nor auto"),
])  # fmt: skip
def test_what_is_no_number(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["explore", MATRIX, *words])
    assert ended.value.code == Status.USER_ERROR
    assert told in capsys.readouterr().err


def told(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a mistake is told in."""
    assert main(["explore", *words]) == Status.USER_ERROR
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_matrix_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "no such matrix file" in told([str(tmp_path / "no.yaml")], capsys)
    assert not list(tmp_path.iterdir())


def test_without_hypothesis_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert told([MATRIX], capsys) == (
        "bootmatrix: hypothesis is not installed, which makes the lives up "
        "(pip install 'bootmatrix[explore]')")


def test_no_cell_is_meant(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    line = told([MATRIX, "-k", "nowhere", "--run-dir", str(run_dir)], capsys)
    assert line == "bootmatrix: no cell matches the expression"
    assert not run_dir.exists()


# ---- with something in the place of what runs ----------------------------------------------------

Deed = Callable[..., Status]


def alone(
    deed: Deed, monkeypatch: pytest.MonkeyPatch, run_dir: Path, *words: str
) -> int:
    """The command with -n 1, where ``deed`` stands in for exploring."""
    monkeypatch.setattr(explore, "_alone", deed)
    return main(["explore", MATRIX, "-n", "1", "-k", "i440fx and stock", "--run-dir", str(run_dir),
                 *words])


def ran(options: Any, builds: Any, matrix: Any, cells: Any, counts: Counts) -> Status:
    counts.lives, counts.steps, counts.seconds = 3, 12, 6.0
    return Status.GREEN


def finds(state: str) -> Deed:
    def deed(options: Any, *rest: Any) -> Status:
        (options.run_dir / "findings").mkdir(exist_ok=True)
        (options.run_dir / "findings" / "finding-1.json").write_text(json.dumps({
            "name": "finding-1", "state": state, "verdicts": [Verdict.SILENT] * 3, "reason": "x",
            "machine": "m", "policy": "p", "life": ["start on a"], "qemus": {}}))
        return Status.GREEN

    return deed


def test_nothing_was_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    assert alone(ran, monkeypatch, run_dir, "--seed", "7") == Status.GREEN
    said = capsys.readouterr().out
    assert said.startswith(f"exploring with seed 7, 1 at once; {run_dir}\n"
                           "3 lives run with 12 steps in 6.0 s, 120 steps a minute; ")
    assert "nothing was found" in said
    assert json.loads((run_dir / "coverage.json").read_text()).keys()


def test_something_was_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert alone(finds("flaky"), monkeypatch, tmp_path / "a") == Status.RED
    assert alone(finds("gone"), monkeypatch, tmp_path / "b") == Status.GREEN


def test_interrupted_it_sums_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*given: Any) -> Status:
        finds("steady")(*given)
        raise KeyboardInterrupt

    assert alone(interrupted, monkeypatch, tmp_path / "run") == Status.INTERRUPTED
    assert "finding-1: steady" in capsys.readouterr().out


def test_the_same_command_goes_on_and_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    assert alone(ran, monkeypatch, run_dir, "--seed", "7") == Status.GREEN
    assert alone(ran, monkeypatch, run_dir, "--seed", "7") == Status.GREEN
    assert "going on with seed 7" in capsys.readouterr().out
    assert alone(ran, monkeypatch, run_dir, "--seed", "8") == Status.USER_ERROR
    assert capsys.readouterr().err == (
        f"bootmatrix: {run_dir}: was begun with seed 7, and not 8 (give another --run-dir)\n")


def test_a_directory_that_is_not_empty_is_no_run_s(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").touch()
    assert alone(ran, monkeypatch, tmp_path) == Status.USER_ERROR
    assert "this directory is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
