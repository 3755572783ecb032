"""Verdicts of a busy machine, and of one that sleeps half-way, against those of a quiet one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bootmatrix.records.jsonl import read_records

from .meter import Figure

LOOPS = 10
"""Busy loops for each processor."""
ASLEEP_SECONDS = 20.0
_MATRIX = "matrices/quickstart.yaml"

Verdicts = dict[tuple[str, int], str]


def load(repeats: int) -> Iterator[tuple[str, Figure]]:
    """The quickstart matrix, some times over: quiet, among busy loops, and put to sleep."""
    quiet, seconds = _verdicts(repeats)
    yield f"{len(quiet)} cells, quiet", Figure(seconds, None, "s", 1)
    for what, loops, asleep in (("among busy loops", LOOPS, 0.0), ("asleep", 0, ASLEEP_SECONDS)):
        with _busy(loops * len(os.sched_getaffinity(0))):
            verdicts, seconds = _verdicts(repeats, asleep)
        yield f"{len(verdicts)} cells, {what}", Figure(seconds, None, "s", 1)
        yield f"false verdicts, {what}", Figure(_differing(quiet, verdicts), 0, "", 1)


def _differing(quiet: Verdicts, other: Verdicts) -> int:
    """How many cells have another verdict than on the quiet machine, or none; they are printed."""
    differing = [about for about in sorted(quiet.keys() | other.keys())
                 if quiet.get(about) != other.get(about)]
    for about in differing:
        print(f"  {about[0]}: {quiet.get(about)} when quiet, now {other.get(about)}", flush=True)
    return len(differing)


@contextlib.contextmanager
def _busy(loops: int) -> Iterator[None]:
    """So many programs that do nothing, and take a processor for it."""
    # Each in a session of its own: the scheduler may share among those first (sched(7), autogroup).
    running = [subprocess.Popen(["sh", "-c", "while :; do :; done"], start_new_session=True)
               for _ in range(loops)]
    try:
        yield
    finally:
        for loop in running:
            loop.kill()
            loop.wait()


def _verdicts(repeats: int, asleep: float = 0.0) -> tuple[Verdicts, float]:
    """(verdicts by cell and repeat, seconds); half-way all stands still for ``asleep`` seconds."""
    with tempfile.TemporaryDirectory() as place:
        records = Path(place) / "records.jsonl"
        command = [str(Path(sys.executable).with_name("bootmatrix")), "run", _MATRIX,
                   "--engine", "bubblewrap", "--repeat", str(repeats), "--json", str(records),
                   "--run-dir", f"{place}/run"]  # fmt: skip
        begun = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as run:
            if asleep:
                while run.poll() is None and _lines(records) < 60 * repeats:
                    time.sleep(0.1)  # a file that another process writes has no event worth it
                _sleep(run.pid, asleep)
            output, _ = run.communicate()
        if run.returncode:
            raise RuntimeError(f"{command}: status {run.returncode}: {output[-4000:].decode()}")
        return {
            (record["cell"]["id"], record.get("repeat", 1)): record["verdict"]
            for record in read_records(records)
        }, time.monotonic() - begun


def _lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def _sleep(ancestor: int, seconds: float) -> None:
    """Stop a process and all below it, as a host that sleeps does, and let them go on."""
    stopped: list[int] = []
    try:
        for _ in range(3):  # what was forked while the others were stopped
            for pid in _family(ancestor):
                if pid not in stopped:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGSTOP)
                        stopped.append(pid)
        time.sleep(seconds)
    finally:
        for pid in reversed(stopped):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _family(ancestor: int) -> Iterator[int]:
    """A process and all below it, itself first."""
    yield ancestor
    for children in Path(f"/proc/{ancestor}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in children.read_text().split():
                yield from _family(int(child))
