"""``bootmatrix bench``: the boards that there are, whether one is in order, and a talk with it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from bootmatrix.cli.doctor import MARKS
from bootmatrix.cli.options import Commands
from bootmatrix.errors import Status
from bootmatrix.terminal import echo

BENCH = Path("matrices/bench.yaml")
EXAMPLES = """\
examples:
  bootmatrix bench list
  bootmatrix bench list bench/apu2.yaml
  bootmatrix bench doctor main --in bench/apu2.yaml
  bootmatrix bench console virtual-one --power cycle

exit status of doctor: 0 the board can be used; 1 what is marked FAIL is to be mended first
"""


def add(commands: Commands) -> None:
    """Add the command to bootmatrix's."""
    parser = commands.add_parser(
        "bench", help="real boards: what is on the bench, is it there, talk to it",
        allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES)
    deeds = parser.add_subparsers(dest="deed", metavar="DEED", required=True)
    what = "a matrix file, or a labgrid environment file"
    all_of = deeds.add_parser("list", help="the boards, what each has, and who uses it",
                              allow_abbrev=False)
    all_of.set_defaults(command=_list)
    all_of.add_argument("files", metavar="FILE", nargs="*", type=Path, default=[BENCH],
                        help=f"{what} (default: {BENCH})")
    all_of.add_argument("--json", action="store_true", help="as JSON")
    doctor = deeds.add_parser("doctor", help="switch a board off and on, read its chip, hear it",
                              allow_abbrev=False)
    doctor.set_defaults(command=_doctor)
    console = deeds.add_parser("console", help="a board's console on this terminal",
                               allow_abbrev=False)
    console.set_defaults(command=_console)
    console.add_argument("--power", choices=("on", "off", "cycle"),
                         help="switch it first (default: it stays as it is)")
    for one in (doctor, console):
        one.add_argument("board", metavar="BOARD", help="its name, as `bench list` has it")
        one.add_argument("--in", dest="files", metavar="FILE", action="append", type=Path,
                         help=f"{what} (default: {BENCH})")


def _list(options: argparse.Namespace) -> int:
    import json

    from bootmatrix.builds.image_store import cache_home
    from bootmatrix.diagnose import bench

    rows = [bench.listed(board, cache_home()) for board in bench.boards(options.files)]
    if options.json:
        echo(json.dumps([{
            "board": str(row.source), "env": str(row.source.env), "target": row.source.target,
            "console": row.facts.console, "power": row.facts.power, "reset": row.facts.reset,
            "programmer": row.facts.programmer, "place": row.facts.place,
            "free": row.user is None, "user": row.user, "mark": row.mark,
            "pending": row.pending,
        } for row in rows], indent=1))  # fmt: skip
        return Status.GREEN
    width = max(len(str(row.source)) for row in rows)
    for row in rows:
        has = row.facts
        info = [has.console, has.power or "no power switch",
                *([has.reset] if has.reset else []), has.programmer or "no programmer",
                *([f"place {has.place}"] if has.place else []),
                "free" if row.user is None else f"used by {row.user or 'another process of yours'}"]
        echo(f"{row.source!s:<{width}}  {', '.join(info)}")
        for word, text in (("marked: ", row.mark), ("", row.pending)):
            if text:
                echo(f"{'':<{width}}  {word}{text}")
    return Status.GREEN


def _doctor(options: argparse.Namespace) -> int:
    from bootmatrix.builds.image_store import ImageStore, cache_home
    from bootmatrix.diagnose import bench
    from bootmatrix.diagnose.doctor import Health

    board = bench.named(options.board, options.files or [BENCH])
    failed = False
    for finding in bench.examine(board, cache_home(), ImageStore().firmwares()):
        failed = failed or finding.state is Health.FAIL
        echo(f"{MARKS[finding.state]}  {finding.what}: {finding.found}", flush=True)
        if finding.mend:
            echo(f"      mend it: {finding.mend}", flush=True)
    return Status.RED if failed else Status.GREEN


def _console(options: argparse.Namespace) -> int:
    from bootmatrix.builds.image_store import cache_home
    from bootmatrix.diagnose import bench
    from bootmatrix.diagnose.attach import converse
    from bootmatrix.machines.board import Bench

    source = bench.named(options.board, options.files or [BENCH])
    user = f"bench console, process {os.getpid()}"
    with Bench(source, cache_home(), bench.TAKEN_SECONDS, user) as board:
        echo(f"{source}: Ctrl-] leaves it", flush=True)
        with board.line.attach() as console:
            if options.power in ("off", "cycle"):
                board.off()
            if options.power in ("on", "cycle"):
                board.on()
            converse(console, lambda text: echo(text, flush=True), "the console has gone")
    return Status.GREEN
