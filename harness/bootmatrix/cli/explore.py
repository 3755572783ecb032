"""``bootmatrix explore``: random lives of guests over a matrix, to find what nobody wrote down.

What a command needs is imported when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.cli import matrices
from bootmatrix.cli import options as shared
from bootmatrix.cli import run as runs
from bootmatrix.ending import finishing
from bootmatrix.errors import Status, UserError
from bootmatrix.run.options import RUN, SELECTION
from bootmatrix.terminal import echo

if TYPE_CHECKING:
    from bootmatrix.builds.host import Builds
    from bootmatrix.cell import Cell
    from bootmatrix.explore.search import Counts
    from bootmatrix.explore.workers import Workers
    from bootmatrix.matrix.expansion import Matrix

_TAKEN = ("-n", "--engine", "--run-dir")
NOTES = """\
Lives are lists of steps that make sense, on the hosts and axes of the matrix, whose scenarios are
not looked at. A life that fails is shrunk to the shortest that fails in the same way, run three
times, and written as a matrix file into findings/ of the run's directory. What the matrix declares
as known, and what was found before, is passed by. The same command with the same --run-dir goes on.

examples:
  bootmatrix explore matrices/quickstart.yaml --minutes 20 --seed 7
  bootmatrix explore matrices/quickstart.yaml -k i440fx --run-dir runs/mine -n 2
  bootmatrix run runs/mine/findings/finding-1.yaml

exit status: 0 nothing was found; 1 something was; 2 a mistake in what was given; 3 the rig broke;
130 interrupted (with a summary all the same)
"""


def add(commands: shared.Commands) -> None:
    """Add the command to bootmatrix's."""
    parser = commands.add_parser(
        "explore", help="try random lives of guests over a matrix, and shrink what fails",
        allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=NOTES)
    parser.set_defaults(command=_explore)
    parser.add_argument("matrices", metavar="MATRIX", nargs=1, type=Path,
                        help="a matrix file (YAML)")
    shared.add(parser, SELECTION)
    parser.add_argument("--minutes", metavar="N", type=_minutes, default=20.0,
                        help="how long new lives are begun (default: 20); what has failed by then "
                             "is shrunk to its end")
    parser.add_argument("--seed", metavar="N", type=_seed, default=0,
                        help="which lives: with -n 1, the same number, the same lives (default: 0)")
    parser.add_argument("--steps", metavar="N", type=_steps, default=20,
                        help="the longest life (default: 20 steps)")
    shared.add(parser, [option for option in RUN if option.flag in _TAKEN])
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes <= 1e5:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of minutes above 0, up to 100000")
    return minutes


def _seed(text: str) -> int:
    if not (text.isdecimal() and len(text) < 19):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of up to 18 digits")
    return int(text)


def _steps(text: str) -> int:
    if not (text.isdecimal() and len(text) < 4 and 2 <= int(text) <= 100):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 2 to 100")
    return int(text)


def _explore(options: argparse.Namespace) -> int:
    if importlib.util.find_spec("hypothesis") is None:
        raise UserError("hypothesis is not installed, which makes the lives up",
                        hint="pip install 'bootmatrix[explore]'")
    from bootmatrix.builds.host import Builds
    from bootmatrix.builds.image_store import ImageStore

    store = ImageStore()
    with Builds(store) as builds:
        (matrix,) = matrices.read(options, builds)
        cells = matrix.cells(runs.asking(store, builds, matrix))
        if options.keyword or options.marker:
            cells = tuple(matrices.selected(options, [matrix]))
            if not cells:
                raise UserError("no cell matches the expression")
        if options.worker is not None:
            return _work(options, builds, matrix, cells)
        runs.prepare(store, builds, [matrix], cells)
        return _coordinate(options, builds, matrix, cells)


