"""bootmatrix report: what is read beside the records, and each format."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.cli import report as module
from bootmatrix.cli.main import main
from bootmatrix.cli.report import black_box, consoles
from bootmatrix.witnesses.observation import BLACK_BOX
from helpers.records import all_pairs, changed, failing, record, write


def test_consoles_are_read_from_the_run_directory_only(tmp_path: Path) -> None:
    secret = tmp_path / "secret" / "1-source"
    secret.mkdir(parents=True)
    (secret / "console.log").write_text("secret")
    run = tmp_path / "run"
    for name, said in (("10-destination", "b"), ("2-source", "a")):
        (run / "cells/x" / name).mkdir(parents=True)
        (run / "cells/x" / name / "console.log").write_text(said)
    told: Any = {"run_dir": str(run), "qemus": [{}]}
    assert consoles(told | {"artifacts": "cells/x"}) == [("2-source", b"a"),
                                                         ("10-destination", b"b")]
    assert consoles(told | {"artifacts": "../secret"}) is None
    assert consoles(told | {"artifacts": "cells/gone"}) is None
    assert consoles(told | {"artifacts": "", "qemus": []}) == []
    # Nor where a link leads: a run's directory can be a stranger's.
    (run / "cells/x/2-source/console.log").unlink()
    (run / "cells/x/2-source/console.log").symlink_to(secret / "console.log")
    (run / "cells/x/3-link").symlink_to(secret)
    (run / "cells/y").symlink_to(secret.parent)
    assert consoles(told | {"artifacts": "cells/x"}) == [("10-destination", b"b")]
    assert consoles(told | {"artifacts": "cells/y"}) == []
    (tmp_path / "also").symlink_to(run)
    assert consoles(told | {"run_dir": str(tmp_path / "also"), "artifacts": "cells/x"}) == [
        ("10-destination", b"b")]


def test_so_are_black_boxes(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    for name in "xyz":
        (tmp_path / "run/cells" / name).mkdir(parents=True)
    (tmp_path / "run/cells/x" / BLACK_BOX).write_text("it loops")
    (tmp_path / "run/cells/y" / BLACK_BOX).symlink_to(secret)
    told: Any = {"run_dir": str(tmp_path / "run"), "black_box": "loops"}
    found = {name: black_box(told | {"artifacts": f"cells/{name}"}) for name in "xyz"}
    assert found == {"x": b"it loops", "y": None, "z": None}
    told["black_box"] = ""
    assert black_box(told | {"artifacts": "cells/x"}) is None


@pytest.mark.parametrize("name", ["terminal", "markdown", "github", "gitlab", "junit"])
def test_each_format_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = write(tmp_path / "r.jsonl", [*all_pairs(), failing()])
    assert main(["report", str(path), "--format", name]) == 0
    assert "bullseye-to-sid" in capsys.readouterr().out


def test_two_runs_are_shown_beside_each_other_and_nothing_is_flaky(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = write(tmp_path / "old.jsonl", all_pairs())
    told = changed(7, verdict="silent", reason="nothing")
    text = write(tmp_path / "new.jsonl", told).read_text()
    new = tmp_path / "new.jsonl"
    new.write_text(text.replace("7.2.22", "7.2.30"))
    assert main(["report", str(old), str(new), "--format", "terminal"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"new failure     {told[7]['cell']['id']}: silent: nothing\n")
    assert f"worse than {old}: 120 cells: 1 new failure, 119 the same" in out
    assert "flaky" not in out
    assert "120 cells: 119 passed, 1 failed" in out
    assert "48.0 s for all cells, one after the other" in out
    assert main(["report", str(old), str(new), "-o", str(tmp_path / "out")]) == 0
    assert "new failure" in (tmp_path / "out/index.html").read_text()
    capsys.readouterr()
    assert main(["report", str(old), str(new), str(new)]) == 2
    assert "these are no repeats" in capsys.readouterr().err
    # Of the same builds they are repeats, and such a cell is flaky.
    new.write_text(text)
    assert main(["report", str(old), str(new), "--format", "terminal"]) == 0
    assert "119 passed, 1 flaky" in capsys.readouterr().out


def test_two_runs_of_other_machine_types_are_told_by_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = write(tmp_path / "old.jsonl", all_pairs())
    new = tmp_path / "new.jsonl"
    new.write_text(write(new, changed(7, verdict="silent", reason="nothing")).read_text().replace(
        "pc-q35-5.2", "pc-q35-10.0").replace("pc-i440fx-5.2", "pc-i440fx-10.0"))
    assert main(["report", str(old), str(new), "--format", "terminal"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("new failure ")
    assert "other build: machine pc-q35-5.2; now pc-q35-10.0 (compared by board): 60 cells" in lines
    assert any("120 cells: 1 new failure, 119 the same" in line for line in lines)
    assert "120 cells: 119 passed, 1 failed (silent)" in lines
    # The page's story of a cell has what it was, too.
    assert main(["report", str(old), str(new), "-o", str(tmp_path / "out")]) == 0


def test_a_parallel_run_took_as_long_as_it_took(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "r.jsonl", [
        one | {"ended": f"2026-11-26T18:00:{10 + number // 30:02}.000+00:00"}
        for number, one in enumerate(all_pairs())])
    assert main(["report", str(path), "--format", "terminal"]) == 0
    assert "cells ran for 1.6 s" in capsys.readouterr().out


@pytest.mark.parametrize("choice", ["auto", "always", "never"])
def test_colour_is_as_one_likes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], choice: str
) -> None:
    path = write(tmp_path / "r.jsonl", [failing()])
    assert main(["report", str(path), "--format", "terminal", "--color", choice]) == 0
    assert ("\x1b[" in capsys.readouterr().out) is (choice == "always")


def test_nothing_is_left_of_a_page_that_could_not_be_written(tmp_path: Path) -> None:
    records = write(tmp_path / "r.jsonl", all_pairs())
    command = Path(sys.executable).with_name("bootmatrix")
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 4; {command} report {records} -o out"], cwd=tmp_path,
        capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "bootmatrix: out/index.html: cannot be written: File too large\n"
    assert list((tmp_path / "out").iterdir()) == []


def test_a_page_replaces_no_link(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = write(tmp_path / "r.jsonl", all_pairs())
    (tmp_path / "index.html").symlink_to(records)
    assert main(["report", str(records), "-o", str(tmp_path)]) == 2
    assert "is a symbolic link (only a regular file" in capsys.readouterr().err
    assert (tmp_path / "index.html").is_symlink()


def test_logs_are_linked_from_where_the_page_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = tmp_path / "r" / "cells" / "a,b c"
    (cell / "2-destination").mkdir(parents=True)
    (cell / "1-source").mkdir()
    for name in ("black-box.txt", "1-source/console.log", "2-destination/qemu.log"):
        (cell / name).write_text("")
    (cell / "1-source" / "qemu.log").symlink_to("/etc/passwd")
    (cell / "out").symlink_to("/etc")
    told: Any = {"artifacts": "cells/a,b c", "run_dir": str(tmp_path / "r")}
    assert module._logs(str(tmp_path / "report"), told) == [
        ("black-box.txt", "../r/cells/a%2Cb%20c/black-box.txt"),
        ("1-source/console.log", "../r/cells/a%2Cb%20c/1-source/console.log"),
        ("2-destination/qemu.log", "../r/cells/a%2Cb%20c/2-destination/qemu.log")]
    assert module._logs(str(tmp_path), told | {"artifacts": "gone"}) == []
    assert module._logs(str(tmp_path), told | {"artifacts": "../out"}) == []


@pytest.mark.parametrize(("variables", "job"), [
    ({}, None),
    ({"GITHUB_SERVER_URL": "https://g", "GITHUB_REPOSITORY": "a/b", "GITHUB_RUN_ID": "7"},
     "https://g/a/b/actions/runs/7"),
    ({"CI_JOB_URL": "https://l/job/1"}, "https://l/job/1"),
    ({"BUILD_URL": "http://j/1/"}, "http://j/1/"),
    ({"BUILD_URL": "javascript:alert(1)"}, None),
    ({"BUILD_URL": "notaurl", "GITHUB_SERVER_URL": "https://g", "GITHUB_REPOSITORY": "a/b",
      "GITHUB_RUN_ID": "7"}, "https://g/a/b/actions/runs/7"),
])
def test_the_job_that_made_the_page(
    variables: dict[str, str], job: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CI_JOB_URL", "BUILD_URL", "GITHUB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert module._job() == job


def test_a_history_tells_the_page_of_earlier_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "old.jsonl", [record()])
    write(tmp_path / "new.jsonl", [record(verdict="silent")])
    for name in ("old", "new"):
        assert main(["history", "add", f"{name}.jsonl", "--label", name, "--db", "h"]) == 0
    trends = module._trends(Path("h"), ())
    assert [row[:2] for row in trends(record())] == [("old", "pass"), ("new", "silent")]
    assert list(trends(record(policy="stock"))) == []
    # The run itself is none of them, not as a copy either.
    copy = record(verdict="silent") | {"run": "runs/x"}
    trends = module._trends(Path("h"), [copy, record(policy="stock")])
    assert [row[:2] for row in trends(record())] == [("old", "pass")]
    assert main(["report", "new.jsonl", "--history", "h"]) == 0
    capsys.readouterr()
    assert main(["report", "new.jsonl", "--history", "none"]) == 2
    assert capsys.readouterr().err == (
        "bootmatrix: none: no such history (bootmatrix history add RECORDS)\n")


def test_where_nobody_said_where_no_link_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "r.jsonl", [failing()])
    (tmp_path / "site").mkdir()
    (tmp_path / "report").symlink_to("site")
    assert main(["report", str(path)]) == 2
    assert capsys.readouterr().err == (
        "bootmatrix: report: is a symbolic link (-o DIR says which is meant)\n")
    assert list((tmp_path / "site").iterdir()) == []
    assert main(["report", str(path), "-o", "site"]) == 0


def test_a_copy_names_the_run_whose_logs_are_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "copy.jsonl", [failing() | {"run": "runs/monday"}])
    main(["report", str(path), "--format", "terminal"])
    assert "artifacts: runs/monday" in capsys.readouterr().out.splitlines()
