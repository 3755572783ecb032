"""Runs side by side, as processes of their own: no directory and no file is two runs'."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.errors import UserError
from bootmatrix.records.jsonl import RecordWriter, read_records
from bootmatrix.records.merged import key, merged
from bootmatrix.records.merging import load
from bootmatrix.run.directory import RunDirectory, check_is_run, new_name, records_of, run_of
from bootmatrix.run.resume import unique_names
from helpers import forked
from helpers.commands import SCRIPT
from helpers.leavings import wait_for
from helpers.planting import I440FX_STOCK, MATRIX, Q35_GUEST, Q35_STOCK, SILENT, plant
from helpers.records import record as planned_record

M = "matrices/m.yaml"
COMMAND = Path(sys.executable).with_name("bootmatrix")


def test_a_run_is_meant_by_its_directory_its_records_or_as_the_latest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    latest = Path("latest")
    with pytest.raises(UserError, match="nothing is the latest"):
        records_of(latest)
    for name in ("2026-01-02", "2026-01-10", "my-own", "2026-01-11-without-records"):
        (tmp_path / "runs" / name / "cells").mkdir(parents=True)
    for when, name in enumerate(("my-own", "2026-01-02", "2026-01-10")):
        records = tmp_path / "runs" / name / "records.jsonl"
        records.touch()
        os.utime(records, (when, when))
    newest = Path("runs/2026-01-10")
    for given in (latest, newest, newest / "records.jsonl"):
        assert records_of(given) == newest / "records.jsonl"
        assert run_of(given) == newest
    for given in (Path("other.jsonl"), Path("runs")):
        assert records_of(given) == run_of(given) == given
    latest.touch()  # a file of that name is what is meant
    assert records_of(latest) == latest


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "command.py").write_text(SCRIPT)
    (tmp_path / "built.json").write_text('["debian-bullseye", "debian-sid"]')
    return tmp_path


def start(here: Path, *arguments: str, killed: bool = False) -> subprocess.Popen[str]:
    """A run; one that is to be killed is a Python of its own, others are forked."""
    environment = {key: value for key, value in os.environ.items()
                   if not key.startswith(("PYTEST_", "COLUMNS"))}
    forks = [] if killed else [forked.executable(here / "command", here / "command.py")]
    command = [sys.executable, "command.py"] if killed else [str(here / "command")]
    return subprocess.Popen(
        [*command, "run", *(arguments or (M,)), "-n", "1"], cwd=here, pass_fds=forks,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.PIPE,
        env=environment | {"XDG_CACHE_HOME": str(here / "cache")})


def end(run: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = run.communicate(timeout=300)
    return run.returncode, out, err


def ids(path: Path) -> list[str]:
    return [record["cell"]["id"] for record in read_records(path)]


def hanging(here: Path, *arguments: str) -> subprocess.Popen[str]:
    """A run in ``out`` that has come to its last but one cell, and stays there."""
    plant(here, hang=Q35_GUEST)
    run = start(here, M, "--run-dir", "out", *arguments, killed=True)
    wait_for(run, (here / "hanging").exists)
    (here / "plan.json").write_text("{}")
    return run


# ---- the run directory ------------------------------------------------------------------


def test_runs_that_start_together_share_nothing(here: Path) -> None:
    plant(here)
    runs = [start(here) for _ in range(3)]
    for status, out, err in map(end, runs):
        assert status == 0, out + err
        assert "6 cells: 5 passed, 1 known (silent)" in out
    found = sorted((here / "runs").iterdir())
    assert len(found) == 3
    for directory in found:
        assert len(set(ids(directory / "records.jsonl"))) == 6


def test_a_directory_in_which_a_run_goes_on_is_nobody_else_s(here: Path) -> None:
    with hanging(here) as run:
        before = (here / "out" / "records.jsonl").read_bytes()
        others = [start(here, M, *arguments) for arguments in (
            ("--resume", "out"), ("--resume", "out"), ("--run-dir", "out"))]
        for status, out, err in map(end, others):
            assert status == 2, out + err
            assert err.startswith("bootmatrix: out: another run goes on in this directory (")
            assert err.count("\n") == 1
        assert (here / "out" / "records.jsonl").read_bytes() == before
        run.kill()
    assert run.wait() != 0
    # Its lock died with it: one of two resumes goes on, or both do one after the other.
    both = [start(here, M, "--resume", "out") for _ in range(2)]
    statuses = sorted(end(one)[0] for one in both)
    assert statuses in ([0, 0], [0, 2])
    assert len(set(ids(here / "out" / "records.jsonl"))) == 6


def test_pytest_refuses_it_too(pytester: pytest.Pytester) -> None:
    plant(pytester.path)
    out = pytester.path / "out"
    taken = RunDirectory(out)
    taken.claim()
    for option in ("--bootmatrix-run-dir", "--bootmatrix-resume"):
        result = pytester.runpytest(M, option, "out")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: *out: another run goes on in this directory*"])
    taken.release()
    assert not out.exists()  # it was made, and not used
    pytester.runpytest(M, "--bootmatrix-run-dir", "out", "-n", "2").assert_outcomes(
        passed=5, xfailed=1)
    before = (out / "records.jsonl").read_bytes()
    result = pytester.runpytest(M, "--bootmatrix-run-dir", "out")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *out: this directory is not empty (*--resume*"])
    assert (out / "records.jsonl").read_bytes() == before
    # Who only looks needs no claim.
    assert pytester.runpytest(M, "--bootmatrix-run-dir", "out", "--collect-only").ret == 0


def test_a_claim_and_its_end(tmp_path: Path) -> None:
    one, other = RunDirectory(tmp_path / "a" / "b"), RunDirectory(tmp_path / "a" / "b")
    one.claim()
    one.claim()  # its own
    with pytest.raises(UserError, match="another run goes on"):
        other.claim(resume=True)
    (tmp_path / "a" / "b" / "x").touch()
    (tmp_path / "a" / "b" / "records.jsonl").touch()
    (tmp_path / "a" / "b" / "cells").mkdir()
    one.release()
    other.claim(resume=True)
    other.release()
    with pytest.raises(UserError, match="not empty"):
        one.claim()
    with pytest.raises(UserError, match="cannot make the run directory"):
        RunDirectory(tmp_path / "a" / "b" / "x" / "y").claim()
    with pytest.raises(UserError, match="cannot be a run directory"):
        RunDirectory(tmp_path / "a" / "b" / "x").claim()
    with pytest.raises(UserError, match="no such run directory"):
        RunDirectory(tmp_path / "c").claim(resume=True)
    assert len({new_name() for _ in range(20)}) > 18


# ---- records that others touch ----------------------------------------------------------


@pytest.mark.parametrize(("deed", "told", "workers"), [
    ("rm -f out/records.jsonl", "the records have gone: No such file or directory", ()),
    pytest.param("rm -rf out", "the records have gone: No such file or directory", ("-n", "2"),
                 marks=pytest.mark.thorough),
    ("test ! -e out/records.jsonl || : >out/records.jsonl", "were changed by somebody else", ()),
    ("test ! -e out/records.jsonl || { cp out/records.jsonl x; mv x out/records.jsonl; }",
     "were changed by somebody else", ("-n", "2")),
])
def test_records_that_go_meanwhile_make_the_run_red(
    pytester: pytest.Pytester, deed: str, told: str, workers: tuple[str, ...]
) -> None:
    plant(pytester.path, shell=deed)
    result = pytester.runpytest(M, "--bootmatrix-run-dir", "out", *workers)
    assert result.ret == 3
    result.stdout.fnmatch_lines([f"stopped: the rig broke: *out/records.jsonl: *{told}*"])


def test_records_that_go_after_the_last_cell_make_the_run_red(pytester: pytest.Pytester) -> None:
    plant(pytester.path)
    pytester.makeconftest((pytester.path / "conftest.py").read_text() + (
        "import pytest, shutil\n"
        "@pytest.hookimpl(trylast=True)\n"
        "def pytest_runtest_logfinish(nodeid):\n"
        "    if nodeid.endswith('q35-5.2,machine-owned,migrate-reset,ahci'):\n"
        "        shutil.rmtree('out')\n"))
    result = pytester.runpytest(M, "--bootmatrix-run-dir", "out")
    assert result.ret == 3
    result.stdout.fnmatch_lines(["stopped: the rig broke: *the records have gone*"])


def test_the_run_s_own_records_are_no_copy(pytester: pytest.Pytester) -> None:
    plant(pytester.path)
    where = ("--bootmatrix-run-dir=out", "--bootmatrix-records=out/../out/records.jsonl")
    result = pytester.runpytest(M, *where)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *records.jsonl: the run's own records go there (*"])
    assert not (pytester.path / "out").exists()


def test_one_file_of_records_has_one_writer(tmp_path: Path) -> None:
    record = planned_record()
    path = tmp_path / "r.jsonl"
    with RecordWriter(path) as one, RecordWriter(path) as other:
        one.write(record)
        with pytest.raises(UserError, match="another run writes into this file"):
            other.write(record)
        one.write(record)
    assert len(list(read_records(path))) == 2
    with RecordWriter(path, append=True) as more:
        more.write(record)
        more.check()
    assert len(list(read_records(path))) == 3
    for device in ("/dev/null", "/dev/full"):  # no file, and no one's
        with RecordWriter(Path(device)) as one, RecordWriter(Path(device)) as other:
            one.open()
            other.open()
            other.check()


# ---- one session, two matrices ----------------------------------------------------------


def two(here: Path, first: str, second: str, **plan: Any) -> list[str]:
    """Two matrix files with the same ids; the second's cells have another time-out."""
    plant(here, **plan)
    for name, text in ((first, MATRIX), (second, MATRIX.replace("ahci", "ahci\nboot-timeout: 3"))):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(text)
    return [first, second]