def _coordinate(
    options: argparse.Namespace, builds: Builds, matrix: Matrix, cells: Sequence[Cell]
) -> int:
    """Explore, in this process or in several, and say what came of it."""
    from bootmatrix.explore import home
    from bootmatrix.explore.lives import places_of
    from bootmatrix.explore.rig import world_of
    from bootmatrix.explore.search import Counts
    from bootmatrix.explore.summary import is_red, summary
    from bootmatrix.run.directory import CELLS, RECORDS, RUNS, RunDirectory, new_name, sweep
    from bootmatrix.run.workers import side_by_side

    places, left_out = places_of(cells)
    for line in left_out:
        echo(f"left out: {line}")
    if not places:
        raise UserError("no cell of it has a life that could be made up", file=matrix.path)
    if (why := world_of(builds, cells).nowhere) is not None:
        raise UserError(f"no cell of it can be run: {why}", file=matrix.path)
    jobs = side_by_side() if options.jobs == "auto" else max(1, int(options.jobs))
    options.run_dir = run_dir = options.run_dir or RUNS / new_name()
    directory = RunDirectory(run_dir)
    directory.claim(resume=(run_dir / home.PLACE).is_dir())
    counts = Counts()
    status = Status.INTERRUPTED
    try:
        goes_on = home.check_same(run_dir, {
            "matrix": str(matrix.path.absolute()), "seed": options.seed, "steps": options.steps,
            "the selection": matrices.selection_flags(options)})
        (run_dir / CELLS).mkdir(exist_ok=True)
        (run_dir / RECORDS).touch()
        sweep(run_dir)
        echo(f"{'going on' if goes_on else 'exploring'} with seed {options.seed}, "
             f"{jobs} at once; {run_dir}", flush=True)
        try:
            if jobs == 1:
                status = _alone(options, builds, matrix, cells, counts)
            else:
                status = _together(_workers(options, jobs), counts)
        except KeyboardInterrupt:
            pass
        # An interrupt that Python had ignored somewhere is asked for again, and can come here.
        with finishing():
            where = home.Home(run_dir, 0)
            try:
                findings, coverage = where.all_findings(), where.all_coverage()
                home.write_coverage(run_dir, coverage)
                for line in summary(str(counts), findings, where.seen, counts.again, coverage,
                                    to_its_end=status == Status.GREEN):
                    echo(line)
            finally:
                where.close()
            echo(f"\nartifacts: {run_dir}")
    finally:
        directory.release()
    return Status.RED if status == Status.GREEN and is_red(findings) else status


def _alone(
    options: argparse.Namespace, builds: Builds, matrix: Matrix, cells: Sequence[Cell],
    counts: Counts,
) -> Status:
    from bootmatrix.explore.rig import searching

    def tell(line: str) -> None:
        echo(line, flush=True)

    with searching(options.run_dir, 0, options.engine, builds, matrix, cells, tell) as search:
        search.seed, search.longest, search.counts = options.seed, options.steps, counts
        search.until = time.monotonic() + 60 * options.minutes
        search.go()
    return Status.GREEN


def _workers(options: argparse.Namespace, jobs: int) -> Workers:
    """Processes that run this command, each as one worker of it."""
    from bootmatrix.explore.workers import Workers

    words = [sys.executable, "-m", "bootmatrix", "explore", str(options.matrices[0]),
             *matrices.selection_flags(options), "--minutes", str(options.minutes),
             "--seed", str(options.seed), "--steps", str(options.steps),
             "--run-dir", str(options.run_dir),
             *(["--engine", options.engine] if options.engine else [])]
    return Workers([[*words, "--worker", str(number)] for number in range(jobs)])


def _together(workers: Workers, counts: Counts) -> Status:
    def hear(said: dict[str, object]) -> None:
        if "say" in said:
            echo(str(said["say"]), flush=True)
        if isinstance(done := said.get("counts"), dict):
            counts.add(done)

    with workers:
        broken = workers.hear(hear)
    return Status.RIG_BROKEN if broken else Status.GREEN


def _work(
    options: argparse.Namespace, builds: Builds, matrix: Matrix, cells: Sequence[Cell]
) -> int:
    """Be one worker: what there is to say goes to whoever has started this, as data."""
    from bootmatrix.explore.rig import searching
    from bootmatrix.explore.workers import ends_with_parent

    ends_with_parent()
    with ExitStack() as stack:
        progress: Callable[[str], None] = lambda line: _send(say=line)  # noqa: E731
        search = stack.enter_context(searching(
            options.run_dir, options.worker, options.engine, builds, matrix, cells, progress))
        search.seed, search.longest = options.seed, options.steps
        search.until = time.monotonic() + 60 * options.minutes
        stack.callback(lambda: _send(counts=search.counts.plain))
        search.go()
    return Status.GREEN


def _send(**said: object) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
