"""Measuring: CPU time of a whole tree of processes, and medians of ratios of pairs."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .driven import cpu_seconds

_V1 = Path("/sys/fs/cgroup/cpuacct")
_V2 = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Figure:
    """One measured figure. ``met`` is None where it has no goal."""

    value: float
    goal: float | None
    unit: str
    runs: int
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the goal is met."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal

    def to_json(self) -> dict[str, object]:
        """What bench.json holds of it."""
        return {"value": self.value, "goal": self.goal, "unit": self.unit, "met": self.met,
                "runs": self.runs}  # fmt: skip


class Group:
    """A control group that counts the CPU time of all that ever ran in it.

    Bubblewrap does not pass on the CPU time of what it has run, so rusage cannot count it.
    Raises OSError where the user may not make control groups.
    """

    def __init__(self, name: str) -> None:
        base = _V1 if (_V1 / "cpuacct.usage").exists() else _V2
        self._place = base / f"bootmatrix-bench-{os.getpid()}-{name}"
        self._place.mkdir()

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command that runs ``argv`` in the group."""
        return ["sh", "-c", f'echo $$ > {self._place}/cgroup.procs && exec "$@"', "sh", *argv]

    def seconds(self) -> float:
        """CPU seconds used so far."""
        old = self._place / "cpuacct.usage"
        return cpu_seconds(old if old.exists() else self._place / "cpu.stat")

    def close(self) -> None:
        """Remove the group, once nothing runs in it."""
        for _ in range(100):
            try:
                self._place.rmdir()
            except OSError:
                time.sleep(0.05)  # what was killed in it is still being reaped; no event tells
            else:
                return


class Driven:
    """A process of benchmarks/driven.py: each ``run`` is one cell."""

    def __init__(self, kind: str, *builds: str) -> None:
        self.group = Group(kind)
        self._process = subprocess.Popen(
            self.group.command([sys.executable, "-m", "benchmarks.driven", kind, *builds]),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip

    def run(self) -> tuple[float, float]:
        """Wall and CPU seconds of one cell; the CPU time of containers counts."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        cpu = self._cpu
        begun = time.monotonic()
        self._process.stdin.write("\n")
        answer = self._process.stdout.readline()
        wall = time.monotonic() - begun
        if not answer:
            raise RuntimeError(f"{self._process.args!r} ended")
        self._cpu = self.group.seconds() + float(answer)
        return wall, self._cpu - cpu

    _cpu = 0.0

    def resident(self) -> float:
        """Its resident memory, in MB."""
        return resident(self._process.pid)

    def __enter__(self) -> Driven:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        with self._process:
            pass
        self.group.close()


def resident(pid: int) -> float:
    """A process's resident memory, in MB; 0 if it has ended."""
    with contextlib.suppress(FileNotFoundError):
        status = Path(f"/proc/{pid}/status").read_text()
        return int((status.partition("VmRSS:")[2].split() or ["0"])[0]) / 1024
    return 0.0


def pairwise(
    one: Driven, other: Driven, pairs: int, warmup: int = 3
) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    """(wall, CPU) of both, in turn, after a warm-up."""
    for _ in range(warmup):
        one.run()
        other.run()
    for index in range(pairs):
        # Who goes first changes, so that neither always runs on a warmer cache.
        if index % 2:
            second = other.run()
            yield one.run(), second
        else:
            first = one.run()
            yield first, other.run()


def median_ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """The median over the pairs of first / second."""
    return statistics.median(first / second for first, second in pairs)
