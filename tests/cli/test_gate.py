"""Gate, history, merging, shards: what a release and a CI job ask of records."""

from __future__ import annotations

import json
import os
import random
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from bootmatrix.cli.main import main
from bootmatrix.records.merged import merged
from bootmatrix.records.merging import load
from bootmatrix.report.compare import compare
from helpers import forked
from helpers.planting import I440FX_STOCK, MATRIX, Q35_GUEST, SILENT, plant
from helpers.records import all_pairs, changed, write

Records = list[Any]

HERE = Path(__file__).parents[2]
CORPUS = MATRIX.replace("scenario: migrate-reset", "scenario: ping-pong")
"""Stands for matrices/regressions.yaml, whose builds the stand-in for a store does not have."""
UNSUPPORTED = {"verdict": "unsupported", "reason": "QEMU 11.1.3 has no machine pc-q35-5.2"}


def gate(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, list[str]]:
    status = main(["gate", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, (captured.out + captured.err).splitlines()


# ---- gate -------------------------------------------------------------------------------------


def test_lost_coverage_is_worse_than_a_failure_and_named_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = write(tmp_path / "old.jsonl", all_pairs())
    records = [one | UNSUPPORTED | {"boots": []} for one in all_pairs()]
    new = write(tmp_path / "new.jsonl", records)
    status, lines = gate(capsys, "--baseline", old, new)
    assert status == 1
    assert lines[0].startswith(f"lost coverage   {merged(records)[0]['cell']['id']}: unsupported")
    assert lines[-1].startswith("worse than the baseline")
    assert f"{len(records)} lost coverage" in lines[-1]
    # It comes before failures, and a cell that failed before is lost, too.
    known = {"verdict": "silent", "reason": "x", "known": "declared"}
    both = compare(changed(7, **known), [
        one | ([UNSUPPORTED, {"verdict": "silent", "reason": "y"}][index % 2] if index in (7, 8)
               else {}) for index, one in enumerate(all_pairs())])
    assert both.worse
    # What could not be run before is no loss; that it runs now is a gain.
    assert not compare(records, records).worse
    assert not compare(records, all_pairs()).worse


def test_accept_writes_a_stable_reviewable_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base.jsonl"
    records = all_pairs()
    records[0] |= {"verdict": "blocked", "reason": "cannot open /home/me/x after 1.2 s"}
    first_run = write(tmp_path / "a.jsonl", records)
    assert gate(capsys, "--baseline", base, "--accept", first_run)[0] == 0
    first = base.read_text()
    random.Random(1).shuffle(records)
    for one in records:
        one["seconds"] *= 3
    write(tmp_path / "b.jsonl", records)
    assert gate(capsys, "--baseline", base, "--accept", tmp_path / "b.jsonl")[0] == 0
    assert base.read_text() == first
    assert "/home" not in first
    assert "seconds" not in first
    assert "artifacts" not in first
    status, lines = gate(capsys, "--baseline", base, tmp_path / "b.jsonl")
    assert status == 0  # what failed when it was accepted still fails, which is no news
    assert lines[0].startswith("still fails")


def test_a_run_s_own_records_become_no_baseline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run" / "cells").mkdir(parents=True)
    own = write(tmp_path / "run" / "records.jsonl", all_pairs())
    copy = write(tmp_path / "copy.jsonl", all_pairs())
    before = own.read_bytes()
    for base, new in ((own, copy), (tmp_path / "run", copy), (copy, copy)):
        status, lines = gate(capsys, "--baseline", base, "--accept", new)
        assert status == 2
        assert "holds the records of a run" in lines[0]
    assert own.read_bytes() == copy.read_bytes() == before


def test_bad_input_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write(tmp_path / "good.jsonl", all_pairs())
    cut = tmp_path / "cut.jsonl"
    cut.write_text(good.read_text()[:-40])
    older = write(tmp_path / "older.jsonl", [one | {"schema": 0} for one in all_pairs()])
    other = write(tmp_path / "other.jsonl", [one | {"matrix": "n.yaml"} for one in all_pairs()])
    empty = write(tmp_path / "empty.jsonl", [])
    nonsense = tmp_path / "nonsense.jsonl"
    nonsense.write_text("\x7fELF\n")
    no_id = write(tmp_path / "no-id.jsonl", [{"schema": 1, "verdict": "pass", "cell": {}}])
    for arguments, part in (
        (("--baseline", tmp_path / "none.jsonl", good), "no such baseline"),
        (("--baseline", "/dev/null", good), "is no regular file"),
        (("--baseline", good, cut), "cut off"),
        (("--baseline", good, older), "schema 0; this bootmatrix reads schema 1 and 2"),
        (("--baseline", good, other), "n.yaml"),
        (("--baseline", good, good, other), "two matrices"),
        (("--baseline", good, empty), "no records"),
        (("--baseline", good, nonsense), "no JSON"),
        (("--baseline", good, no_id), "it has no cell.id"),
        (("--baseline", good, tmp_path / "none.jsonl"), "cannot be read"),
    ):
        status, lines = gate(capsys, *arguments)
        assert status == 2, part
        assert len(lines) == 1, lines
        assert part in lines[0]
    for path in (older, empty, nonsense, no_id, tmp_path / "none"):
        assert main(["report", str(path), "-o", str(tmp_path / "out")]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    # A run that was killed is still worth a page; what is left out is told.
    assert main(["report", str(cut), "-o", str(tmp_path / "out")]) == 0
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_baseline_replaces_no_more_than_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = write(tmp_path / "new.jsonl", all_pairs())
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(new)
    for name in ("fifo", "link"):
        status, lines = gate(capsys, "--baseline", tmp_path / name, "--accept", new)
        assert status == 2
        assert len(lines) == 1
        assert lines[0].endswith("(only a regular file is replaced)")
    assert (tmp_path / "fifo").is_fifo()
    assert (tmp_path / "link").is_symlink()


def test_a_baseline_of_two_files_of_one_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("a/m.yaml", "b/m.yaml")
    records = [one | {"matrix": f"matrices/{name}", "matrix_name": name}
               for name in names for one in all_pairs()]
    new, base = write(tmp_path / "new.jsonl", records), tmp_path / "base.jsonl"
    assert gate(capsys, "--baseline", base, "--accept", new)[0] == 0
    for _ in range(2):  # one that was accepted over it is as good
        status, lines = gate(capsys, "--baseline", base, new)
        assert (status, lines) == (0, [
            f"not worse than the baseline: {len(records)} cells: {len(records)} the same"])
        assert gate(capsys, "--baseline", base, "--accept", base)[0] == 0


def test_an_expected_upgrade_and_the_forms_of_the_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = write(tmp_path / "old.jsonl", all_pairs())
    text = old.read_text().replace("seabios-1.16.2-1", "seabios-1.16.3-9")
    (new := tmp_path / "new.jsonl").write_text(text)
    status, lines = gate(capsys, "--baseline", old, new)
    assert status == 1
    assert lines[0].startswith("other firmware ")
    upgrade = ("--expect", "seabios-1.16.2-1=seabios-1.16.3-9")
    status, lines = gate(capsys, "--baseline", old, new, *upgrade, "--expect", "x=y")
    assert status == 0
    assert lines[-2:] == ["expected, and not seen: x=y",
                          "not worse than the baseline: 120 cells: 120 the same; 1.00x the time"]
    for name, beginning in (("json", "{"), ("html", "<!doctype html>"), ("junit", "<?xml"),
                            ("markdown", "### ✓")):
        status, lines = gate(capsys, "--baseline", old, new, *upgrade, "--format", name)
        assert status == 0
        assert lines[0].startswith(beginning)
    with pytest.raises(SystemExit) as ended:
        gate(capsys, "--baseline", old, new, "--expect", "seabios")
    assert ended.value.code == 2
    assert "is not OLD=NEW" in capsys.readouterr().err


# ---- history ----------------------------------------------------------------------------------


# ---- repeats and shards -----------------------------------------------------------------------


def test_repeat_in_a_run(pytester: pytest.Pytester) -> None:
    plant(pytester.path, verdicts={f"{Q35_GUEST}#2": {"verdict": "silent", "reason": "nothing"}})
    result = pytester.runpytest("matrices/m.yaml", "--bootmatrix-repeat", "3", "-k",
                                "guest-owned and q35", "--bootmatrix-records", "r.jsonl")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*flaky (2 pass, 1 silent)*", "1 cell: 1 flaky*"])
    lines = [json.loads(line) for line in (pytester.path / "r.jsonl").read_text().splitlines()]
    assert [line["repeat"] for line in lines] == [1, 2, 3]


def test_shards_of_a_run_merge(pytester: pytest.Pytester) -> None:
    plant(pytester.path)
    for number in (1, 2):
        pytester.runpytest("matrices/m.yaml", "--bootmatrix-shard", f"{number}/2",
                           "--bootmatrix-records", f"{number}.jsonl")
    parts = [load([pytester.path / f"{number}.jsonl"]) for number in (1, 2)]
    ids = [{one["cell"]["id"] for one in part} for part in parts]
    assert not ids[0] & ids[1]
    both = merged(load([pytester.path / "1.jsonl", pytester.path / "2.jsonl"]))
    assert len(both) == 6
    assert I440FX_STOCK in {one["cell"]["id"] for one in both}


# ---- formats ----------------------------------------------------------------------------------


# ---- which policy -----------------------------------------------------------------------------


# ---- examples for CI --------------------------------------------------------------------------


def scripts(name: str) -> list[str]:
    """The shell parts of an example, in order, each as the runner starts it."""
    data = YAML(typ="safe").load(HERE / "examples" / "ci" / name)
    if name.startswith("gitlab"):
        return ["\n".join(data[job]["script"]) for job in ("boot", "judge")]
    return ["\n".join(f"( {step['run']}\n)" for step in data["jobs"][job]["steps"] if "run" in step)
            for job in ("boot", "judge")]


@pytest.fixture
def checkout(here: Path) -> Path:
    """What the scripts find: a checkout whose cells end as planted, and nothing else."""
    plant(here, verdicts={Q35_GUEST: SILENT})
    for part in ("ci", ".venv/bin"):
        (here / part).mkdir(parents=True)
    (here / "ci/setup.sh").write_text("#!/bin/sh\n")
    (here / "ci/setup.sh").chmod(0o755)
    (here / "matrices/mine.yaml").write_text(MATRIX)
    (here / "matrices/regressions.yaml").write_text(CORPUS)
    return here


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["gitlab-ci.yml", "github-actions.yml"])
def test_the_shell_of_the_ci_examples_is_green_on_an_accepted_failure_and_red_on_a_new_one(
    name: str, checkout: Path
) -> None:
    boot, judge = scripts(name)
    for number in ("1", "2"):
        assert sh(boot, checkout, CI_NODE_INDEX=number, CI_NODE_TOTAL="2", SHARD=number) == 0
    shards = [".venv/bin/bootmatrix", "gate", "--baseline", "ci/baseline.jsonl",
              *(f"runs/shard-{number}" for number in (1, 2))]
    assert sh(shlex.join([*shards, "--accept"]), checkout) == 0
    assert sh(judge, checkout, GITHUB_STEP_SUMMARY="summary.md") == 0
    assert (checkout / "report/index.html").is_file()
    place = checkout if name.startswith("gitlab") else checkout / "report"
    told = (place / "cells.xml").read_text()
    for version in ('"source.qemu" value="5.2.0"', '"destination.firmware" value="seabios-1.17'):
        assert version in told
    assert 'tests="12" failures="0"' in (place / "gate.xml").read_text()
    if name.startswith("github"):
        assert "### ✓ not worse than the baseline" in (checkout / "summary.md").read_text()
    else:
        (found,) = json.loads((checkout / "code-quality.json").read_text())
        assert Q35_GUEST in found["description"]

    base = checkout / "ci/baseline.jsonl"  # in which it still passed
    base.write_text(base.read_text().replace('"verdict": "silent", "reason": "boot 2',
                                             '"verdict": "pass", "reason": "boot 2'))
    assert sh(judge, checkout, GITHUB_STEP_SUMMARY="summary.md") == 1
    assert 'tests="12" failures="1"' in (place / "gate.xml").read_text()


@pytest.mark.slow
def test_the_set_up_of_the_ci_examples(tmp_path: Path) -> None:
    """Programs are apt's to install: a stand-in notes what it is asked for."""
    apt = tmp_path / "stand-ins" / "apt-get"
    apt.parent.mkdir()
    apt.write_text(f"#!/bin/sh\necho \"$*\" >>{shlex.quote(str(tmp_path / 'asked'))}\n")
    apt.with_name("sudo").write_text("#!/bin/sh\nexec \"$@\"\n")
    for stand_in in apt.parent.iterdir():
        stand_in.chmod(0o755)
    (tmp_path / "ci").mkdir()
    (tmp_path / "ci" / "requirements.txt").write_text("# nothing else\n")
    path = f"{apt.parent}:/usr/bin:/bin"
    assert sh(str(HERE / "examples/ci/setup.sh"), tmp_path, PATH=path) == 0
    assert (tmp_path / ".venv/bin/pip").exists()
    assert {"mmdebstrap", "bubblewrap", "nasm"} <= {*(tmp_path / "asked").read_text().split()}
    (tmp_path / "ci" / "requirements.txt").write_text("./no-such-package\n")
    assert sh(str(HERE / "examples/ci/setup.sh"), tmp_path, PATH=path) != 0


@pytest.mark.parametrize("name", [
    "gitlab-ci.yml", pytest.param("github-actions.yml", marks=pytest.mark.thorough)])
def test_a_ci_job_whose_rig_broke_is_red(name: str, checkout: Path) -> None:
    (checkout / "plan.json").write_text(json.dumps({"images": "mmdebstrap failed"}))
    boot, _ = scripts(name)
    status = sh(boot, checkout, CI_NODE_INDEX="1", CI_NODE_TOTAL="1", SHARD="1")
    assert status != 0


def sh(script: str, where: Path, **variables: str) -> int:
    """Its exit status, in an environment with no more in it than a runner's has."""
    (where / "home").mkdir(exist_ok=True)
    program, forks = where / "command.py", []
    if program.exists():
        forks.append(forked.executable(where / ".venv/bin/bootmatrix", program))
    done = subprocess.run(["/bin/sh", "-euc", script], cwd=where, text=True, capture_output=True,
                          env={"PATH": "/usr/bin:/bin", "HOME": str(where / "home")} | variables,
                          pass_fds=forks)
    print(done.stdout + done.stderr)  # shown where the test fails
    return done.returncode
