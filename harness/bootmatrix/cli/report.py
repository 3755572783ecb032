"""``bootmatrix report``: run records as a page, as text, or as what a CI system shows."""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.cli.options import A_RUN, Commands, check_default, coloured
from bootmatrix.errors import Status, UserError
from bootmatrix.terminal import echo

if TYPE_CHECKING:
    from bootmatrix.records.model import Record
    from bootmatrix.report.compare import Comparison
    from bootmatrix.report.page import Trends

_DEFAULT = Path("report")
FORMATS = ("html", "terminal", "markdown", "github", "gitlab", "junit")
NOTES = """\
Several files are read as one: the shards of a run, or repeats of its cells. Two that have a cell
with other builds are two runs, and shown beside each other: first what is different in the second.

examples:
  bootmatrix report latest -o report/
  bootmatrix report runs/2026-11-24T13-42-21-90c4 --format terminal --color always | less -R
  bootmatrix report old.jsonl new.jsonl -o report/
  bootmatrix report shard-*.jsonl --format markdown >> "$GITHUB_STEP_SUMMARY"
  bootmatrix report quickstart.jsonl library.jsonl --which-policy
"""


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    report = commands.add_parser(
        "report", help="show run records: an HTML page, Markdown, JUnit, annotations",
        allow_abbrev=False, epilog=NOTES, formatter_class=argparse.RawDescriptionHelpFormatter)
    report.set_defaults(command=_report)
    report.add_argument("records", metavar="RECORDS", nargs="+", type=Path,
                        help=A_RUN)
    report.add_argument("-o", "--output", metavar="DIR", type=Path, default=_DEFAULT,
                        help="where index.html goes (default: report/)")
    report.add_argument("--format", choices=FORMATS, default="html",
                        help="all but html go to standard output (default: html)")
    report.add_argument("--title", metavar="TEXT", help="the page's title")
    report.add_argument("--history", metavar="FILE", type=Path,
                        help="a history (`bootmatrix history add`), from which the page tells what "
                             "each cell did in earlier runs")
    report.add_argument("--which-policy", action="store_true",
                        help="only the policy decision table, as the page docs/which-policy.md; "
                             "the files can be of several matrices")


def _report(options: argparse.Namespace) -> int:
    import gc

    gc.disable()  # tens of thousands of records, and no cycle among them
    from bootmatrix.records.merged import merged
    from bootmatrix.records.merging import OtherBuilds, load_each
    from bootmatrix.records.times import took
    from bootmatrix.records.words import matrix_name
    from bootmatrix.report.pairing import are_two_runs
    from bootmatrix.run.directory import records_of

    paths = list(map(records_of, options.records))
    before: list[Record] = []
    try:
        parts = load_each(paths, cut_off=_tell, mixed=options.which_policy)
        if len(parts) == 2 and all(parts) and not options.which_policy and are_two_runs(*parts):
            before = merged(parts.pop(0))
    except OtherBuilds:
        if len(paths) != 2:
            raise
        before = merged(*load_each(paths[:1], cut_off=_tell))
        parts = load_each(paths[1:], cut_off=_tell)
    read = [record for part in parts for record in part]
    seconds, records = took(read), merged(read)
    compared = _beside(before, records, paths[0]) if before else None
    if options.which_policy:
        from bootmatrix.report.markdown import which_policy

        echo(which_policy(records), end="")
    elif options.format == "html":
        names = sorted({matrix_name(record) for record in records})
        title = options.title or "Which firmware ran? " + ", ".join(filter(None, names))
        trends = _trends(options.history, read)
        echo(_write(records, options.output, title.strip(), seconds, compared, trends))
    else:
        if compared and options.format in ("terminal", "markdown"):
            from bootmatrix.report import differences

            renderers = {"terminal": differences.text, "markdown": differences.markdown}
            echo(renderers[options.format](compared) + "\n")
        text = _formats(seconds, coloured(options.color))[options.format](records)
        # The one is coloured, the other is commands, and what they say is shown in them.
        print(text) if options.format in ("terminal", "github") else echo(text)  # noqa: T201
    return Status.GREEN


def _beside(old: Sequence[Record], new: Sequence[Record], path: Path) -> Comparison:
    from bootmatrix.records.words import matrix_name
    from bootmatrix.report.compare import compare

    names = [sorted({matrix_name(record) for record in run}) for run in (old, new)]
    if names[0] != names[1]:
        raise UserError(f"records of two matrices: {', '.join(names[0])} and {', '.join(names[1])}",
                        file=path, hint="give them one at a time")
    return compare(old, new, than=str(path), by_board=True)


def _tell(line: str) -> None:
    echo(f"bootmatrix: {line}", file=sys.stderr)


