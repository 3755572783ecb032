"""``make bench``: what the harness adds, as ratios measured in one run; a table and bench.json."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.engines import choose
from bootmatrix.errors import EngineError

from . import fw_cfg, nvram
from .cluster import cluster
from .driven import matrix
from .explore import explore
from .load import load
from .meter import Driven, Figure, median_ratio, pairwise, resident
from .report import report as reports

# What takes half an hour.
_ONLY_ALONE = ("load",)
SOURCE, DESTINATION = "debian-bullseye", "debian-sid"
Figures = Iterator[tuple[str, Figure]]


def cells(pairs: int) -> Figures:
    """A cell of the harness against the plain driver, pair by pair, and a worker's memory."""
    for engine, goal in (("bubblewrap", 1.2), ("docker", 1.3)):
        try:
            choose(engine).close()
        except EngineError as error:
            print(f"not measured: {error.message}")
            continue
        builds = SOURCE, DESTINATION, "seabios"
        with Driven("plain", *builds) as plain, Driven(engine, *builds) as harness:
            measured = list(pairwise(harness, plain, pairs))
            for index, what in enumerate(("wall", "cpu")):
                ratio = median_ratio([(one[index], two[index]) for one, two in measured])
                yield f"cell {what}, {engine} / plain", Figure(ratio, goal, "x", pairs)
            whole = statistics.median(one[0] for one, _ in measured)
            yield f"cell wall, {engine}", Figure(whole * 1000, None, "ms", pairs)
            yield f"worker memory, {engine}", Figure(harness.resident(), 120, "MB", 1)


def uefi(pairs: int) -> Figures:
    """A cell with OVMF: two boots of seconds each, to which the harness is to add next to nothing.

    Boots of seconds need no long warm-up.
    """
    builds = SOURCE, DESTINATION, "ovmf-4m"
    with Driven("plain", *builds) as plain, Driven("bubblewrap", *builds) as harness:
        measured = list(pairwise(harness, plain, pairs, warmup=1))
    for index, what in enumerate(("wall", "cpu")):
        ratio = median_ratio([(one[index], two[index]) for one, two in measured])
        yield f"OVMF cell {what}, bubblewrap / plain", Figure(ratio, 1.05, "x", pairs)
    whole = statistics.median(one[0] for one, _ in measured)
    yield "OVMF cell wall, bubblewrap", Figure(whole, None, "s", pairs)


def rates(count: int) -> Figures:
    """Cells a minute with one worker and with two, and what a worker's memory gains meanwhile.

    Counted from the 20th record on: starting pytest and its workers is not a cell's time.
    """
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "same.yaml"

        def rate(workers: int, cells: int) -> tuple[float, float]:
            file.write_text(matrix(SOURCE, DESTINATION, cells))
            records = Path(place) / f"{workers}.jsonl"
            shutil.rmtree(Path(place) / "run", ignore_errors=True)
            command = [*_bootmatrix("run"), str(file), "--engine", "bubblewrap", "--run-dir",
                       f"{place}/run", "--json", str(records), "-n", str(workers)]  # fmt: skip
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as run:
                begun, memory = _at_line(run, records, 20)
                ended, after = _at_line(run, records, cells - 20)
            return 60 * (cells - 40) / (ended - begun), after - memory

        one, _ = rate(1, count // 2)
        two, gained = rate(2, count)
        yield "cells a minute, 1 worker", Figure(one, None, "/min", 1)
        yield "cells a minute, 2 workers", Figure(two, None, "/min", 1)
        yield "2 workers / 1 worker", Figure(two / one, 1.8, "x", 1, at_least=True)
        yield f"memory a worker gains over {count // 2} cells", Figure(gained, 2, "MB", 1)


def _at_line(run: subprocess.Popen[bytes], records: Path, count: int) -> tuple[float, float]:
    """When the file has so many lines, and the largest worker's resident memory then, in MB."""
    while run.poll() is None:
        if records.exists() and records.read_bytes().count(b"\n") >= count:
            break
        time.sleep(0.02)  # a file that another process writes has no event that is worth its code
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    return time.monotonic(), max((resident(int(child)) for child in children), default=0.0)


def sharing() -> Figures:
    """The quickstart matrix with beginnings shared, against without; only cells that come up.

    A cell that is silent waits for its time-out either way, and would hide the difference.
    """
    with tempfile.TemporaryDirectory() as place:

        def per_cell(*options: str) -> float:
            records = Path(place) / "records.jsonl"
            shutil.rmtree(Path(place) / "run", ignore_errors=True)
            begun = time.monotonic()
            _run(["matrices/quickstart.yaml", "-k", "i440fx", "-n", "2", "--engine", "bubblewrap",
                  "--json", str(records), "--run-dir", f"{place}/run", *options])  # fmt: skip
            return (time.monotonic() - begun) / len(records.read_text().splitlines())

        pairs = [(per_cell("--share"), per_cell()) for _ in range(3)]
        for label, index in (("shared", 0), ("not shared", 1)):
            rate = statistics.median(60 / pair[index] for pair in pairs)
            yield f"quickstart, i440fx, {label}", Figure(rate, None, "/min", 3)
        yield "cell, shared / not shared", Figure(median_ratio(pairs), 0.75, "x", 3)


def faces(runs: int) -> Figures:
    """What the command line and the plugin cost before anything runs."""
    python = sys.executable
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "many.yaml"
        file.write_text(_ten_thousand())
        collect = [python, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider",
                   str(file)]  # fmt: skip
        yield "collecting 10,000 cells", Figure(_seconds(collect, 3), 3, "s", 3)
        test = Path(place) / "test_nothing.py"
        test.write_text("def test_nothing(): pass\n")
        bare = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)]
        pairs = []
        for _ in range(runs):
            pairs.append((_once(bare), _once([*bare, "-p", "no:bootmatrix"])))
        added = statistics.median(one - other for one, other in pairs)
        yield "a pytest run that has no cells", Figure(added * 1000, 50, "ms", runs)
        helped = _seconds(_bootmatrix("--help"), runs)
        yield "bootmatrix --help", Figure(helped * 1000, 150, "ms", runs)