@pytest.mark.parametrize(("names", "workers"), [
    (("a.yaml", "b.yaml"), ()),
    pytest.param(("x/m.yaml", "y/m.yaml"), ("-n", "2"), marks=pytest.mark.thorough)])
def test_cells_of_two_matrices_with_one_id_are_two(
    pytester: pytest.Pytester, names: tuple[str, str], workers: tuple[str, ...]
) -> None:
    files = two(pytester.path, *names, verdicts={Q35_GUEST: SILENT})
    result = pytester.runpytest(*files, "--bootmatrix-run-dir", "out", *workers)
    result.assert_outcomes(passed=8, failed=2, xfailed=2)
    result.stdout.fnmatch_lines(["12 cells: 8 passed, 2 known*2 failed (silent)",
                                 "artifacts: out"])
    path = pytester.path / "out" / "records.jsonl"
    found = list(read_records(path))
    places = {record["artifacts"] for record in found}
    assert places == {f"cells/{name}/{record['cell']['id']}" for name in names for record in found}
    assert all((pytester.path / "out" / place / "2-destination").is_dir() for place in places)
    # The run's own output is read: by reports, and by a run that goes on.
    records = merged(load([path]))
    assert len({record["called"] for record in records}) == 12
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-2]))
    before = (pytester.path / "rig.log").read_text().count("run ")
    result = pytester.runpytest(*files, "--bootmatrix-resume", "out", *workers)
    result.assert_outcomes(passed=8, failed=2, xfailed=2)
    assert (pytester.path / "rig.log").read_text().count("run ") == before + 2
    assert len(list(read_records(path))) == 12


