"""``bootmatrix run``: run the cells of matrices by pytest, and show the table.

What a command needs is imported when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.cli import matrices
from bootmatrix.cli import options as shared
from bootmatrix.cli.images import build_missing
from bootmatrix.errors import Status, UserError
from bootmatrix.model import SavedSource
from bootmatrix.run.directory import records_of, run_of
from bootmatrix.run.options import RUN
from bootmatrix.run.workers import side_by_side
from bootmatrix.terminal import echo

if TYPE_CHECKING:
    from bootmatrix.builds.host import Builds
    from bootmatrix.builds.image_store import ImageStore
    from bootmatrix.cell import Cell
    from bootmatrix.matrix.expansion import MachinesOf, Matrix
    from bootmatrix.model import HostSpec

NOTES = """\
The matrix is run by pytest: -k, -m, -x, --lf mean what they mean there, and what stands after
-- is handed to pytest as it is. `pytest MATRIX` runs the very same cells.

examples:
  bootmatrix run matrices/quickstart.yaml -k "q35 and guest-owned" -n 2
  bootmatrix run matrices/quickstart.yaml -m "machine(name='pc-q35-5.2') and not policy(name='stock')"
  bootmatrix run matrices/quickstart.yaml --cell bullseye-to-sid,pc-q35-5.2,stock,migrate-reset,ahci
  bootmatrix run matrices/quickstart.yaml --json records.jsonl -- --maxfail 3
  bootmatrix run matrices/quickstart.yaml --qemu head=../qemu/build --firmware test=out/bios.bin \\
      --host head/test
  bootmatrix run matrices/quickstart.yaml --resume runs/2026-11-24T14-08-36-b27f

