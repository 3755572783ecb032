"""The command line, as a process of its own, over planted verdicts and a planted image store."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.commands import NOT_RUN, M, bootmatrix, command, ran
from helpers.leavings import wait_for
from helpers.planting import I440FX_STOCK, MATRIX, Q35_GUEST, Q35_STOCK, SILENT, plant


def test_help_is_quick_and_shows_examples() -> None:
    done = subprocess.run([sys.executable, "-X", "importtime", "-m", "bootmatrix.cli.main"],
                          capture_output=True, text=True, check=True)
    loaded = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert {"bootmatrix.cli.main", "argparse"} & loaded
    assert not {"pytest", "pydantic", "rich", "docker", "bootmatrix.matrix.expansion"} & loaded
    done = subprocess.run(["bootmatrix", "run", "--help"], capture_output=True, text=True,
                          check=True, env=os.environ | {"PATH": str(Path(sys.executable).parent)})
    assert 'bootmatrix run matrices/quickstart.yaml -k "q35 and guest-owned" -n 2' in done.stdout
    assert "exit status:" in done.stdout


@pytest.mark.parametrize(("verdicts", "arguments", "status"), [
    ({}, (), 0),
    ({Q35_GUEST: SILENT}, (), 1),
    ({Q35_GUEST: {"verdict": "error", "reason": "broke"}}, (), 3),
    # A finding stands, whatever broke elsewhere.
    ({Q35_GUEST: {"verdict": "error", "reason": "broke"}, I440FX_STOCK: SILENT}, (), 1),
    ({Q35_STOCK: {"verdict": "pass"}}, (), 0),
    ({Q35_STOCK: {"verdict": "pass"}}, ("--strict-known",), 1),
    ({}, ("-k", "no-such-thing"), 2),
    # Nothing was learnt: not green. One cell with a verdict is something.
    ({Q35_GUEST: NOT_RUN}, ("--cell", Q35_GUEST), 2),
    ({Q35_GUEST: NOT_RUN}, (), 0),
    ({Q35_GUEST: NOT_RUN, Q35_STOCK: {"verdict": "error", "reason": "broke"}}, ("-k", "q35"), 3),
    ({}, ("-k", "and and"), 2),
])
def test_exit_status(
    here: Path, verdicts: dict[str, Any], arguments: tuple[str, ...], status: int
) -> None:
    plant(here, verdicts=verdicts)
    done = bootmatrix(here, "run", M, "-n", "1", *arguments)
    assert done.returncode == status, done.stdout + done.stderr


@pytest.mark.parametrize(("arguments", "workers"), [
    (("--cell", Q35_GUEST), 0),
    pytest.param(("-k", "q35", "-n", "9"), 3, marks=pytest.mark.thorough),
    (("--cell", Q35_GUEST, "-n", "9"), 0), (("--cell", Q35_GUEST, "--repeat", "2", "-n", "9"), 2),
    (("-n", "1"), 0),
])
def test_no_more_workers_are_started_than_there_are_cells(
    here: Path, arguments: tuple[str, ...], workers: int
) -> None:
    plant(here)
    done = bootmatrix(here, "run", M, *arguments, "-v")
    assert done.returncode == 0, done.stdout + done.stderr
    ran_in = set(re.findall(r"^\[(gw\d+)\]", done.stdout, re.MULTILINE))
    assert len(ran_in) <= workers
    assert (f"created: {workers}/{workers} workers" in done.stdout) is (workers > 0)


NOTHING = MATRIX + """\
  - when: {machine: pc-q35-9.9}
    verdict: silent
    reason: no such machine
"""
NEVER = MATRIX + """\
  - when: {source.qemu: "9.9"}
    verdict: silent
    reason: no such QEMU
