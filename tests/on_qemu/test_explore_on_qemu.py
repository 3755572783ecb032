"""Exploration of real QEMUs finds what is known, shrinks it, and writes what runs again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.errors import Status

pytestmark = pytest.mark.slow

# As in matrices/quickstart.yaml, but nothing is declared.
MATRIX = """\
schema: 1
hosts: {bullseye: {qemu: debian-bullseye}, sid: {qemu: debian-sid}}
axes:
  source: [sid, bullseye]
  destination: [sid, bullseye]
  machine: pc-q35-5.2
  policy: stock
  scenario: migrate-reset
exclude: [{destination: "=source"}]
"""
CORE = "start on bullseye, reset"
COMMAND = (sys.executable, "-m", "bootmatrix")


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(MATRIX)
    return path


def test_seabios_1_14_0_on_q35_is_found_and_shrunk(
    store: ImageStore, matrix: Path, tmp_path: Path
) -> None:
    """It does not come back from a reset: docs/stock-qemu.md."""
    run_dir = tmp_path / "run"
    with subprocess.Popen(
        [*COMMAND, "explore", str(matrix), "--minutes", "30", "--seed", "7", "-n", "1",
         "--steps", "5", "--run-dir", str(run_dir)], stdout=subprocess.PIPE, text=True) as explored:
        assert explored.stdout is not None
        for line in explored.stdout:
            if line.startswith("finding-") and CORE in line:
                explored.send_signal(signal.SIGINT)
                break
        summary = explored.stdout.read()
    assert explored.returncode == Status.INTERRUPTED, summary
    found = [json.loads(path.read_text()) for path in (run_dir / "findings").glob("*.json")]
    (reset,) = [one for one in found if ", ".join(one["life"]) == CORE]
    assert reset["failure"]["firmware"].startswith("seabios-1.14.0")
    assert (reset["state"], reset["verdicts"]) == ("steady", ["silent"] * 3)
    assert f"{reset['name']}: steady (silent, silent, silent)" in summary
    assert "steps a minute" in summary

    again = subprocess.run(
        [*COMMAND, "run", str(run_dir / "findings" / f"{reset['name']}.yaml"), "-n", "1",
         "--json", str(tmp_path / "again.jsonl"), "--run-dir", str(tmp_path / "again")],
        capture_output=True, text=True, check=False)
    assert again.returncode == Status.RED, again.stdout + again.stderr
    (record,) = map(json.loads, (tmp_path / "again.jsonl").read_text().splitlines())
    assert record["verdict"] == "silent"
    assert record["failed_step"] == 2
