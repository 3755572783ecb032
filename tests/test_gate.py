"""Gate, history, merging, shards: what a release and a CI job ask of records."""

from __future__ import annotations

import copy
import json
import random
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
from planting import I440FX_STOCK, Q35_GUEST, plant
from ruamel.yaml import YAML
from test_page import failing
from test_report import all_pairs, record

from harness.cli import main
from harness.errors import UserError
from harness.history import History
from harness.record_files import load
from harness.report.annotations import github, gitlab
from harness.report.compare import baseline, compare
from harness.report.decision import counterexamples, decide
from harness.report.junit import junit
from harness.report.markdown import markdown, which_policy
from harness.report.merged import merged
from harness.report.outcome import Outcome, outcome_of
from harness.shards import Shard

HERE = Path(__file__).parent.parent
Records = list[dict[str, Any]]


def write(path: Path, records: Any) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def gate(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, list[str]]:
    status = main(["gate", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, (captured.out + captured.err).splitlines()


# ---- gate -------------------------------------------------------------------------------------


def changed(index: int, **values: Any) -> Records:
    records = all_pairs()
    records[index] = records[index] | values
    return records


@pytest.mark.parametrize(("old", "new", "kind"), [
    ({}, {"verdict": "silent", "reason": "boot 2: nothing"}, "new failure"),
    ({"verdict": "silent", "reason": "a"}, {"verdict": "silent", "reason": "b"}, "other reason"),
    ({"verdict": "silent", "reason": "a"}, {"verdict": "no-boot", "reason": "a"}, "other reason"),
    ({}, {"verdict": "error", "reason": "engine"}, "rig error"),
    ({}, {"verdict": "silent", "reason": "x", "known": "declared"}, None),
    ({"verdict": "silent", "reason": "x", "known": "declared"},
     {"verdict": "silent", "reason": "x"}, "new failure"),
])
def test_what_is_worse(old: dict[str, Any], new: dict[str, Any], kind: str | None) -> None:
    result = compare(changed(7, **old), changed(7, **new))
    assert result.worse is (kind is not None)
    if kind:
        assert [line for line in result.lines if line.startswith(kind)]


def test_what_is_not_worse() -> None:
    same = {"verdict": "silent", "reason": "nothing on the console within 3.0 s"}
    later = {"verdict": "silent", "reason": "nothing on the console within 5.0 s"}
    assert not compare(changed(7, **same), changed(7, **later)).worse
    fixed = compare(changed(7, **same), all_pairs())
    assert not fixed.worse
    assert fixed.lines[0].startswith("fixed ")


def test_other_firmware_gone_and_new_cells() -> None:
    old, new = all_pairs(), all_pairs()
    new[3]["boots"][1]["console"] = "seabios-9.9"
    gone = new.pop(10)
    new.append(record(policy="stock", machine="pc-q35-9.9"))
    result = compare(old, new)
    assert result.worse
    words = [line.split(" ")[0] for line in result.lines]
    assert words == ["other", "gone", "new"]  # the worst first
    assert gone["cell"]["id"] in result.lines[1]
    assert "seabios-9.9" in result.lines[0]


def test_a_slower_machine_is_no_regression_but_a_slower_cell_is() -> None:
    old = all_pairs()
    new = copy.deepcopy(old)
    for one in new:
        one["seconds"] = 2 * one["seconds"]
    assert compare(old, new, 1.5).lines == []
    new[5]["seconds"] = 8.0
    result = compare(old, new, 1.5)
    assert result.worse
    assert "10.00x as long" in result.lines[0]
    assert "noise unknown" in result.lines[0]
    assert not compare(old, new).worse
    repeats = [one | {"seconds": seconds, "repeat": n} for one in old
               for n, seconds in enumerate((0.1, 4.0))]  # such noise hides it
    assert compare(merged(repeats), new, 1.5).lines == []


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
        (("--baseline", good, cut), "cut off"),
        (("--baseline", good, older), "schema 0; this bootmatrix reads schema 1"),
        (("--baseline", good, other), "n.yaml"),
        (("--baseline", good, good, other), "two matrices"),
        (("--baseline", good, empty), "no records"),
        (("--baseline", good, nonsense), "no JSON"),
        (("--baseline", good, no_id), "has no id"),
        (("--baseline", good, tmp_path / "none.jsonl"), "cannot read"),
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


# ---- history ----------------------------------------------------------------------------------


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
        assert history.times()[cell] == pytest.approx(0.4)
    assert main(["history", "show", "--db", str(db)]) == 0
    told = capsys.readouterr().out
    assert f"v2         {cell}: pass → silent" in told
    assert main(["history", "show", "--db", str(db), "--cell", cell]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    for path in (tmp_path / "none", write(tmp_path / "text", all_pairs())):
        assert main(["history", "show", "--db", str(path)]) == 2
    sqlite3.connect(tmp_path / "other.sqlite").executescript("CREATE TABLE t (x); ")
    assert main(["history", "show", "--db", str(tmp_path / "other.sqlite")]) == 2


# ---- repeats and shards -----------------------------------------------------------------------


def test_repeats_that_differ_are_flaky_and_never_averaged() -> None:
    one, other = record(), record(verdict="silent", reason="nothing")
    for records in ([one, other, one], [other, one, one]):
        (told,) = merged(records)
        assert outcome_of(told) is Outcome.FLAKY
        assert told["flaky"] == {"pass": 2, "silent": 1}
        assert told["verdict"] == "silent"
    assert outcome_of(merged([one, one])[0]) is Outcome.PASSED
    assert compare([one], merged([one, other])).lines[0].startswith("flaky")


def test_repeat_in_a_run(pytester: pytest.Pytester) -> None:
    plant(pytester.path, verdicts={f"{Q35_GUEST}#2": {"verdict": "silent", "reason": "nothing"}})
    result = pytester.runpytest("matrices/m.yaml", "--bootmatrix-repeat", "3", "-k",
                                "guest-owned and q35", "--bootmatrix-records", "r.jsonl")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*flaky (2 pass, 1 silent)*", "1 cell: 1 flaky*"])
    lines = [json.loads(line) for line in (pytester.path / "r.jsonl").read_text().splitlines()]
    assert [line["repeat"] for line in lines] == [1, 2, 3]


def test_shards_are_a_partition_whatever_the_order() -> None:
    ids = [f"cell-{number}" for number in range(500)]
    times = {one: 1.0 + (number % 50 == 0) * 40 for number, one in enumerate(ids)}
    for known in ({}, times):
        parts = [Shard(number, 5).pick(ids, known) for number in range(1, 6)]
        assert sorted(one for part in parts for one in part) == sorted(ids)
        assert [Shard(number, 5).pick(reversed(ids), known) for number in range(1, 6)] == parts
    loads = [sum(times[one] for one in part) for part in parts]
    assert max(loads) / min(loads) < 1.05
    # Without times, a new cell moves no other.
    assert Shard(1, 5).pick([*ids, "new"], {}) - {"new"} == Shard(1, 5).pick(ids, {})


@pytest.mark.parametrize("text", ["", "0/5", "6/5", "1", "a/b", "1/", "/2", "-1/2"])
def test_no_shard(text: str) -> None:
    with pytest.raises(UserError):
        Shard.parse(text)


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


def test_formats_tell_the_failure_and_cannot_be_broken_out_of() -> None:
    bad = failing() | {"reason": "silent: a|b <script> ::error:: %\x1b]]>\x00"}
    records = [*all_pairs(), bad]
    text = markdown(records)
    assert "<script>" not in text
    assert "a\\|b" in text
    assert f"--cell {bad['cell']['id']}" in text
    (line,) = github(records).splitlines()
    assert line.startswith("::error file=matrices/m.yaml,title=bullseye-to-sid%2C")
    (finding,) = json.loads(gitlab(records))
    assert finding["severity"] == "critical"
    assert len(finding["fingerprint"]) == 64
    suite = Xml.fromstring(junit(records))[0]
    assert suite.get("failures") == "1"
    assert suite.get("tests") == str(len(records))
    assert junit(merged([record(), record(verdict="silent")])).count("<failure") == 1


@pytest.mark.parametrize("name", ["terminal", "markdown", "github", "gitlab", "junit"])
def test_each_format_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = write(tmp_path / "r.jsonl", [*all_pairs(), failing()])
    assert main(["report", str(path), "--format", name]) == 0
    assert "bullseye-to-sid" in capsys.readouterr().out


# ---- which policy -----------------------------------------------------------------------------


def test_the_decision_table_counts() -> None:
    records: Records = []
    for policy in ("stock", "machine-owned"):
        for scenario, last in (("migrate-reset", "stays"), ("migrate-restart", "moves")):
            told = record(policy=policy, scenario=scenario)
            told["cell"]["id"] += scenario
            new = "seabios-1.17.0-1"
            moved = policy == "machine-owned" or last == "moves"
            told["boots"][1] |= {"console": new if moved else "seabios-1.14.0-2", "up": True}
            told["steps"] = [
                {"step": "start", "outcome": "ok", "host": "source"},
                {"step": "migrate", "outcome": "completed", "host": "destination",
                 "rom": "seabios-1.14.0-2"},
                *([{"step": "reset", "outcome": "ok", "host": "destination"}]
                  if scenario == "migrate-reset" else [
                      {"step": "shutdown", "outcome": "ok", "host": None},
                      {"step": "start", "outcome": "ok", "host": "destination"}])]
            records.append(told)
    stock, machine = decide(records)
    assert [str(one) for one in stock.counts] == [
        "1 of 1", "1 of 2", "1 of 2", "0 of 1", "not tried"]
    assert [str(one) for one in machine.counts] == [
        "1 of 1", "2 of 2", "0 of 2", "1 of 1", "not tried"]
    assert ("stock", "reset is not restart") in [one[:2] for one in counterexamples([stock])]


def skeleton(page: str) -> list[str]:
    """The page without what is counted."""
    return [line for line in page.splitlines()
            if not line.startswith(("| `", "- `", "Counted over"))]


def test_the_page_on_policies_is_as_it_is_generated() -> None:
    page = (HERE / "docs" / "which-policy.md").read_text()
    assert skeleton(page) == skeleton(which_policy([*all_pairs(), failing()]))
    assert "0 cells" not in page


# ---- examples for CI --------------------------------------------------------------------------


def scripts(name: str) -> list[str]:
    """The shell parts of an example, in order."""
    data = YAML(typ="safe").load(HERE / "examples" / "ci" / name)
    if name.startswith("gitlab"):
        return ["\n".join(data[job]["script"]) for job in ("boot", "judge")]
    return ["\n".join(step["run"] for step in data["jobs"][job]["steps"] if "run" in step)
            for job in ("boot", "judge")]


@pytest.mark.parametrize("name", ["gitlab-ci.yml", "github-actions.yml"])
def test_the_shell_of_the_ci_examples_runs(name: str, tmp_path: Path) -> None:
    """On a small matrix of one real cell, in a directory that has what a checkout has."""
    (tmp_path / ".venv").symlink_to(HERE / ".venv")
    for part in ("images", "matrices", "ci"):
        (tmp_path / part).mkdir()
    (tmp_path / "images/setup.sh").write_text("#!/bin/sh\n")
    (tmp_path / "images/setup.sh").chmod(0o755)
    (tmp_path / "matrices/quickstart.yaml").write_text(
        "schema: 1\nhosts: {sid: {qemu: debian-sid}}\naxes: {machine: pc-i440fx-5.2, disk: ide, "
        "source: sid, policy: [stock, reread], scenario: cold-boot}\n")
    boot, judge = scripts(name)
    summary = tmp_path / "summary.md"
    for number in ("1", "2"):
        sh(boot, tmp_path, CI_NODE_INDEX=number, CI_NODE_TOTAL="2", SHARD=number)
    shards = sorted(tmp_path.glob("runs/shard-*/records.jsonl"))
    sh(shlex.join([".venv/bin/bootmatrix", "gate", "--accept", "--baseline", "ci/baseline.jsonl",
                   *map(str, shards)]), tmp_path)
    sh(judge, tmp_path, GITHUB_STEP_SUMMARY=str(summary))
    assert (tmp_path / "report/index.html").is_file()
    if name.startswith("github"):
        assert "2 cells: 2 passed" in summary.read_text()
    else:
        assert json.loads((tmp_path / "code-quality.json").read_text()) == []


def sh(script: str, where: Path, **variables: str) -> None:
    import os

    done = subprocess.run(["/bin/sh", "-euc", script], cwd=where, text=True, capture_output=True,
                          env={**os.environ, **variables})
    assert done.returncode == 0, done.stdout + done.stderr


def test_baseline_reads_back_as_records(tmp_path: Path) -> None:
    path = write(tmp_path / "b.jsonl", baseline(merged(all_pairs())))
    result = compare(merged(load([path])), merged(all_pairs()))
    assert not result.lines
    assert sys.intern("pc-q35-5.2") in {one["cell"]["machine"] for one in load([path])}
