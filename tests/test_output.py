"""What a command prints is never its status: output that goes nowhere."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from helpers.commands import finished, place, shell
from helpers.planting import Q35_GUEST, SILENT, plant


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return place(tmp_path)


@pytest.mark.parametrize(("workers", "reader"), [
    ("1", "| true"), pytest.param("2", "| head -n 1", marks=pytest.mark.thorough)])
def test_a_run_that_nobody_reads_is_run_and_judged(here: Path, workers: str, reader: str) -> None:
    plant(here, verdicts={Q35_GUEST: SILENT})
    done = shell(here, f"$B run $M -n {workers} {reader}")
    assert done.returncode == 1, done.stderr
    assert finished(here) == 6
    assert "Traceback" not in done.stderr


def test_a_green_run_that_nobody_reads_is_green(here: Path) -> None:
    plant(here)
    done = shell(here, "$B run $M -v -n 1 | head -n 1")
    assert (done.returncode, done.stderr) == (0, "")
    assert finished(here) == 6


def test_a_gate_is_judged_before_it_is_read(here: Path) -> None:
    from helpers.records import record

    for name, verdict in (("old", "pass"), ("new", "silent")):
        lines = []
        for number in range(600):  # more text than a pipe holds
            one = json.loads(json.dumps(record(verdict=verdict, reason="r" * 100)))
            one["cell"]["id"] += f",{number}"
            lines.append(json.dumps(one) + "\n")
        (here / f"{name}.jsonl").write_text("".join(lines))
    for reader in ("| true", "| head -n 1", ">/dev/full", ">&-"):
        done = shell(here, f"$B gate --baseline old.jsonl new.jsonl {reader}")
        assert done.returncode == 1, reader
        assert bool(done.stderr) is reader.startswith(">"), "what is lost is told"


@pytest.mark.parametrize("command", [
    "list $M", "run --help", *(pytest.param(command, marks=pytest.mark.thorough) for command in (
        "images list", "report --format markdown all.jsonl",
        "gate --baseline all.jsonl all.jsonl")),
])
def test_what_only_prints(here: Path, command: str) -> None:
    from helpers.records import record

    plant(here)
    (here / "all.jsonl").write_text(json.dumps(record()) + "\n")
    done = shell(here, f"$B {command} | true")
    assert (done.returncode, done.stderr) == (0, "")
    for sink, why in ((">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")):
        done = shell(here, f"$B {command} {sink}")
        assert done.returncode == 3
        assert done.stderr == f"bootmatrix: cannot write to standard output: {why}\n"


@pytest.mark.parametrize("sink", [">/dev/full", ">&-"])
def test_a_run_whose_output_is_lost_is_run_all_the_same(here: Path, sink: str) -> None:
    plant(here)
    done = shell(here, f"$B run $M -n 1 {sink}")
    assert done.returncode == 3
    assert "bootmatrix: cannot write to standard output: " in done.stderr
    assert finished(here) == 6


@pytest.mark.parametrize(("workers", "sink"), [
    ("1", "2>/dev/full"), pytest.param("2", "<&- >&- 2>&-", marks=pytest.mark.thorough)])
def test_without_standard_error_the_status_is_what_it_was(
    here: Path, workers: str, sink: str
) -> None:
    plant(here, verdicts={Q35_GUEST: SILENT})
    assert shell(here, f"$B run $M -n {workers} {sink}").returncode == 1
    assert finished(here) == 6
    assert shell(here, f"$B run nowhere.yaml {sink}").returncode == 2


def test_a_pipe_that_does_not_block_loses_nothing(here: Path) -> None:
    (here / "slow.py").write_text(
        "import os, subprocess, sys\n"
        "there, here = os.pipe()\n"
        "os.set_blocking(here, False)\n"
        "with subprocess.Popen(sys.argv[1:], stdout=here) as process:\n"
        "    os.close(here)\n"
        "    text = b''\n"
        "    while piece := os.read(there, 1000): text += piece\n"
        "print(len(text), process.wait())\n")
    whole = len(shell(here, "$B schema").stdout.encode())
    assert shell(here, f"{sys.executable} slow.py $B schema").stdout == f"{whole} 0\n"


@pytest.mark.parametrize("environment", ["PYTHONIOENCODING=ascii", "PYTHONIOENCODING=latin-1",
                                         "LC_ALL=POSIX PYTHONUTF8=0 PYTHONCOERCECLOCALE=0"])
def test_what_an_encoding_lacks_is_an_escape(here: Path, environment: str) -> None:
    plant(here)
    done = shell(here, f"env {environment} $B list $M")
    assert (done.returncode, done.stderr) == (0, "")
    assert "bullseye \\u2192 sid" in done.stdout


@pytest.mark.parametrize("command", ["--help", "--version", "run --help"])
def test_where_all_is_full_help_is_lost_too(here: Path, command: str) -> None:
    assert shell(here, f"$B {command} >/dev/full 2>/dev/full").returncode == 3