def _ten_thousand() -> str:
    """A matrix of 10,000 cells, wide in every direction."""
    hosts = [f"h{number}" for number in range(10)]
    scenarios = [f"s{number}" for number in range(20)]
    return "\n".join((
        "schema: 1", "hosts:", *(f"  {host}: {{qemu: {SOURCE}}}" for host in hosts),
        "scenarios:", *(f"  {name}: [start, migrate, reset]" for name in scenarios),
        "axes:", "  machine: pc-q35-5.2", f"  scenario: [{', '.join(scenarios)}]",
    ))  # fmt: skip


def _bootmatrix(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name("bootmatrix")), *arguments]


def _run(arguments: list[str]) -> None:
    command = _bootmatrix("run", *arguments)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")


def _once(argv: list[str]) -> float:
    begun = time.monotonic()
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - begun


def _seconds(argv: list[str], runs: int) -> float:
    _once(argv)
    return statistics.median(_once(argv) for _ in range(runs))


def main() -> int:
    """Measure, print, write bench.json."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--pairs", type=int, default=30, help="pairs of cells (default: 30)")
    parser.add_argument("--long", action="store_true", help="rates, and memory over 2,000 cells")
    parser.add_argument("parts", nargs="*", help="only these (default: all but load): "
                             "cells uefi rates sharing faces report fw_cfg nvram cluster explore "
                             "load")
    options = parser.parse_args()
    if os.getuid():
        print("make bench needs root: CPU time is counted by control groups", file=sys.stderr)
        return 2
    # A user's Python keeps what it has compiled.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    store = ImageStore()
    store.build([SOURCE, DESTINATION], print)
    parts: dict[str, Callable[[], Figures]] = {
        "cells": lambda: cells(options.pairs),
        "uefi": lambda: uefi(max(3, options.pairs // 3)),
        "rates": lambda: rates(4000 if options.long else 240),
        "sharing": sharing,
        "faces": lambda: faces(7),
        "report": lambda: reports(3),
        "fw_cfg": lambda: fw_cfg.fw_cfg(7),
        "nvram": nvram.figures,
        "cluster": lambda: cluster(3),
        "explore": explore,
        "load": lambda: load(3),
    }
    figures: dict[str, Figure] = {}
    for name, part in parts.items():
        if name not in (options.parts or [each for each in parts if each not in _ONLY_ALONE]):
            continue
        print(f"{name} ...", flush=True)
        for label, figure in part():
            figures[label] = figure
            goal = ""
            if figure.goal is not None:
                sign = ">=" if figure.at_least else "<="
                goal = f"{sign} {figure.goal:g} {figure.unit}  {'met' if figure.met else 'NOT MET'}"
            print(f"  {label:<42} {figure.value:8.2f} {figure.unit:<5} {goal}", flush=True)
    report = {label: figure.to_json() for label, figure in figures.items()}
    Path("bench.json").write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