def test_reports_keep_them_apart(pytester: pytest.Pytester) -> None:
    files = two(pytester.path, "x/m.yaml", "y/m.yaml")
    pytester.runpytest(*files, "--bootmatrix-run-dir", "out")
    path = pytester.path / "out" / "records.jsonl"
    texts = {
        name: forked.run([COMMAND, "report", path, "--format", name], cwd=pytester.path,
                         env={**os.environ}).stdout
        for name in ("terminal", "markdown", "junit")}
    for heading in ("x/m.yaml, migrate-reset", "y/m.yaml, migrate-reset"):
        assert f"{heading}: the firmware of the last boot" in texts["terminal"]
        assert f"<summary>{heading}: 6 cells" in texts["markdown"]
    assert texts["junit"].count('classname="x/m.yaml"') == 6
    again = forked.run([COMMAND, "gate", "--baseline", path, path], cwd=pytester.path,
                       env={**os.environ})
    assert again.returncode == 0, again.stdout + again.stderr
    assert "12 cells: 12 the same" in again.stdout


def test_a_run_of_one_of_two_is_not_taken_for_the_other_s(pytester: pytest.Pytester) -> None:
    files = two(pytester.path, "x/m.yaml", "y/m.yaml")
    pytester.runpytest(files[0], "--bootmatrix-run-dir", "out")
    result = pytester.runpytest(*files, "--bootmatrix-resume", "out")
    result.stdout.fnmatch_lines(["*it is a run of one m.yaml, and here are several*"])
    pytester.runpytest(*files, "--bootmatrix-run-dir", "both")
    result = pytester.runpytest(files[0], "--bootmatrix-resume", "both")
    result.stdout.fnmatch_lines(["*it is a run of y/m.yaml, not of m.yaml*"])


def test_names_in_a_run_are_unique_and_short() -> None:
    def names(*paths: str) -> list[str]:
        return list(unique_names(map(Path, paths)).values())

    assert names("/w/a.yaml", "/w/b.yaml") == ["a.yaml", "b.yaml"]
    assert names("/w/x/m.yaml", "/w/y/m.yaml", "/w/z.yaml") == ["x/m.yaml", "y/m.yaml", "z.yaml"]
    assert names("/w/m.yaml", "/w/x/m.yaml") == ["w/m.yaml", "x/m.yaml"]
    assert names("/m.yaml", "/x/m.yaml") == ["m.yaml", "x/m.yaml"]
    assert names("/am.yaml", "/m.yaml") == ["am.yaml", "m.yaml"]