"""


@pytest.mark.parametrize(("matrix", "arguments", "status", "warned"), [
    (MATRIX, ("--strict",), 0, False),
    (NOTHING, (), 0, True),
    (NOTHING, ("--strict", "-k", "q35"), 1, True),
    (NEVER, (), 0, True),
    (NEVER, ("--strict",), 1, True),
    (NEVER, ("--strict", "-k", "q35"), 0, False),  # the cells that are left out may be its
], ids=["none", "told", "strict", "told-by-running", "strict-by-running", "not-all-ran"])
def test_an_entry_that_matches_nothing_is_told_and_red_with_strict(
    here: Path, matrix: str, arguments: tuple[str, ...], status: int, warned: bool
) -> None:
    plant(here, matrix=matrix)
    done = bootmatrix(here, "run", M, "-n", "1", *arguments)
    assert done.returncode == status, done.stdout + done.stderr
    warning = "bootmatrix: warning: matrices/m.yaml:17:5: known[1]: this entry matches no cell\n"
    assert (warning in done.stderr) is warned


def test_a_known_entry_s_link_is_shown_with_it(here: Path) -> None:
    plant(here, matrix=MATRIX + "    link: https://bugs.example/1\n")
    done = bootmatrix(here, "run", M, "-n", "1", "--junit-xml", "j.xml")
    assert "the old firmware hangs at its reset (https://bugs.example/1)" in done.stdout.replace(
        "\n  ", " ")
    assert "reset (https://bugs.example/1)" in (here / "j.xml").read_text()
    assert '<property name="source.qemu" value="5.2.0"' in (here / "j.xml").read_text()


def test_a_run_without_a_verdict_says_why(here: Path) -> None:
    plant(here, verdicts={Q35_GUEST: NOT_RUN, Q35_STOCK: NOT_RUN | {"known": "declared"}})
    done = bootmatrix(here, "run", M, "--cell", Q35_GUEST)
    assert done.returncode == 2
    assert "· n/a, 1 cell: QEMU 11.1.3 has no machine pc-q35-5.2" in done.stdout.splitlines()
    assert "none of these cells can be run: nothing was learnt" in done.stdout.splitlines()
    assert done.stderr == ""
    done = bootmatrix(here, "run", M, "--cell", Q35_GUEST, "--shard", "1/1")
    assert done.returncode == 2, "it is all of it"


def test_run_side_by_side_stops_writes_and_tells(here: Path) -> None:
    plant(here, verdicts={Q35_GUEST: SILENT})
    done = bootmatrix(here, "run", M, "-n", "2", "--json", "all.jsonl", "--junit-xml", "j.xml",
                      "--engine", "bubblewrap", "--run-dir", "out")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert "cells: 6/6, 1 failed, 1 known" in lines
    assert f"failed {Q35_GUEST}" in lines
    assert "6 cells: 4 passed, 1 known (silent), 1 failed (silent)" in lines
    again = [line for line in lines if line.startswith("one cell again: ")]
    assert len(again) == 1
    assert again[0].endswith(f"bootmatrix run {M} --engine bubblewrap --cell {Q35_GUEST}")
    assert lines.count("bringing up nodes...") == 1
    assert "artifacts: out" in lines
    records = [json.loads(line) for line in (here / "all.jsonl").read_text().splitlines()]
    assert len(records) == 6
    assert {record["engine"] for record in records} == {"bubblewrap"}
    assert (here / "j.xml").exists()
    log = (here / "rig.log").read_text()
    assert "close gw0" in log
    assert "close gw1" in log


def test_the_rerun_command_runs_that_cell(here: Path) -> None:
    plant(here)
    done = bootmatrix(here, "run", M, "--cell", Q35_GUEST)
    assert done.returncode == 0
    assert ran(here) == [Q35_GUEST]
    done = bootmatrix(here, "run", M, "--cell", Q35_GUEST.replace("migrate", "migrat"))
    assert done.returncode == 2
    assert done.stderr.startswith("bootmatrix: no such cell: ")
    assert f"near it: {Q35_GUEST}" in done.stderr


def test_x_and_lf_and_arguments_for_pytest(here: Path) -> None:
    plant(here, verdicts={I440FX_STOCK: SILENT})
    assert bootmatrix(here, "run", M, "-n", "1", "-x").returncode == 1
    assert ran(here) == [I440FX_STOCK]
    assert bootmatrix(here, "run", M, "-n", "2", "-x").returncode == 1
    (here / "rig.log").unlink()
    assert bootmatrix(here, "run", M, "-n", "1", "--lf").returncode == 1
    assert ran(here) == [I440FX_STOCK]
    done = bootmatrix(here, "run", M, "-n", "1", "--", "--collect-only")
    assert done.returncode == 0
    assert f"{M}::{Q35_STOCK}" in done.stdout
    assert bootmatrix(here, "list", M, "--", "--collect-only").returncode == 2


@pytest.mark.parametrize("jobs", ["1", pytest.param("2", marks=pytest.mark.thorough)])
@pytest.mark.parametrize("more", [(), ("-v",), ("--junit-xml", "j.xml")])
def test_what_the_last_cells_wait_for_is_told(
    here: Path, jobs: str, more: tuple[str, ...]
) -> None:
    plant(here, waits=[I440FX_STOCK, Q35_STOCK])
    done = bootmatrix(here, "run", M, "-n", jobs, *more)
    assert done.returncode == 0, done.stdout + done.stderr
    told = [line for line in done.stdout.splitlines() if "late guest" in line]
    assert told[0].endswith(" for late guests: a boot is given up after 120 s")
    assert [line.split(" for")[0] for line in told] in (
        ["2 cells wait", "1 cell waits"],  # a worker has both, or each has one
        ["1 cell waits", "2 cells wait"], ["1 cell waits", "1 cell waits"])
    assert "6 cells: 5 passed, 1 known (silent)" in done.stdout
    if "j.xml" in more:
        assert (here / "j.xml").read_text().count("<testcase ") == 6


def test_verbose_names_each_cell(here: Path) -> None:
    plant(here)
    done = bootmatrix(here, "run", M, "-v", "-n", "1")
    assert f"\n{M}::{Q35_GUEST} " in done.stdout
    assert "PASSED" in done.stdout
    assert "\ncells: " not in done.stdout


def test_a_terminal_gets_one_line_that_is_rewritten(here: Path) -> None:
    plant(here, verdicts={Q35_GUEST: SILENT})
    master, slave = pty.openpty()
    with subprocess.Popen(command("run", M, "-n", "1"), cwd=here, stdin=slave, stdout=slave,
                          stderr=slave, env=os.environ | {"COLUMNS": "100"}) as process:
        os.close(slave)
        text = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:  # how Linux tells that the other end of a pty is closed
                break
            text += piece
    os.close(master)
    assert process.returncode == 1
    shown = text.decode()
    for done in range(7):
        assert f"\rcells: {done}/6, " in shown
    assert f"\rfailed {Q35_GUEST}" in shown
    assert "\x1b[" in shown


def test_missing_images_are_built_first(here: Path) -> None:
    plant(here)
    (here / "built.json").write_text("[]")
    done = bootmatrix(here, "run", M, "-n", "1")
    assert done.returncode == 0
    assert done.stdout.splitlines()[:3] == [
        "building 2 missing images, once: debian-bullseye, debian-sid",
        "debian-bullseye: built", "debian-sid: built"]


@pytest.mark.parametrize("chosen", [
    ("--cell", Q35_STOCK), ("-k", "bullseye and stock"),
    ("-m", "source(name='bullseye') and policy(name='stock')"),
])
def test_only_what_the_chosen_cells_need_is_built(here: Path, chosen: tuple[str, str]) -> None:
    plant(here, matrix=MATRIX.replace("source: bullseye", "source: [bullseye, other]").replace(
        "axes:", "  other: {qemu: debian-bookworm}\naxes:"))
    (here / "built.json").write_text("[]")
    done = bootmatrix(here, "run", M, "-n", "1", *chosen)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == (
        "building 2 missing images, once: debian-bullseye, debian-sid")
    assert json.loads((here / "built.json").read_text()) == ["debian-bullseye", "debian-sid"]


def test_images_that_cannot_be_built_are_a_broken_rig(here: Path) -> None:
    plant(here, matrix=MATRIX.replace("debian-sid", "debian-bookworm"))
    done = bootmatrix(here, "run", M)
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        "bootmatrix: mmdebstrap failed", "exit status: 1", "last output:", "no such suite"]
    assert not (here / "rig.log").exists()


@pytest.mark.parametrize("name", ["run", "list"])
@pytest.mark.parametrize(("matrix", "message"), [
    (MATRIX.replace("policy: [stock", "policy: [stck"), f"bootmatrix: {M}:10:"),
    (MATRIX.replace("debian-sid", "debian-potato"),
     f"bootmatrix: {M}:5:15: hosts.sid.qemu: no such QEMU build: 'debian-potato' (in the catal"),
])
def test_a_users_mistake_is_one_line(here: Path, name: str, matrix: str, message: str) -> None:
    plant(here, matrix=matrix)
    done = bootmatrix(here, name, M)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_a_missing_file(here: Path) -> None:
    done = bootmatrix(here, "run", "nope.yaml")
    assert (done.returncode, done.stderr) == (2, "bootmatrix: nope.yaml: no such matrix file\n")


def test_a_missing_file_that_comes_with_bootmatrix(here: Path) -> None:
    """The pages' own examples, in a directory that is no checkout."""
    done = bootmatrix(here, "run", "matrices/quickstart.yaml")
    assert (done.returncode, done.stderr) == (2, (
        "bootmatrix: matrices/quickstart.yaml: no such matrix file "
        "(`bootmatrix matrix quickstart` prints it)\n"))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_ctrl_c_tells_what_was_done(here: Path, name: str) -> None:
    plant(here)
    (here / "conftest.py").write_text((here / "conftest.py").read_text() + (
        "import os, signal\n"
        "def pytest_runtest_logfinish(nodeid):\n"
        f"    if 'q35' in nodeid: os.kill(os.getpid(), signal.{name})\n"))
    done = bootmatrix(here, "run", M, "-n", "1")
    assert done.returncode == 130
    assert "4 cells: 3 passed, 1 known (silent)" in done.stdout
    assert (here / "rig.log").read_text().endswith("close main\n")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_ctrl_c_after_the_last_cell_takes_no_summary_with_it(here: Path, name: str) -> None:
    plant(here)
    (here / "conftest.py").write_text((here / "conftest.py").read_text() + (
        "import os, signal\n"
        "def pytest_sessionfinish():\n"
        f"    os.kill(os.getpid(), signal.{name})\n"))
    done = bootmatrix(here, "run", M, "-n", "1")
    assert "artifacts: " in done.stdout
    assert (done.returncode, done.stderr) == (0, "")
    assert (here / "rig.log").read_text().endswith("close main\n")


