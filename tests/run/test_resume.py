"""A run that goes on where an earlier one ended, and one that must stop, with planted cells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.errors import UserError
from bootmatrix.matrix.expansion import load
from bootmatrix.records.jsonl import RecordWriter, read_records
from bootmatrix.run.directory import sweep
from bootmatrix.run.resume import Finished, fingerprint
from bootmatrix.run.runner import Runner
from helpers import forked
from helpers.planting import I440FX_STOCK, MATRIX, Q35_GUEST, Q35_STOCK, SILENT, cell_id, plant
from helpers.records import record as passing

M = "matrices/m.yaml"
OUT = ("--bootmatrix-run-dir", "out")
RESUME = ("--bootmatrix-resume", "out")


def ran(here: Path) -> list[str]:
    log = here / "rig.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [line.removeprefix("run ") for line in lines if line.startswith("run ")]


def ids(path: Path) -> list[str]:
    return [record["cell"]["id"] for record in read_records(path)]


def interrupted(pytester: pytest.Pytester, *arguments: str, **plan: Any) -> pytest.RunResult:
    """A run that ends after its first failure, the fifth of six cells."""
    plant(pytester.path, verdicts={Q35_GUEST: SILENT}, **plan)
    return pytester.runpytest(M, "-x", *OUT, *arguments)


@pytest.mark.parametrize(("given", "words"), [
    ((), ""), (("-k", "guest or machine"), "-k 'guest or machine' "),
    (("-m", "disk(name='ahci')", "--strict-known"),
     """-m 'disk(name='"'"'ahci'"'"')' --strict-known """),
    (("--bootmatrix-cell", Q35_GUEST, "--bootmatrix-repeat", "2"),
     f"--cell={Q35_GUEST} --repeat=2 "),
])
def test_to_go_on_is_to_run_the_same_cells(
    pytester: pytest.Pytester, given: tuple[str, ...], words: str
) -> None:
    done = interrupted(pytester, *given)
    (line,) = [line for line in done.outlines if line.startswith("go on: ")]
    assert line.endswith(f"bootmatrix run {M} {words}--resume out")


def test_repeats_are_counted_as_runs(pytester: pytest.Pytester) -> None:
    done = interrupted(pytester, "--bootmatrix-repeat", "2")
    done.stdout.fnmatch_lines(["not run: 3 runs of 2 cells", f"  {Q35_GUEST}#2"])


def test_the_limit_of_failures_is_for_those_that_have_not_failed(
    pytester: pytest.Pytester,
) -> None:
    """A failure of before counts again: with -x nothing would go on."""
    plant(pytester.path, breaks=Q35_STOCK)
    done = pytester.runpytest(M, "-x", *OUT)
    done.stdout.fnmatch_lines([f"go on: *bootmatrix run {M} -x --resume out"])


def test_the_rest_is_named_and_run_later(pytester: pytest.Pytester) -> None:
    result = interrupted(pytester)
    result.stdout.fnmatch_lines([
        "not run: 1 cell", f"  {cell_id('q35', 'machine-owned')}",
        f"go on: *bootmatrix run {M} --resume out"])
    assert len(ran(pytester.path)) == 5
    result = pytester.runpytest(M, *RESUME, "--bootmatrix-records", "all.jsonl")
    # The failure of before counts, in the outcomes as in the table.
    result.assert_outcomes(passed=4, failed=1, xfailed=1)
    result.stdout.fnmatch_lines(["6 cells: 4 passed, 1 known*1 failed (silent)",
                                 "in * s, * cells a minute; 5 from the earlier run"])
    assert "not run" not in result.stdout.str()
    assert ran(pytester.path)[5:] == [cell_id("q35", "machine-owned")]
    assert len(ids(pytester.path / "out" / "records.jsonl")) == 6
    assert sorted(ids(pytester.path / "all.jsonl")) == sorted(set(ran(pytester.path)))
    # And once more: nothing is left to do.
    pytester.runpytest(M, *RESUME).assert_outcomes(passed=4, failed=1, xfailed=1)
    assert len(ran(pytester.path)) == 6
    assert len(ids(pytester.path / "out" / "records.jsonl")) == 6


@pytest.mark.thorough
def test_workers_take_up_the_same(pytester: pytest.Pytester) -> None:
    interrupted(pytester)
    result = pytester.runpytest(M, *RESUME, "-n", "2")
    result.assert_outcomes(passed=4, failed=1, xfailed=1)
    assert ran(pytester.path)[5:] == [cell_id("q35", "machine-owned")]


def test_a_record_cut_off_in_the_middle_is_left_out(pytester: pytest.Pytester) -> None:
    interrupted(pytester)
    path = pytester.path / "out" / "records.jsonl"
    path.write_bytes(path.read_bytes()[:-100])
    result = pytester.runpytest(M, *RESUME)
    result.stdout.fnmatch_lines([
        "*out/records.jsonl:5: the last record was cut off, and is left out"])
    result.assert_outcomes(passed=4, failed=1, xfailed=1)
    assert ran(pytester.path)[5:] == [Q35_GUEST, cell_id("q35", "machine-owned")]
    assert len(ids(path)) == 6


def test_what_taught_nothing_is_run_again(pytester: pytest.Pytester) -> None:
    plant(pytester.path, verdicts={Q35_GUEST: {"verdict": "error", "reason": "no monitor"}})
    pytester.runpytest(M, *OUT).assert_outcomes(passed=4, failed=1, xfailed=1)
    (pytester.path / "plan.json").write_text("{}")
    pytester.runpytest(M, *RESUME).assert_outcomes(passed=5, xfailed=1)
    assert ran(pytester.path)[6:] == [Q35_GUEST]
    assert sorted(ids(pytester.path / "out" / "records.jsonl")) == sorted(set(ran(pytester.path)))


def test_a_build_that_was_made_anew_is_another(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    from helpers import planting

    interrupted(pytester)
    monkeypatch.setitem(planting.QEMUS, "debian-sid", ("11.1.4", "seabios-1.17.0-2"))
    pytester.runpytest(M, *RESUME).assert_outcomes(passed=4, failed=1, xfailed=1)
    assert len(ran(pytester.path)) == 5 + 6


@pytest.mark.parametrize(("changed", "message"), [
    (MATRIX.replace("pc-q35-5.2, policy", "pc-q35-*, policy"), None),  # known: not the cells
    (MATRIX.replace("pc-i440fx-5.2, ", ""), f"*m.yaml has no cell {I440FX_STOCK}*"),
    (MATRIX.replace("disk: ahci", "disk: ahci\nboot-timeout: 3"), "*has changed: cell *"),
])
def test_another_matrix(pytester: pytest.Pytester, changed: str, message: str | None) -> None:
    interrupted(pytester)
    (pytester.path / M).write_text(changed)
    result = pytester.runpytest(M, *RESUME)
    if message is None:
        result.assert_outcomes(passed=4, failed=1, xfailed=1)
        return
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*out: cannot go on with this run: {message}*"])
    assert len(ran(pytester.path)) == 5


def test_another_file(pytester: pytest.Pytester) -> None:
    interrupted(pytester)
    (pytester.path / "other.yaml").write_text(MATRIX)
    result = pytester.runpytest("other.yaml", *RESUME)
    result.stdout.fnmatch_lines(["*it is a run of m.yaml, not of other.yaml*"])
    result = pytester.runpytest(M, "--bootmatrix-resume", "nowhere")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *nowhere: no such run directory"])


def test_a_run_goes_on_in_a_run_s_directory_only(pytester: pytest.Pytester) -> None:
    plant(pytester.path)
    kept = pytester.path / "scratch-mine" / "thesis"
    kept.parent.mkdir()
    kept.touch()
    (pytester.path / "elsewhere").mkdir()
    (pytester.path / "records.jsonl").touch()  # as by --json records.jsonl
    (pytester.path / "cells").symlink_to("elsewhere")
    for why in ("cells: is a symbolic link: no run has made it (*)",
                ": is no directory of a run, which has*"):
        result = pytester.runpytest(M, "--bootmatrix-resume", ".")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: *{why}"])
        assert kept.exists()
        (pytester.path / "cells").unlink(missing_ok=True)
    assert ran(pytester.path) == []


def test_the_files_of_a_killed_run_are_removed_unless_it_lives(
    pytester: pytest.Pytester, tmp_path: Path
) -> None:
    plant(pytester.path)
    (pytester.path / "out" / "cells").mkdir(parents=True)
    (pytester.path / "out" / "records.jsonl").touch()
    dead = pytester.path / "out" / "scratch-gw0"
    (dead / "1-source").mkdir(parents=True)
    (dead / "1-source" / "memory.bin").write_text("left")
    code = "import sys, os, fcntl; fd = os.open(sys.argv[1], os.O_RDONLY);" \
           "fcntl.flock(fd, fcntl.LOCK_SH); print(flush=True); sys.stdin.read()"
    alive = pytester.path / "out" / "scratch-gw1"
    alive.mkdir()
    with subprocess.Popen([sys.executable, "-c", code, str(alive)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        pytester.runpytest(M, *RESUME, "--collect-only")
        result = pytester.runpytest(M, *RESUME)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: *out: the workers of a run that was killed*"])
        assert alive.exists()
    pytester.runpytest(M, *RESUME).assert_outcomes(passed=5, xfailed=1)
    assert not dead.exists()
    assert not alive.exists()


def test_a_runner_holds_its_scratch(runner: Runner, tmp_path: Path) -> None:
    sweep(tmp_path)
    assert (tmp_path / "scratch-main").exists()


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.thorough)])
def test_a_rig_that_breaks_for_good_stops_the_run(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    plant(pytester.path, breaks=I440FX_STOCK)
    result = pytester.runpytest(M, *OUT, *workers)
    assert result.ret == 3
    out = result.stdout.str()
    # In CI pytest repeats it, uncut, in its short summary.
    assert out.count("\nthe rig broke; nothing was learnt") == 1
    result.stdout.fnmatch_lines(["stopped: the rig broke: docker: the container has ended",
                                 "not run: * cell*"])
    assert len(ran(pytester.path)) <= 1 + len(workers) * 2
    (pytester.path / "plan.json").write_text("{}")
    again = RESUME if (pytester.path / "out").exists() else OUT
    pytester.runpytest(M, *again).assert_outcomes(passed=5, xfailed=1)


@pytest.mark.thorough
def test_a_crashed_worker_costs_its_cell_only(pytester: pytest.Pytester) -> None:
    plant(pytester.path)
    pytester.makeconftest((pytester.path / "conftest.py").read_text() + (
        "import os\n"
        "def pytest_runtest_call(item):\n"
        f"    if {Q35_GUEST!r} in item.nodeid and not os.path.exists('crashed'):\n"
        "        open('crashed', 'w').close()\n"
        "        os.kill(os.getpid(), 9)\n"))
    result = pytester.runpytest_subprocess(M, "-n", "2", *OUT)
    result.assert_outcomes(passed=4, xfailed=1, failed=1)
    result.stdout.fnmatch_lines([f"*crashed while running*{Q35_GUEST}*",
                                 "5 cells: 4 passed, 1 known*",
                                 f"stopped: worker gw? ended by itself*, while it ran {Q35_GUEST}",
                                 "ended without a record: 1 cell", f"  {Q35_GUEST}",
                                 f"go on: *bootmatrix run {M} -n 2 --resume out"])
    pytester.runpytest(M, *RESUME).assert_outcomes(passed=5, xfailed=1)


@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.thorough)])
def test_what_is_not_selected_counts_nowhere(pytester: pytest.Pytester, workers: str) -> None:
    """Table, counts, exit status, copy and JUnit are about the same cells."""
    plant(pytester.path, verdicts={Q35_GUEST: SILENT})
    assert pytester.runpytest(M, *OUT).ret == pytest.ExitCode.TESTS_FAILED
    done = pytester.runpytest(M, *RESUME, "-k", "i440fx", "-n", workers,
                              "--bootmatrix-records", "copy.jsonl", "--junit-xml", "j")
    assert done.ret == pytest.ExitCode.OK
    told = done.stdout.str()
    assert "3 cells: 3 passed" in told
    assert "3 from the earlier run" in told
    assert "silent" not in told
    assert len(ids(pytester.path / "copy.jsonl")) == 3
    assert 'tests="3"' in (pytester.path / "j").read_text()
    assert len(ids(pytester.path / "out" / "records.jsonl")) == 6, "nothing is lost"
    done = pytester.runpytest(M, *RESUME, "-k", "q35", "-n", workers)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    assert "3 cells: 1 passed, 1 known (silent), 1 failed (1 silent)" in done.stdout.str().replace(
        "1 failed (silent)", "1 failed (1 silent)")


# ---- the command line -------------------------------------------------------------------


def test_the_command_line(pytester: pytest.Pytester) -> None:
    from helpers.commands import SCRIPT

    (pytester.path / "built.json").write_text('["debian-bullseye", "debian-sid"]')
    plant(pytester.path, breaks=Q35_STOCK)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items()
                       if not key.startswith(("PYTEST_", "COLUMNS"))}
        return forked.run(["command.py", "run", M, "-n", "1", *arguments], env=environment,
                          cwd=pytester.path, program=SCRIPT)

    done = run("--run-dir", "out")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "not run: 3 cells" in done.stdout
    assert f"run {M} -n 1 --resume out" in done.stdout
    (pytester.path / "plan.json").write_text("{}")
    done = run("--resume", "out")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 cells: 5 passed, 1 known (silent)" in done.stdout
    (pytester.path / "matrices" / "m.yaml").write_text(MATRIX.replace("bullseye:", "old:").replace(
        "source: bullseye", "source: old"))
    done = run("--resume", "out")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "cannot go on with this run" in done.stderr
    done = run("--resume", "out", "--run-dir", "out")
    assert done.returncode == 2
    done = run("--run-dir", "out")
    assert done.returncode == 2
    assert done.stderr.startswith("bootmatrix: out: this directory is not empty (")
    assert "--resume" in done.stderr
    assert done.stderr.count("\n") == 1
    done = run("--resume", "nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "bootmatrix: nowhere: no such run directory\n"


# ---- records in files -------------------------------------------------------------------


def test_a_disk_that_is_full_cuts_no_record(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "records.jsonl"
    record = passing()
    code = (
        "import json, resource, signal, sys\n"
        "from pathlib import Path\n"
        "from bootmatrix.errors import UserError\n"
        "from bootmatrix.records.jsonl import RecordWriter\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)\n"
        "with RecordWriter(Path(sys.argv[1])) as writer:\n"
        "    for _ in range(4):\n"
        "        try:\n"
        "            writer.write(json.loads(sys.argv[2]))\n"
        "        except UserError as error:\n"
        "            print(error)\n")
    assert resource.RLIMIT_FSIZE
    done = subprocess.run([sys.executable, "-c", code, str(path), json.dumps(record),
                           str(5 * len(json.dumps(record)) // 2)],
                          capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{path}: cannot write records: File too large"] * 2
    assert list(read_records(path)) == [record, record]


def test_a_cut_off_line_is_told_and_others_are_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with RecordWriter(path) as writer:
        for reason in ("eins", "zw\u00f6lf"):
            writer.write(passing() | {"reason": reason})
    whole = path.read_bytes()
    for length in range(len(whole) - 2, len(whole) // 2 + 2, -1):
        path.write_bytes(whole[:length])
        told: list[str] = []
        assert [record["reason"] for record in read_records(path, told.append)] == ["eins"]
        assert told == [f"{path}:2: the last record was cut off, and is left out"]
    path.write_bytes(whole[:30] + b"\n" + whole)
    with pytest.raises(UserError, match=r"records\.jsonl:1: no JSON"):
        list(read_records(path))


def test_a_fingerprint_is_of_all_values(tmp_path: Path) -> None:
    def prints(text: str) -> list[str]:
        path = tmp_path / "m.yaml"
        path.write_text(text)
        return [fingerprint(cell) for cell in load(path).cells(lambda name: ())]

    assert prints(MATRIX) == prints(MATRIX)
    assert len(set(prints(MATRIX))) == 6
    slower = prints(MATRIX.replace("disk: ahci", "disk: ahci\nboot-timeout: 3"))
    assert not set(slower) & set(prints(MATRIX))
    (tmp_path / "records.jsonl").touch()
    (tmp_path / "cells").mkdir()
    assert Finished(tmp_path).records == {}
