"""The command line: ``bootmatrix run | list | images | schema``, thin faces over other rooms.

What a command needs is imported when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import (
    cli_bisect,
    cli_doctor,
    cli_fwcfg,
    cli_gate,
    cli_history,
    cli_nvram,
    cli_preflight,
    cli_report,
    cli_repro,
)
from harness.errors import HarnessError, UserError
from harness.report.words import plural

if TYPE_CHECKING:
    from harness.builds import Builds
    from harness.images import ImageStore
    from harness.matrix import MachinesOf, Matrix
    from harness.model import Cell, HostSpec

USER_ERROR, RIG_BROKEN, INTERRUPTED = 2, 3, 130
OWN_BUILDS = "own"
"""What `images rm` calls all copies of builds that are not the catalogue's."""

EXAMPLES = """\
examples:
  bootmatrix run matrices/quickstart.yaml
  bootmatrix run matrices/quickstart.yaml -k "q35 and guest-owned" -n 2
  bootmatrix list matrices/quickstart.yaml -k "not stock"
  bootmatrix images list
"""
RUN_NOTES = """\
The matrix is run by pytest: -k, -m, -x, --lf mean what they mean there, and what stands after
-- is handed to pytest as it is. `pytest MATRIX` runs the very same cells.

examples:
  bootmatrix run matrices/quickstart.yaml -k "q35 and guest-owned" -n 2
  bootmatrix run matrices/quickstart.yaml -m "machine(name='pc-q35-5.2') and not policy(name='stock')"
  bootmatrix run matrices/quickstart.yaml --cell bullseye-to-sid,pc-q35-5.2,stock,migrate-reset,ahci
  bootmatrix run matrices/quickstart.yaml --json records.jsonl -- --maxfail 3
  bootmatrix run matrices/quickstart.yaml --qemu head=../qemu/build --firmware test=out/bios.bin \
      --host head/test
  bootmatrix run matrices/quickstart.yaml --resume runs/2026-11-24T14-08-36

exit status: 0 all as the policies promise, or known; 1 a cell failed; 2 a mistake in what was
given; 3 the rig broke, nothing was learnt; 130 interrupted
"""  # noqa: E501


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    cut = argv.index("--") if "--" in argv else len(argv)
    options = _parser().parse_args(argv[:cut])
    for_pytest = argv[cut + 1:]
    if for_pytest and options.command is not _run:
        return _complain("only `run` hands arguments after -- to pytest", USER_ERROR)
    options.pytest_arguments = for_pytest
    try:
        command: Callable[[argparse.Namespace], int] = options.command
        return command(options)
    except UserError as error:
        return _complain(str(error), USER_ERROR)
    except HarnessError as error:
        return _complain(str(error), RIG_BROKEN)
    except BrokenPipeError:
        # The reader (head, less) had enough. Python would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)


def _complain(text: str, status: int) -> int:
    print(f"bootmatrix: {text}", file=sys.stderr)
    return status