def test_shards_are_a_partition_of_two_matrices(pytester: pytest.Pytester) -> None:
    files = two(pytester.path, "a.yaml", "b.yaml")
    found: list[tuple[str, str]] = []
    for part in ("1/2", "2/2"):
        pytester.runpytest(*files, "--bootmatrix-shard", part, "--bootmatrix-records", "r.jsonl")
        found += [(record["matrix"], record["cell"]["id"])
                  for record in read_records(pytester.path / "r.jsonl")]
    assert len(found) == len(set(found)) == 12


def test_shards_are_balanced_by_the_times_of_each_matrix(pytester: pytest.Pytester) -> None:
    files = two(pytester.path, "x/m.yaml", "y/m.yaml")
    pytester.runpytest(*files, "--bootmatrix-run-dir", "both")
    slow = [record | {"seconds": 100.0 if key(record) == ("x/m.yaml", Q35_GUEST) else 1.0}
            for record in read_records(pytester.path / "both" / "records.jsonl")]
    counts = []
    (pytester.path / "times.jsonl").write_text("".join(json.dumps(one) + "\n" for one in slow))
    for part in ("1/2", "2/2"):
        pytester.runpytest(*files, "--bootmatrix-shard", part, "--bootmatrix-records", "r.jsonl",
                           "--bootmatrix-shard-times", "times.jsonl")
        counts.append(len(list(read_records(pytester.path / "r.jsonl"))))
    assert sorted(counts) == [1, 11]


def test_one_cell_of_two_is_run_by_its_command(here: Path) -> None:
    two(here, "x/m.yaml", "y/m.yaml")
    status, out, err = end(start(here, "x/m.yaml", "y/m.yaml", "--cell", I440FX_STOCK))
    assert status == 0, out + err
    assert "2 cells: 2 passed" in out
    status, out, err = end(start(here, "y/m.yaml", "--cell", Q35_STOCK, "--run-dir", "one"))
    assert status == 0, out + err
    assert len(ids(here / "one" / "records.jsonl")) == 1
    assert json.loads((here / "one" / "records.jsonl").read_text())["matrix"] == "y/m.yaml"


# ---- a directory from a stranger -----------------------------------------------------------------


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """What a run leaves, and one that was killed: whatever is in a scratch directory."""
    run_dir = tmp_path / "out"
    (run_dir / "cells" / "m.yaml" / "a,b").mkdir(parents=True)
    (run_dir / "waited").mkdir()
    (run_dir / "shared").mkdir()
    (run_dir / "records.jsonl").touch()
    (run_dir / "latest").symlink_to("cells")  # the user's own
    (run_dir / "scratch-main").mkdir()
    (run_dir / "scratch-main" / "link").symlink_to("/etc")
    os.mkfifo(run_dir / "scratch-main" / "fifo")
    return run_dir


def test_a_directory_of_a_run_is_one(run_dir: Path) -> None:
    check_is_run(run_dir)


@pytest.mark.parametrize("name", [
    "scratch-gw0", "waited/key.json", "shared/key", "cells/n.yaml", "cells/m.yaml/a,b/1-source",
    "cells/scratch-x"])
@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_a_run_goes_on_through_no_link_and_waits_for_no_fifo(
    run_dir: Path, tmp_path: Path, name: str, kind: str
) -> None:
    kept = tmp_path / "victim" / "cell" / "thesis"
    kept.parent.mkdir(parents=True)
    kept.touch()
    planted = run_dir / name
    if kind == "link":
        planted.symlink_to(tmp_path / "victim")
    else:
        os.mkfifo(planted)
    with pytest.raises(UserError, match=f"{name}: is neither a file nor a directory"):
        RunDirectory(run_dir).claim(resume=True)
    assert kept.exists()


def test_a_directory_that_is_deeper_than_a_path_is_no_run_s(run_dir: Path) -> None:
    home = os.open(run_dir / "cells", os.O_RDONLY)
    at = os.dup(home)
    for _ in range(50):
        os.mkdir("d" * 200, dir_fd=at)
        inner = os.open("d" * 200, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)
    os.close(home)
    with pytest.raises(UserError, match="is no directory of a run: File name too long"):
        check_is_run(run_dir)


@pytest.mark.parametrize(("fails", "status"), [(False, 3), (True, 1)])
@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.thorough)])
def test_a_junit_file_that_cannot_be_written_takes_nothing_else_with_it(
    pytester: pytest.Pytester, fails: bool, status: int, workers: tuple[str, ...]
) -> None:
    plant(pytester.path, verdicts={Q35_GUEST: SILENT} if fails else {})
    result = pytester.runpytest(
        M, "--bootmatrix-run-dir", "out", "--junit-xml", "/dev/full", *workers)
    assert result.ret == status
    result.stdout.fnmatch_lines([
        "* cells: *passed*", "artifacts: out",
        "/dev/full: cannot be written: No space left on device"])
