"""``bootmatrix gate``: may we ship? New records against a baseline."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.cli.options import A_RUN, Commands
from bootmatrix.errors import Status
from bootmatrix.terminal import echo

if TYPE_CHECKING:
    from bootmatrix.report.pairing import ExpectedChange

FORMATS = ("text", "markdown", "json", "html", "junit")
NOTES = """\
One line for each difference, the worst first: before all failures the cells about which something
was learnt and now is not, as they cannot be run any more or are gone. A cell that fails for another
reason than before is a change. --accept writes the new records as the baseline: sorted, without
times and paths, so that a merge request shows what changed.

examples:
  bootmatrix gate --baseline ci/baseline.jsonl runs/shard-*/records.jsonl
  bootmatrix gate --baseline ci/baseline.jsonl new.jsonl --expect seabios-1.16.2-1=seabios-1.16.3-2
  bootmatrix gate --baseline ci/baseline.jsonl new.jsonl --expect 'debian-bookworm=debian-trixie'
  bootmatrix gate --baseline ci/baseline.jsonl new.jsonl --format junit > gate.xml

exit status: 0 nothing got worse; 1 something did; 2 a mistake in what was given; 3 what was found
could not be printed
"""


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    gate = commands.add_parser(
        "gate", help="compare run records with a baseline, for a release", allow_abbrev=False,
        epilog=NOTES, formatter_class=argparse.RawDescriptionHelpFormatter)
    gate.set_defaults(command=_gate)
    gate.add_argument("records", metavar="NEW", nargs="+", type=Path,
                      help=f"the run to judge: {A_RUN} (several: shards, repeats)")
    gate.add_argument("--baseline", metavar="BASE", type=Path, required=True,
                      help="an accepted baseline, or the run to compare with, as NEW")
    gate.add_argument("--accept", action="store_true",
                      help="write the new records as the baseline")
    gate.add_argument("--max-slower", metavar="RATIO", type=_ratio,
                      help="fail if a cell takes so many times as long as in the baseline")
    gate.add_argument("--expect", metavar="OLD=NEW", type=_expected, action="append", default=[],
                      help="a change that is wanted, as globs: of firmware, of a QEMU's version or "
                           "build, of a host's name, of a machine type; can be given several "
                           "times")
    gate.add_argument("--format", choices=FORMATS, default="text",
                      help="how it is told on standard output (default: text)")


def _ratio(text: str) -> float:
    try:
        ratio = float(text)
    except ValueError:
        ratio = 0.0
    if not 1 < ratio < 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is no ratio above 1, such as 1.5")
    return ratio


def _expected(text: str) -> ExpectedChange:
    from bootmatrix.report.pairing import ExpectedChange

    try:
        return ExpectedChange.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _gate(options: argparse.Namespace) -> int:
    import gc

    gc.disable()  # tens of thousands of records, and no cycle among them
    from bootmatrix.errors import UserError
    from bootmatrix.files.given_file import check_replaceable
    from bootmatrix.records.jsonl import replace_records
    from bootmatrix.records.merged import merged
    from bootmatrix.records.merging import load
    from bootmatrix.records.words import matrix_name, plural
    from bootmatrix.report import differences
    from bootmatrix.report.compare import baseline, compare
    from bootmatrix.run.directory import records_of, run_of

    base, given = records_of(options.baseline), list(map(records_of, options.records))
    if options.accept:
        check_replaceable(base)
    there = base.exists()
    if not there and not options.accept:
        raise UserError("no such baseline", file=base,
                        hint="a run that is good makes one: add --accept")
    new = merged(load(given))
    old = merged(load([base])) if there else []
    itself = base.resolve() in [path.resolve() for path in given]
    if options.accept and (
            run_of(base) != base or (itself and any("seconds" in record for record in old))):
        # It would lose what only a run's own records have.
        raise UserError("holds the records of a run", file=base,
                        hint="accept into a file of its own")
    names = {matrix_name(record) for record in new}
    before = {matrix_name(record) for record in old}
    if old and names != before:
        raise UserError(f"a baseline of {', '.join(sorted(before))}, but records of "
                        f"{', '.join(sorted(names))}", file=base,
                        hint="compare runs of the same matrix")
    if old:
        result = compare(old, new, options.max_slower, options.expect)
        echo(differences.FORMATS[options.format](result))
    if options.accept:
        replace_records(base, baseline(new))
        echo(f"accepted: {plural(len(new), 'cell')} in {base}",
             file=sys.stdout if options.format == "text" else sys.stderr)
        return Status.GREEN
    return Status.RED if result.worse else Status.GREEN