# ---- arguments ------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="bootmatrix", formatter_class=raw, epilog=EXAMPLES, allow_abbrev=False,
        description="Which firmware runs after a QEMU guest was migrated and reset? Run a matrix "
                    "of hosts, machine types and policies, and see.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run", help="run the cells of a matrix and show the table", allow_abbrev=False,
        formatter_class=raw, epilog=RUN_NOTES, usage="%(prog)s MATRIX... [options] [-- PYTEST ...]")
    run.set_defaults(command=_run)
    _add_matrices(run)
    run.add_argument("--cell", metavar="ID", action="append", default=[],
                     help="run the cell with exactly this id (repeatable)")
    run.add_argument("-n", metavar="N", dest="jobs", type=_jobs, default="auto",
                     help="cells side by side (default: auto, one for each core)")
    run.add_argument("-x", action="store_true", dest="stop", help="stop at the first failure")
    run.add_argument("--lf", action="store_true", help="only the cells that failed last time")
    run.add_argument("--engine", choices=("docker", "bubblewrap"),
                     help="where QEMUs run (default: docker if an engine answers)")
    run.add_argument("--share", action="store_true",
                     help="boot cells that begin alike once, save the guest, and feed it to each "
                          "destination: faster, but the migration is not live")
    run.add_argument("--strict-known", action="store_true",
                     help="fail a cell that passes though the matrix declares it known to fail")
    run.add_argument("--repeat", metavar="N", type=_times, default=1,
                     help="run each cell N times; verdicts that differ are reported as flaky")
    run.add_argument("--shard", metavar="K/N",
                     help="run only part K of N of the cells, the same part in every run")
    run.add_argument("--shard-times", metavar="FILE", type=Path,
                     help="balance the parts by the times of these records, or of a history")
    run.add_argument("--json", metavar="FILE", type=Path, help="write run records, one a line")
    run.add_argument("--junit-xml", metavar="FILE", type=Path, help="write a JUnit report")
    run.add_argument("--run-dir", metavar="DIR", type=Path,
                     help="where artifacts go (default: a new directory in runs/)")
    run.add_argument("--resume", metavar="DIR", type=Path,
                     help="go on with the run whose directory this is")
    run.add_argument("-v", action="store_true", dest="verbose",
                     help="one line for each cell instead of the progress line")

    listing = commands.add_parser(
        "list", help="show a matrix's cells, ids and counts; nothing is started",
        allow_abbrev=False)
    listing.set_defaults(command=_list)
    _add_matrices(listing)
    listing.add_argument("--json", action="store_true", help="the cells as JSON")

    images = commands.add_parser("images", help="the QEMU and firmware builds: build, list, rm")
    actions = images.add_subparsers(title="actions", required=True, metavar="ACTION")
    for name, command, text in (
        ("build", _images_build, "build what is missing (default: all for x86_64)"),
        ("list", _images_list, "what is cached, from which suite, how large"),
        ("rm", _images_rm, "remove from the cache"),
    ):
        action = actions.add_parser(name, help=text, allow_abbrev=False)
        action.set_defaults(command=command)
        action.add_argument("names", metavar="NAME", nargs="+" if name == "rm" else "*",
                            help="a QEMU build of the catalogue, such as debian-sid"
                                 + ("; or own: copies of your own builds" * (name == "rm")))
        if name == "list":
            action.add_argument("--json", action="store_true", help="the same as JSON")

    cli_doctor.add(commands)
    cli_fwcfg.add(commands)
    cli_nvram.add(commands)
    cli_preflight.add(commands)
    cli_repro.add(commands)
    cli_bisect.add(commands)

    cli_report.add(commands)
    cli_gate.add(commands)
    cli_history.add(commands)

    schema = commands.add_parser("schema", help="print the JSON Schema of the matrix file")
    schema.set_defaults(command=_schema)
    return parser


def _add_matrices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("matrices", metavar="MATRIX", nargs="+", type=Path,
                        help="a matrix file (YAML)")
    parser.add_argument("-k", metavar="EXPR", dest="keyword", default="",
                        help='only cells whose values match, as in -k "q35 and not stock"')
    parser.add_argument("-m", metavar="EXPR", dest="marker", default="",
                        help="only cells with an axis value, as in -m \"disk(name='ahci')\"")
    parser.add_argument("--qemu", metavar="NAME=PATH", action="append", default=[],
                        help="a QEMU of your own: a program, build tree or prefix, image:NAME of "
                             "the Docker engine, or suite:NAME[=VERSION] of Debian (repeatable)")
    parser.add_argument("--firmware", metavar="NAME=PATH", action="append", default=[],
                        help="a firmware of your own: an image, CODE.fd,VARS.fd, a descriptor "
                             "(.json), or a directory of images (repeatable)")
    parser.add_argument("--host", metavar="QEMU[/FIRMWARE]", action="append", default=[],
                        help="only cells to or from this host, which need not be in the matrix: "
                             "--host head/test (repeatable)")


def _jobs(text: str) -> str:
    if text != "auto" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor auto")
    return text