def _write(
    records: Sequence[Record], directory: Path, title: str, seconds: float | None,
    compared: Comparison | None, trends: Trends,
) -> Path:
    from bootmatrix.files import given_file
    from bootmatrix.report.page import page

    target = directory / "index.html"
    check_default(directory, _DEFAULT, "-o DIR")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write the report: {error.strerror}", file=target) from None
    text = page(records, consoles, title=title, black_boxes=black_box, seconds=seconds,
                compared=compared, trends=trends, job=_job(),
                logs=functools.partial(_logs, os.path.abspath(directory)))  # noqa: PTH100  # links stay
    given_file.replace(target, text.encode("utf-8", "replace"))
    return target


def _job() -> str | None:
    """The address of the CI job that this is run in, if it is one that can be followed."""
    variable = os.environ.get
    run = f"{variable('GITHUB_SERVER_URL')}/{variable('GITHUB_REPOSITORY')}/actions/runs"
    found = (variable("CI_JOB_URL"), variable("BUILD_URL"),
             variable("GITHUB_RUN_ID") and f"{run}/{variable('GITHUB_RUN_ID')}")
    return next((url for url in found if url and url.startswith(("https://", "http://"))), None)


def _trends(path: Path | None, read: Sequence[Record]) -> Trends:
    """What cells did in the runs of a history; the one that is ``read`` is no earlier one."""
    if path is None:
        return lambda record: ()
    from bootmatrix.records.history import History
    from bootmatrix.records.merged import key

    with History(path) as history:
        trends = history.trends(but=read)
    return lambda record: trends.get(key(record), ())


def _logs(home: str, record: Record) -> list[tuple[str, str]]:
    """The files of a cell's artifacts, and their addresses from a directory."""
    from urllib.parse import quote

    from bootmatrix.files.run_files import logs

    place = _artifacts(record)
    return [(name, quote(os.path.relpath(f"{place}/{name}", home)))
            for name in (logs(place, str(record.get("run_dir", "."))) if place else ())]


LONGEST_CONSOLE = 65_536
"""Bytes of a log that are read; a report shows less."""


def consoles(record: Record) -> list[tuple[str, bytes]] | None:
    """What the QEMUs of a cell said on their consoles; None if its artifacts are not there."""
    from bootmatrix.files.run_files import logs

    place = _artifacts(record)
    if place is None:
        return [] if not record.get("artifacts") and not record.get("qemus") else None
    if not os.path.isdir(place):  # noqa: PTH112  # ten thousand times
        return None
    consoles = (name for name in logs(place, str(record.get("run_dir", ".")))
                if name.endswith("/console.log"))
    said = ((name.partition("/")[0], _log(record, f"{place}/{name}")) for name in consoles)
    return [(process, log) for process, log in said if log is not None]


def black_box(record: Record) -> bytes | None:
    """What the machine of a cell was doing when its guest was down; None where nobody was asked."""
    from bootmatrix.witnesses.observation import BLACK_BOX

    place = _artifacts(record) if record.get("black_box") else None
    return None if place is None else _log(record, f"{place}/{BLACK_BOX}")


def _artifacts(record: Record) -> str | None:
    """Where a cell's artifacts are, beside the records: a record that says otherwise has none."""
    artifacts, home = record.get("artifacts"), str(record.get("run_dir", "."))
    if not artifacts:
        return None
    # Plain strings: ten thousand times, paths as objects take longer than all the rest.
    place = os.path.normpath(f"{home}/{artifacts}")
    return place if place.startswith(os.path.normpath(home) + os.sep) else None


def _log(record: Record, path: str) -> bytes | None:
    """The start and the end of a file of a cell's."""
    from bootmatrix.files.given_file import Unreadable
    from bootmatrix.files.run_files import open_log
    from bootmatrix.records.jsonl import LARGEST_FILE

    with (suppress(OSError, Unreadable),
          open_log(path, str(record.get("run_dir", ".")), LARGEST_FILE) as file):
        start = file.read(LONGEST_CONSOLE // 2)
        if len(start) == LONGEST_CONSOLE // 2:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(len(start), end - LONGEST_CONSOLE // 2))
            start += file.read()
        return start
    return None


def _formats(
    seconds: float | None, colour: bool
) -> dict[str, Callable[[Sequence[Record]], str]]:
    from bootmatrix.report import annotations, junit, markdown

    return {"terminal": functools.partial(_terminal, seconds, colour),
            "markdown": markdown.markdown, "github": annotations.github,
            "gitlab": annotations.gitlab, "junit": junit.junit}


def _terminal(seconds: float | None, colour: bool, records: Sequence[Record]) -> str:
    from bootmatrix.report.summary import summary
    from bootmatrix.report.table import Style

    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    style = Style(width=shutil.get_terminal_size().columns, colour=colour,
                  ascii=not encoding.startswith("utf"))
    # A copy says where the run was, whose logs are not beside it.
    places = sorted({str(record.get("run") or record.get("run_dir", ".")) for record in records})
    return summary(records, style, seconds=seconds, artifacts=", ".join(places),
                   watched=False)
