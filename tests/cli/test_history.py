"""bootmatrix history: runs are added once, and looked at."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from bootmatrix.cli.main import main
from bootmatrix.records.history import History
from helpers.records import all_pairs, changed, of_two_matrices, record, write


def test_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db, cell = tmp_path / "h.sqlite", all_pairs()[7]["cell"]["id"]
    bad = {"verdict": "silent", "reason": "nothing"}
    for label, records in (("v1", all_pairs()), ("v2", changed(7, **bad)),
                           ("v3", [*changed(7, **bad), record(policy="other")])):
        path = write(tmp_path / f"{label}.jsonl", records)
        when = f"2026-01-0{label[1]}T00:00"
        for _ in range(2):  # added once
            assert main(["history", "add", str(path), "--db", str(db), "--label", label,
                         "--time", when]) == 0
    assert "is there already" in capsys.readouterr().out
    with History(db) as history:
        assert [run[1] for run in history.runs()] == ["v1", "v2", "v3"]
        (change,) = history.changes()
        assert (change.cell, change.label, change.before) == (cell, "v2", "pass")
        assert [one[0] for one in history.flaky()] == [cell]
        assert history.times()["m.yaml", cell] == pytest.approx(0.4)
    assert main(["history", "show", "--db", str(db)]) == 0
    told = capsys.readouterr().out
    assert f"v2         {cell}: pass → silent" in told
    assert main(["history", "show", "--db", str(db), "--cell", cell]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    for path in (tmp_path / "none", write(tmp_path / "text", all_pairs())):
        assert main(["history", "show", "--db", str(path)]) == 2
    with contextlib.closing(sqlite3.connect(tmp_path / "other.sqlite")) as other:
        other.executescript("CREATE TABLE t (x); ")
    assert main(["history", "show", "--db", str(tmp_path / "other.sqlite")]) == 2


def test_history_tells_cells_of_two_matrices_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, db = write(tmp_path / "r.jsonl", of_two_matrices()), str(tmp_path / "h.sqlite")
    cell = record()["cell"]["id"]
    assert main(["history", "add", str(path), "--db", db]) == 0
    capsys.readouterr()
    assert main(["history", "show", "--db", db, "--cell", cell]) == 2
    assert capsys.readouterr().err == (
        f"bootmatrix: {db}: cell {cell} is one of a.yaml and one of b.yaml "
        f"(say which: a.yaml::{cell})\n")
    for matrix, verdict in (("a.yaml", "pass"), ("b.yaml", "silent")):
        assert main(["history", "show", "--db", db, "--cell", f"{matrix}::{cell}"]) == 0
        told = capsys.readouterr().out
        assert told.count("\n") == 1
        assert f" {verdict} " in told
    with History(Path(db)) as history:
        assert history.times() == {("a.yaml", cell): 1.0, ("b.yaml", cell): 9.0}
        assert [one.cell for one in history.changes()] == [f"b.yaml::{cell}"]


@pytest.mark.parametrize("words", [["show"], ["add", "new.jsonl"]])
def test_a_link_at_the_default_name_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "new.jsonl", [record()])
    victim = tmp_path / "victim"
    victim.touch()
    (tmp_path / "bootmatrix-history.sqlite").symlink_to(victim)
    assert main(["history", *words]) == 2
    assert capsys.readouterr().err == (
        "bootmatrix: bootmatrix-history.sqlite: is a symbolic link "
        "(--db FILE says which is meant)\n")
    assert victim.stat().st_size == 0
