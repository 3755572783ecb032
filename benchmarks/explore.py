"""``make bench ARGS=explore``: how many steps a minute, and how long a life takes to shrink."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .meter import Figure

# Nothing of it fails that is known of, so that nothing is shrunk.
_FINE = """\
schema: 1
hosts: {a: {qemu: debian-trixie}, b: {qemu: debian-sid}}
axes: {machine: pc-i440fx-5.2, scenario: migrate-reset, disk: ide}
exclude: [{destination: "=source"}]
"""
# SeaBIOS 1.14.0 does not come back from a reset there: docs/stock-qemu.md.
_PLANTED = """\
schema: 1
hosts: {a: {qemu: debian-sid}, b: {qemu: debian-bullseye}}
axes: {machine: pc-q35-5.2, policy: [stock, machine-owned], scenario: migrate-reset}
exclude: [{destination: "=source"}]
"""
_MINUTES = 2.0


def explore(workers: int = 2) -> Iterator[tuple[str, Figure]]:
    """Steps a minute with one worker and with several; the first finding, from lives of 20 steps.

    With --steps 66 the first search has lives of 20 steps.
    """
    with tempfile.TemporaryDirectory() as place:
        fine, planted = Path(place) / "fine.yaml", Path(place) / "planted.yaml"
        fine.write_text(_FINE)
        planted.write_text(_PLANTED)
        for jobs in (1, workers):
            said = subprocess.run(
                [*_command(fine, f"{place}/fine-{jobs}"), "--minutes", str(_MINUTES), "-n",
                 str(jobs)], stdout=subprocess.PIPE, text=True, check=False).stdout
            rate = re.search(r"(\d+) steps a minute", said)
            if rate is None:
                raise RuntimeError(said)
            yield f"explore, {jobs} at once", Figure(float(rate[1]), None, "/min", 1)
        yield from _shrunk([*_command(planted, f"{place}/planted"), "-n", "1"],
                           Path(place) / "planted" / "findings")


def _shrunk(command: list[str], findings: Path) -> Iterator[tuple[str, Figure]]:
    with subprocess.Popen([*command, "--minutes", "60", "--steps", "66"], text=True,
                          stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        length = 0
        for line in run.stdout:
            if found := re.search(r"^found: .* a life of (\d+) step", line):
                length = int(found[1])
            if line.startswith("finding-"):
                break
        run.send_signal(signal.SIGINT)
        run.stdout.read()
    told = findings / "finding-1.json"
    if not told.exists():
        raise RuntimeError("what was planted was not found")
    finding = json.loads(told.read_text())
    yield "explore, the first life to fail", Figure(length, None, "steps", 1)
    yield "explore, shrunk to", Figure(len(finding["life"]), None, "steps", 1)
    yield "explore, runs to shrink it", Figure(finding["runs"], None, "runs", 1)
    yield "explore, shrunk in", Figure(finding["seconds"], 120, "s", 1)


def _command(matrix: Path, run_dir: str) -> list[str]:
    # Where QEMU is this user's own process, and has its part of a busy processor.
    return [str(Path(sys.executable).with_name("bootmatrix")), "explore", str(matrix), "--seed",
            "7", "--engine", "bubblewrap", "--run-dir", run_dir]