exit status: 0 all as the policies promise, or known; 1 a cell failed; 2 a mistake in what was
given, or no cell of it can be run; 3 the rig broke, nothing was learnt, or nothing could be told;
130 interrupted. It does not depend on who reads the output: behind `| head` it is the same.
"""  # noqa: E501
_NONE_SELECTED = 5  # pytest.ExitCode.NO_TESTS_COLLECTED


def add(commands: shared.Commands) -> None:
    """Add the command to bootmatrix's."""
    parser = commands.add_parser(
        "run", help="run the cells of a matrix and show the table", allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog=NOTES,
        usage="%(prog)s MATRIX... [options] [-- PYTEST ...]")
    matrices.add(parser)
    add_options(parser)
    parser.set_defaults(command=run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what a run can be told beside its matrices, and cells of them."""
    parser.set_defaults(pytest_arguments=[])
    shared.add(parser, RUN)
    matrices.add_strict(parser, "as --strict-known, and red where an entry of exclude, include or "
                                "known matches no cell; else it is a warning")
    parser.add_argument("-v", action="store_true", dest="verbose",
                        help="one line for each cell instead of the progress line")


def run(options: argparse.Namespace) -> int:
    """Run the cells of ``options.matrices``; the command's exit status."""
    from bootmatrix.builds.host import Builds
    from bootmatrix.builds.image_store import ImageStore

    if options.resume is not None:
        options.resume = run_of(options.resume)
    if options.shard_times is not None:
        options.shard_times = records_of(options.shard_times)
    _check_shard(options)
    _check_cluster(options)
    _check_expressions(options)
    store = ImageStore()
    builds = Builds(store)  # holds what it has made ready until this process ends
    read = matrices.read(options, builds)
    _check_run_directory(options)
    _check_outputs(options)
    options.strict_known |= options.strict
    cells = [cell for matrix in read for cell in matrix.cells(asking(store, builds, matrix))]
    idle = matrices.warn_of_idle(
        error for matrix in read for error in matrix.idle(asking(store, builds, matrix)))
    check_cells(options.cell, cells)
    if options.cluster is not None and any(
            isinstance(host.qemu, SavedSource) for cell in cells for host in cell.hosts):
        raise UserError("a saved guest goes on on this machine", hint="run without --cluster")
    _check_resume(options, read, builds.machines)
    if options.keyword or options.marker:
        cells = matrices.selected(options, read)
    cells = [cell for cell in cells if not options.cell or cell.id in options.cell]
    prepare(store, builds, read, cells)

    from bootmatrix.plugin.progress import ProgressReporter
    from bootmatrix.plugin.session import run_pytest

    reporter = ProgressReporter(silent=options.verbose)
    own = [*(["-n", options.jobs] if options.jobs != "auto" else []),
           *["-v"] * options.verbose, *["--strict"] * options.strict,
           *([f"--color={options.color}"] if options.color != "auto" else [])]
    code = run_pytest(_pytest_arguments(options, len(cells)), read, reporter, own,
                      options.pytest_arguments)
    none = code == _NONE_SELECTED and not reporter.cells
    if none and options.shard and matrices.selected(options, read):
        echo("no cell falls into this shard")
        return Status.GREEN
    if none and (options.keyword or options.marker):
        _complain("no cell matches the expression")
    for matrix in read:
        ran = reporter.cells.get(os.path.abspath(matrix.path), {})  # noqa: PTH100
        if ran.keys() == {cell.id for cell in matrix.cells(builds.machines)}:
            idle |= matrices.warn_of_idle(matrix.idle_known(ran.values()))
    status = reporter.status(code)
    if status == Status.GREEN and idle and options.strict:
        _complain("an entry that matches nothing is red with --strict")
        return Status.RED
    return status


def _complain(text: str) -> None:
    echo(f"bootmatrix: {text}", file=sys.stderr)


def _pytest_arguments(options: argparse.Namespace, cells: int) -> list[str]:
    """What the command's options mean to pytest, for so many cells."""
    words = [*map(str, options.matrices)]
    if options.verbose:
        words.append("-v")
    else:
        # The plugin's own summary lists what -r would.
        words += ["-q", "--no-header", "-rN", "-o", "console_output_style=classic"]
    words += ["-W", "ignore::bootmatrix.plugin.collection.IdleEntry"]  # told by us, once
    if options.color != "auto":
        words.append(f"--color={'yes' if options.color == 'always' else 'no'}")
    # A worker takes as long to start as some cells take to run.
    jobs = side_by_side() if options.jobs == "auto" else int(options.jobs)
    jobs = min(jobs, cells * options.repeat)
    options.jobs = jobs if jobs > 1 and options.cluster is None else None
    words += matrices.selection_words(options)
    for option in RUN:
        words += option.words(getattr(options, option.name))
    return words + list(options.pytest_arguments)


def _check_expressions(options: argparse.Namespace) -> None:
    """Raise UserError at a mistake in -k or -m, before anything is built or started."""
    if options.keyword or options.marker:
        from tempfile import TemporaryDirectory

        with TemporaryDirectory() as empty:  # pytest 9 collects no /dev/null
            nothing = ["-c", os.devnull, "--rootdir", empty, "--noconftest", empty]
            matrices.collected([*nothing, *matrices.selection_words(options)])


def asking(store: ImageStore, builds: Builds, matrix: Matrix) -> MachinesOf:
    """What asks a QEMU of a matrix, whose image is built first, for its machine types."""
    def machines_of(host: HostSpec) -> Sequence[str]:
        build_missing(store, builds.missing([replace(host, firmware=None)]))
        try:
            if not isinstance(host.qemu, str):  # it may be of a suite that has to be built
                builds.alone([host.qemu], lambda line: echo(line, flush=True))
            return builds.machines(host)
        except UserError as error:
            raise matrix.place(host, "qemu", error) from None

    return machines_of


def prepare(
    store: ImageStore, builds: Builds, read: Sequence[Matrix], cells: Sequence[Cell]
) -> None:
    """Make ready what the hosts of these cells need, and nothing else."""
    needed = {host for cell in cells for host in cell.hosts}
    used = [[host for host in matrix.used_hosts if host in needed] for matrix in read]
    while missing := builds.missing([host for hosts in used for host in hosts]):
        build_missing(store, missing)
    for matrix, hosts in zip(read, used, strict=True):
        builds.prepare(hosts, lambda line: echo(line, flush=True), matrix.place)


def check_cells(ids: Sequence[str], cells: Sequence[Cell]) -> None:
    """Raise UserError for an id that no cell has."""
    from difflib import get_close_matches

    there = {cell.id for cell in cells}
    for wanted in ids:
        if wanted not in there:
            close = get_close_matches(wanted, there, n=3, cutoff=0.8)
            raise UserError(f"no such cell: {wanted}",
                            hint="near it: " + "  ".join(close) if close
                            else "`bootmatrix list MATRIX` shows the ids")


def _check_run_directory(options: argparse.Namespace) -> None:
    """Raise UserError if this run cannot have the directory that it is given."""
    if options.resume is not None and options.run_dir is not None:
        raise UserError("--resume and --run-dir exclude each other",
                        hint="a run goes on in its own directory")
    given = options.resume or options.run_dir
    if given is not None:
        from bootmatrix.run.directory import RunDirectory

        directory = RunDirectory(given)
        directory.claim(resume=options.resume is not None)
        directory.release()  # images may be built now; the run itself holds it


def _check_resume(
    options: argparse.Namespace,
    read: Sequence[Matrix],
    machines_of: MachinesOf,
) -> None:
    """Raise UserError if the run that is to be gone on with is not one of these matrices."""
    if options.resume is None:
        return
    from bootmatrix.run.resume import Finished

    finished = Finished(options.resume)
    for matrix in read:
        path = Path(matrix.path)
        finished.check(path, matrix.cells(machines_of), [Path(m.path) for m in read])


def _check_cluster(options: argparse.Namespace) -> None:
    """Raise UserError for a cluster that cannot be, or must not be, used."""
    given = {"--cluster-slots": options.cluster_slots, "--cluster-tls": options.cluster_tls,
             "--insecure": options.insecure, "--no-same-roots": options.no_same_roots,
             "--all-artifacts": options.all_artifacts}
    if options.cluster is None:
        if alone := [flag for flag, value in given.items() if value]:
            raise UserError(f"{alone[0]} is about the cluster of --cluster, which is not given")
        return
    if options.jobs != "auto":
        raise UserError("-n is for one machine, and --cluster for several",
                        hint="bootmatrix worker -n, and --cluster-slots for local:N")
    from bootmatrix.cluster.wishes import ClusterWishes

    ClusterWishes(options.cluster, options.cluster_tls, options.insecure,
                  jobs=options.cluster_slots).check()


def _check_shard(options: argparse.Namespace) -> None:
    """Raise UserError at a part that cannot be; its times must be there."""
    if options.shard:
        from bootmatrix.matrix.shards import Shard

        Shard.parse(options.shard)
    if options.shard_times is not None:
        if not options.shard:
            raise UserError("--shard-times balances the parts of --shard, which is not given")
        if not options.shard_times.is_file():
            raise UserError("no such records or history", file=options.shard_times)


def _check_outputs(options: argparse.Namespace) -> None:
    """Raise UserError for a file that could not be written when all cells have run.

    None is made: the run's directory, for which it can be, is to be empty.
    """
    import tempfile

    for path in (options.json, options.junit_xml):
        try:
            if path is not None and not (path.is_fifo() or path.is_char_device()):
                if path.exists():
                    path.open("ab").close()
                else:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    tempfile.TemporaryFile(dir=path.parent).close()
        except FileExistsError:  # the path's own, of its directory
            raise UserError(f"cannot be written: {path.parent} is no directory",
                            file=path) from None
        except OSError as error:
            raise UserError(f"cannot be written: {error.strerror}", file=path) from None
