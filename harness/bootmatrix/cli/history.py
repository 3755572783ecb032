"""``bootmatrix history``: what came of each cell over many runs."""

from __future__ import annotations

import argparse
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.cli.options import A_RUN, Commands, check_default
from bootmatrix.errors import Status
from bootmatrix.terminal import echo

if TYPE_CHECKING:
    from bootmatrix.records.history import History

DEFAULT = Path("bootmatrix-history.sqlite")
EXAMPLES = """\
examples:
  bootmatrix history add latest --label v1.2
  bootmatrix history add old/*.jsonl --db ci/history.sqlite
  bootmatrix history show --flaky
  bootmatrix history show --cell bullseye-to-sid,pc-q35-5.2,stock,migrate-reset,ahci
"""


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    history = commands.add_parser(
        "history", help="records of many runs in one file: since when, flaky, trends",
        allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES)
    actions = history.add_subparsers(title="actions", required=True, metavar="ACTION")
    adding = actions.add_parser("add", help="add runs", allow_abbrev=False)
    adding.set_defaults(command=_add)
    adding.add_argument("records", metavar="RECORDS", nargs="+", type=Path,
                        help=f"{A_RUN}; each is a run, and is added once")
    adding.add_argument("--label", metavar="TEXT", default="",
                        help="what the run was of: a release, a revision")
    adding.add_argument("--time", metavar="ISO", type=_time,
                        help="when the run was (default: the file's time)")
    showing = actions.add_parser("show", help="show what became of the cells", allow_abbrev=False)
    showing.set_defaults(command=_show)
    showing.add_argument("--cell", metavar="ID",
                         help="every run of one cell, by its id or as MATRIX::ID")
    showing.add_argument("--flaky", action="store_true",
                         help="only cells with several verdicts on equal builds")
    showing.add_argument("--trend", action="store_true",
                         help="only verdicts and times by QEMU and firmware")
    for action in (adding, showing):
        action.add_argument("--db", metavar="FILE", type=Path, default=DEFAULT,
                            help=f"the history (default: {DEFAULT})")


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time such as 2026-11-24T13:42") from None


def opened(path: Path, *, create: bool = False) -> History:
    """The history that is meant. Raises UserError."""
    from bootmatrix.records.history import History

    check_default(path, DEFAULT, "--db FILE")
    return History(path, create=create)


def _add(options: argparse.Namespace) -> int:
    from bootmatrix.records.history import digest_of
    from bootmatrix.records.merging import load
    from bootmatrix.records.words import plural
    from bootmatrix.run.directory import records_of

    runs = [(path, load([path], mixed=True)) for path in map(records_of, options.records)]
    with opened(options.db, create=True) as history:
        for path, records in runs:
            when = options.time or datetime.fromtimestamp(path.stat().st_mtime).astimezone()
            new = history.add(records, digest=digest_of(path), label=options.label,
                              time=when.astimezone().isoformat(timespec="seconds"))
            echo(f"{path}: " + (f"{plural(len(records), 'record')} added" if new
                                 else "is there already"))
    return Status.GREEN


def _show(options: argparse.Namespace) -> int:
    from bootmatrix.errors import UserError
    from bootmatrix.records.words import duration

    with opened(options.db) as history:
        if options.cell:
            rows = history.cell(options.cell)
            if not rows:
                raise UserError(f"no such cell in it: {options.cell}", file=options.db)
            for time, label, verdict, reason, seconds, qemu, firmware in rows:
                took = duration(seconds) if seconds else ""
                echo(f"{time} {label:<10} {verdict:<14} {took:>8}  {qemu}, {firmware}: {reason}")
            return Status.GREEN
        everything = not (options.flaky or options.trend)
        if everything:
            echo("runs")
            for time, label, cells, bad in history.runs():
                echo(f"  {time} {label:<10} {cells} cells, {bad} bad")
            echo("\nfailing now, known failures among them, and since when")
            for one in history.changes():
                echo(f"  {one.time} {one.label:<10} {one.cell}: {one.before} → {one.verdict}: "
                      f"{one.reason}")
        if everything or options.flaky:
            echo("\nflaky: several verdicts on equal builds" if everything else "flaky")
            flaky = history.flaky()
            if not flaky:
                echo("  none")
            for cell, verdicts, qemu in flaky:
                counts = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.items())
                echo(f"  {cell}: {counts} (QEMU {qemu})")
        if everything or options.trend:
            echo("\ntrend by QEMU and firmware" if everything else "trend")
            for qemu, firmware, label, cells, passed, mean in history.trend():
                took = f", {duration(mean)} a cell" if mean else ""
                echo(f"  {qemu}, {firmware} {label}: {passed} of {cells} passed{took}")
    return Status.GREEN
