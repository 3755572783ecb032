"""``bootmatrix report``: run records as a page, as text, or as what a CI system shows."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

FORMATS = ("html", "terminal", "markdown", "github", "gitlab", "junit")
NOTES = """\
Several files are read as one: the shards of a run, or repeats of its cells.

examples:
  bootmatrix report runs/2026-11-24T13-42-21/records.jsonl -o report/
  bootmatrix report shard-*.jsonl --format markdown >> "$GITHUB_STEP_SUMMARY"
  bootmatrix report quickstart.jsonl library.jsonl --which-policy
"""
Record = Mapping[str, Any]


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    report = commands.add_parser(
        "report", help="show run records: an HTML page, Markdown, JUnit, annotations",
        allow_abbrev=False, epilog=NOTES, formatter_class=argparse.RawDescriptionHelpFormatter)
    report.set_defaults(command=_report)
    report.add_argument("records", metavar="RECORDS", nargs="+", type=Path,
                        help="a file of run records (JSON, one a line)")
    report.add_argument("-o", "--output", metavar="DIR", type=Path, default=Path("report"),
                        help="where index.html goes (default: report/)")
    report.add_argument("--format", choices=FORMATS, default="html",
                        help="all but html go to standard output (default: html)")
    report.add_argument("--title", metavar="TEXT", help="the page's title")
    report.add_argument("--which-policy", action="store_true",
                        help="only the policy decision table, as the page docs/which-policy.md; "
                             "the files can be of several matrices")


def _report(options: argparse.Namespace) -> int:
    import gc

    gc.disable()  # tens of thousands of records, and no cycle among them
    from harness.record_files import load, matrix_name
    from harness.report.merged import merged

    records = merged(load(options.records, cut_off=_tell, mixed=options.which_policy))
    if options.which_policy:
        from harness.report.markdown import which_policy

        print(which_policy(records), end="")
    elif options.format == "html":
        names = sorted({matrix_name(dict(record)) for record in records})
        title = options.title or "Which firmware ran? " + ", ".join(filter(None, names))
        print(_write(records, options.output, title.strip()))
    else:
        print(_formats()[options.format](records))
    return 0


def _tell(line: str) -> None:
    print(f"bootmatrix: {line}", file=sys.stderr)


def _write(records: Sequence[Record], directory: Path, title: str) -> Path:
    from harness.errors import UserError
    from harness.report.page import page

    target = directory / "index.html"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        text = page(records, consoles, title=title)
        beside = directory / f".index-{os.getpid()}.html"
        beside.write_text(text, encoding="utf-8", errors="replace")
        beside.replace(target)
    except OSError as error:
        raise UserError(f"cannot write the report: {error.strerror}", file=target) from None
    return target


LONGEST_CONSOLE = 65_536
"""Bytes of a console log that are read; a report shows less."""


def consoles(record: Record) -> list[tuple[str, bytes]] | None:
    """What the QEMUs of a cell said on their consoles; None if its artifacts are not there.

    Artifacts lie beside the records; a record that leads anywhere else is not followed.
    """
    artifacts, home = record.get("artifacts"), str(record.get("run_dir", "."))
    if not artifacts:
        return [] if not record.get("qemus") else None
    # Plain strings: ten thousand times, paths as objects take longer than all the rest.
    place = os.path.normpath(f"{home}/{artifacts}")
    if not place.startswith(os.path.normpath(home) + os.sep):
        return None
    try:
        processes = sorted(os.listdir(place), key=_launch_order)  # noqa: PTH208
    except OSError:
        return None
    said = []
    for process in processes:
        with suppress(OSError), open(f"{place}/{process}/console.log", "rb") as file:  # noqa: PTH123
            start = file.read(LONGEST_CONSOLE // 2)
            if len(start) == LONGEST_CONSOLE // 2:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(len(start), end - LONGEST_CONSOLE // 2))
                start += file.read()
            said.append((process, start))
    return said


def _launch_order(process: str) -> tuple[int, str]:
    number = process.partition("-")[0]
    return int(number) if number.isdecimal() else 0, process


def _formats() -> dict[str, Callable[[Sequence[Record]], str]]:
    from harness.report import annotations, junit, markdown

    return {"terminal": _terminal, "markdown": markdown.markdown, "github": annotations.github,
            "gitlab": annotations.gitlab, "junit": junit.junit}


def _terminal(records: Sequence[Record]) -> str:
    from harness.report.summary import summary
    from harness.report.table import Style

    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    style = Style(width=shutil.get_terminal_size().columns,
                  colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ,
                  ascii=not encoding.startswith("utf"))
    places = sorted({str(record.get("run_dir", ".")) for record in records})
    seconds = sum(float(record.get("seconds") or 0) for record in records)
    return summary(records, style, seconds=seconds, artifacts=", ".join(places))