def _times(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 1000")
    return int(text)


# ---- run ------------------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    from harness.builds import Builds
    from harness.images import ImageStore
    from harness.narrator import Narrator

    _check_shard(options)
    store = ImageStore()
    builds = Builds(store)  # holds what it has made ready until this process ends
    matrices = _load(options, builds)
    _prepare(store, builds, matrices)
    _check_cells(options.cell, matrices, builds.machines)
    _check_resume(options, matrices, builds.machines)

    from harness.plugin import run_pytest

    # A closed terminal and a polite kill end a run as Ctrl-C does: tidily, and with a summary.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    narrator = Narrator(silent=options.verbose)
    code = run_pytest(_pytest_arguments(options), [narrator])
    if code == 5 and options.shard and _selected(options):
        print("no cell falls into this shard")
        return 0
    if code == 5 and (options.keyword or options.marker):
        _complain("no cell matches the expression", USER_ERROR)
    return narrator.status(code)


def _pytest_arguments(options: argparse.Namespace) -> list[str]:
    """What the command's options mean to pytest."""
    given = ["-p", "bootmatrix", *map(str, options.matrices)]
    if options.verbose:
        given.append("-v")
    else:
        # The plugin's own summary lists what -r would.
        given += ["-q", "--no-header", "-rN", "-o", "console_output_style=classic"]
    jobs = usable_cores() if options.jobs == "auto" else int(options.jobs)
    if len(options.cell) == 1:
        jobs = 1
    if jobs > 1:
        given += ["-n", str(jobs)]
    for flag, wanted in (("-x", options.stop), ("--lf", options.lf),
                         ("--strict-known", options.strict_known),
                         ("--bootmatrix-share", options.share)):
        if wanted:
            given.append(flag)
    for flag, value in (
        ("-k", options.keyword), ("-m", options.marker),
        ("--bootmatrix-engine", options.engine), ("--bootmatrix-records", options.json),
        ("--bootmatrix-run-dir", options.run_dir),
        ("--bootmatrix-shard", options.shard),
        ("--bootmatrix-shard-times", options.shard_times),
        ("--bootmatrix-repeat", options.repeat if options.repeat > 1 else None),
        ("--bootmatrix-resume", options.resume), ("--junit-xml", options.junit_xml),
        *(("--bootmatrix-cell", cell) for cell in options.cell),
    ):
        if value:
            given += [flag, str(value)]
    return given + _own(options) + list(options.pytest_arguments)


def _own(options: argparse.Namespace) -> list[str]:
    """The options about builds of the user's own, as pytest has them."""
    return [f"--bootmatrix-{kind}={value}" for kind in ("qemu", "firmware", "host")
            for value in getattr(options, kind)]


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _load(options: argparse.Namespace, builds: Builds) -> list[Matrix]:
    from harness.matrix import load
    from harness.sources import parse

    for path in options.matrices:
        if not path.is_file():
            raise UserError("no such matrix file", file=path)
    given = parse(options.qemu, options.firmware, options.host)
    matrices = [load(path, given) for path in options.matrices]
    for matrix in matrices:
        builds.check(matrix.used_hosts(), matrix.place)
    return matrices


def _prepare(store: ImageStore, builds: Builds, matrices: Sequence[Matrix]) -> None:
    """Make ready all that the matrices' hosts need."""
    hosts = [host for matrix in matrices for host in matrix.used_hosts()]
    while missing := builds.missing(hosts):
        _build(store, missing)
    for matrix in matrices:
        builds.prepare(matrix.used_hosts(), lambda line: print(line, flush=True), matrix.place)


def _build(store: ImageStore, names: Sequence[str]) -> None:
    """Build what is missing, with its progress on the terminal."""
    missing = [name for name in dict.fromkeys(names) if not store.is_built(name)]
    if missing:
        what = plural(len(missing), "missing image")
        print(f"building {what}, once: {', '.join(missing)}", flush=True)
        store.build(missing, lambda line: print(line, flush=True))


def _check_cells(
    ids: Sequence[str], matrices: Sequence[Matrix], machines_of: MachinesOf
) -> None:
    """Raise UserError for a matrix without cells, and for an id that no matrix has."""
    from difflib import get_close_matches

    there = {cell.id for matrix in matrices for cell in matrix.cells(machines_of)}
    for wanted in ids:
        if wanted not in there:
            close = get_close_matches(wanted, there, n=3, cutoff=0.8)
            raise UserError(f"no such cell: {wanted}",
                            hint="near it: " + "  ".join(close) if close
                            else "`bootmatrix list MATRIX` shows the ids")


def _check_resume(
    options: argparse.Namespace,
    matrices: Sequence[Matrix],
    machines_of: MachinesOf,
) -> None:
    """Raise UserError if the run that is to be gone on with is not one of these matrices."""
    if options.resume is None:
        return
    if options.run_dir is not None:
        raise UserError("--resume and --run-dir exclude each other",
                        hint="a run goes on in its own directory")
    from harness.resume import Finished

    finished = Finished(options.resume)
    for matrix in matrices:
        path = Path(matrix.path)
        finished.check(path, matrix.cells(machines_of), [Path(m.path).name for m in matrices])


def _check_shard(options: argparse.Namespace) -> None:
    """Raise UserError at a part that cannot be; its times must be there."""
    if options.shard:
        from harness.shards import Shard

        Shard.parse(options.shard)
    if options.shard_times is not None:
        if not options.shard:
            raise UserError("--shard-times balances the parts of --shard, which is not given")
        if not options.shard_times.is_file():
            raise UserError("no such records or history", file=options.shard_times)


# ---- list -----------------------------------------------------------------------------------


def _list(options: argparse.Namespace) -> int:
    from harness.builds import Builds
    from harness.images import ImageStore

    store = ImageStore()
    builds = Builds(store)

    def machines_of(host: HostSpec) -> Sequence[str]:
        for name in builds.missing([replace(host, firmware=None)]):
            raise UserError(f"machine: newest-common has to ask {name}, which is not built",
                            hint=f"bootmatrix images build {name}")
        return builds.machines(host)

    matrices = _load(options, builds)
    cells = [cell for matrix in matrices for cell in matrix.cells(machines_of)]
    if options.keyword or options.marker:
        cells = _selected(options)
    if options.json:
        print(json.dumps([_cell_json(cell) for cell in cells], indent=1))
        return 0
    for cell in cells:
        print(cell.id)
    print(f"\n{plural(len(cells), 'cell')}")
    for axis, counts in _counts(cells).items():
        print(f"  {axis + ':':<10} " + ", ".join(f"{name} {n}" for name, n in counts.items()))
    return 0


def _selected(options: argparse.Namespace) -> list[Cell]:
    """The cells that pytest itself selects by -k and -m."""
    import contextlib
    import io

    from harness.narrator import Selection
    from harness.plugin import run_pytest

    selection = Selection()
    said, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        code = run_pytest(["-p", "bootmatrix", *map(str, options.matrices), "--collect-only", "-q",
                           "-k", options.keyword, "-m", options.marker, *_own(options)],
                          [selection])
    if code not in (0, 5):
        text = complained.getvalue().strip() or said.getvalue().strip()
        raise UserError(text.removeprefix("ERROR: "))
    return selection.cells


def _cell_json(cell: Cell) -> dict[str, Any]:
    from harness import axes

    return {
        "id": cell.id,
        "hosts": [{"host": host.name, "qemu": str(host.qemu),
                   "firmware": str(host.firmware) if host.firmware else None}
                  for host in cell.hosts],
    } | axes.values(cell)


def _counts(cells: Sequence[Cell]) -> dict[str, Counter[str]]:
    """How many cells have each value of each axis; axes that need no word are left out."""
    from harness import axes

    counts: dict[str, Counter[str]] = {}
    for cell in cells:
        moves = " → ".join(host.name for host in cell.hosts)
        for axis, value in ({"hosts": moves} | axes.values(cell)).items():
            counts.setdefault(axis, Counter())[str(value) or "default"] += 1
    named = {*axes.telling(map(axes.values, cells)), "disk", "accel"}
    return {axis: values for axis, values in counts.items()
            if axis not in axes.DEFAULTS or axis in named}


# ---- images, schema ---------------------------------------------------------------------------


def _images_build(options: argparse.Namespace) -> int:
    from harness.images import ImageStore

    store = ImageStore()
    names = options.names or store.names()
    _build(store, names)
    print(f"{plural(len(names), 'image')} there")
    return 0


def _images_list(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from harness.builds import own_usage
    from harness.images import ImageStore

    rows = [row for row in ImageStore().listing() if not options.names or row.name in options.names]
    unknown = set(options.names) - {row.name for row in rows}
    if unknown:
        raise UserError(f"no such QEMU build: {', '.join(sorted(unknown))}")
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
        return 0
    table = [("NAME", "SUITE", "QEMU", "FIRMWARE", "SIZE", "BUILT", "SHA256")]
    table += [(row.name, row.suite, row.version, row.first_firmware,
               f"{row.size / 1e6:.0f} MB", row.when, row.digest[:12]) if row.built
              else (row.name, row.suite, "", "", "", "not built", "") for row in rows]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        print("  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True))
              .rstrip())
    total = sum(row.size for row in rows if row.built)
    print(f"\n{sum(row.built for row in rows)} of {len(rows)} built, {total / 1e6:.0f} MB")
    if not options.names and (own := own_usage()):
        print(f"copies of your own builds: {own / 1e6:.0f} MB (bootmatrix images rm own)")
    return 0


def _images_rm(options: argparse.Namespace) -> int:
    from harness.engines.docker import remove_images
    from harness.images import ImageStore

    store = ImageStore()
    if options.names == [OWN_BUILDS]:
        return _remove_own(store)
    unknown = set(options.names) - set(store.names(None))
    if unknown:
        raise UserError(f"no such QEMU build: {', '.join(sorted(unknown))}",
                        hint=f"builds: {', '.join(store.names(None))}; or just {OWN_BUILDS}, "
                             "for copies of builds of your own")
    # The engine first: it refuses while a container runs the image, and then nothing is lost.
    imported = remove_images(options.names)
    freed = store.remove(options.names)
    print(f"{freed / 1e6:.0f} MB freed"
          + (f", {plural(imported, 'image')} removed from the Docker engine" if imported else ""))
    return 0


def _remove_own(store: ImageStore) -> int:
    from harness.builds import own_usage, remove_own
    from harness.engines.docker import remove_images

    before = own_usage()
    remove_images(remove_own(store))
    print(f"{(before - own_usage()) / 1e6:.0f} MB of copies of your own builds freed")
    return 0


def _schema(options: argparse.Namespace) -> int:
    from harness.matrix import json_schema

    print(json.dumps(json_schema(), indent=2))
    return 0