def test_ctrl_c_with_workers(here: Path) -> None:
    plant(here, hang=Q35_GUEST)
    with subprocess.Popen(command("run", M, "-n", "2"), cwd=here, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, start_new_session=True) as process:
        wait_for(process, (here / "hanging").exists)
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=300)
    assert process.returncode == 130, output


def test_how_to_go_on_is_said_as_it_is_typed_here(here: Path) -> None:
    plant(here, breaks=Q35_GUEST)
    below = here / "below"
    below.mkdir()
    for name in ("plan.json", "built.json", "command.py"):
        (below / name).symlink_to(here / name)
    done = bootmatrix(below, "run", "../matrices/m.yaml", "-n", "1", "--strict", "-v",
                      "--color", "never", "--", "-x", "--durations=3")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("go on: ")]
    words = line.split()
    given = Path(words[words.index("run") + 1])
    assert (below / given).resolve() == here / "matrices" / "m.yaml"
    # What only the command knows decides its status, too.
    assert words[words.index("run") + 2:words.index("--resume")] == [
        "-n", "1", "-v", "--strict", "--color=never", "--strict-known"]
    assert words[words.index("--resume") + 2:] == ["--", "-x", "--durations=3"]


# ---- output that goes nowhere -----------------------------------------------------------


@pytest.mark.parametrize("what", [pytest.param("run", marks=pytest.mark.thorough), "list"])
def test_a_closed_stderr_changes_nothing(here: Path, what: str) -> None:
    plant(here)
    script = f"{' '.join(map(str, command(what, M, '-k', 'i440fx')))} 2>&-"
    done = subprocess.run(["bash", "-c", script], cwd=here, capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout if what == "run" else "cells" in done.stdout
