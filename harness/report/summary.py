"""What stands under the table: counts, reasons, time, artifacts, and how to run a cell again."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from harness.report.outcome import Outcome, outcome_of
from harness.report.table import MARKS, STYLES, Style, rendered, tables
from harness.report.words import duration, natural, plural

Record = Mapping[str, Any]
MOST_LISTED = 12
FIRST = 3


def summary(
    records: Sequence[Record],
    style: Style,
    *,
    seconds: float,
    artifacts: str,
    command: str = "bootmatrix",
    earlier: int = 0,
) -> str:
    """The table and all that stands under it, as one text that ends with the rerun command.

    ``seconds`` is the wall time of the run, ``artifacts`` its directory as it is to be shown,
    ``command`` how bootmatrix is called here. ``earlier`` of the records are from an earlier run.
    """
    records = sorted(records, key=lambda record: natural(record["cell"]["id"]))
    return "\n".join((
        tables(records, style),
        "",
        rendered(list(_findings(records)), style),
        rendered([counts(records), *_retried(records),
                  Text(_time(len(records), earlier, seconds))], style),
        "",
        # Not through rich: a path or a command that is broken over lines cannot be copied.
        f"artifacts: {artifacts}",
        f"one cell again: {rerun_command(_interesting(records), command)}",
    ))


def counts(records: Sequence[Record]) -> Text:
    """One line: 120 cells: 96 passed, 22 known (silent), 2 failed (1 blocked, 1 no-boot)."""
    outcomes = Counter(outcome_of(record) for record in records)
    parts = []
    for outcome in Outcome:
        if number := outcomes[outcome]:
            words = f"{number} {outcome}" if outcome is not Outcome.ERROR else plural(
                number, "error")
            if outcome in (Outcome.FAILED, Outcome.KNOWN):
                verdicts = Counter(str(record["verdict"]) for record in records
                                   if outcome_of(record) is outcome)
                alone = len(verdicts) == 1
                words += " (" + ", ".join(
                    verdict if alone else f"{many} {verdict}"
                    for verdict, many in sorted(verdicts.items())) + ")"
            parts.append(Text(words, style=STYLES[outcome]))
    return Text(plural(len(records), "cell") + ": ") + Text(", ").join(parts)


def unfinished(
    nodeids: Sequence[str], command: str, run_dir: str | None, options: Sequence[str] = ()
) -> str:
    """Which cells have no record, by their node ids (``MATRIX::ID``), and how to go on.

    ``run_dir`` is the run's directory as it is to be shown; None: there is nothing to go on with.
    ``options`` are those about builds of the user's own, which the same cells need again.
    """
    ids = [nodeid.partition("::")[2] for nodeid in nodeids]
    lines = [f"not run: {plural(len(ids), 'cell')}", *(f"  {cell}" for cell in ids[:FIRST])]
    if len(ids) > FIRST:
        lines.append(f"  ... and {len(ids) - FIRST} more")
    if run_dir is not None:
        matrices = dict.fromkeys(nodeid.partition("::")[0] for nodeid in nodeids)
        lines.append("go on: " + shlex.join(
            [command, "run", *matrices, *options, "--resume", run_dir]))
    return "\n".join(lines)


def rerun_command(record: Record, command: str = "bootmatrix") -> str:
    """The one command that runs a record's cell again."""
    matrix = record.get("matrix")
    words = [command, "run", *([str(matrix)] if matrix else []), *record.get("options", ()),
             "--cell", str(record["cell"]["id"])]
    return shlex.join(words)


def _retried(records: Sequence[Record]) -> Iterator[RenderableType]:
    """Cells that were run once more after the engine had failed."""
    for reason, number in Counter(
        str(record["retried"]) for record in records if record.get("retried")
    ).items():
        yield Text(f"{plural(number, 'cell')} run once more, the engine had failed: {reason}")


def _time(cells: int, earlier: int, seconds: float) -> str:
    rate = f", {60 * (cells - earlier) / seconds:.0f} cells a minute" if seconds > 0 else ""
    return f"in {duration(seconds)}{rate}" + (
        f"; {earlier} from the earlier run" if earlier else "")


def _interesting(records: Sequence[Record]) -> Record:
    """The cell that a reader most likely wants to run again."""
    order = (Outcome.FAILED, Outcome.FLAKY, Outcome.ERROR, Outcome.FIXED, Outcome.KNOWN,
             Outcome.PASSED, Outcome.UNSUPPORTED)
    return min(records, key=lambda record: order.index(outcome_of(record)))


def _findings(records: Sequence[Record]) -> Iterator[RenderableType]:
    """Failed cells one by one, known and fixed ones by their reasons."""
    bad = [record for record in records
           if outcome_of(record).is_bad]
    alike: dict[tuple[Outcome, str], list[str]] = {}
    for record in bad:
        key = outcome_of(record), _first_line(record)
        alike.setdefault(key, []).append(str(record["cell"]["id"]))
    for (outcome, reason), ids in alike.items():
        more = [f"... and {len(ids) - MOST_LISTED} more"] if len(ids) > MOST_LISTED else []
        yield _item(outcome, "\n".join((reason, *ids[:MOST_LISTED], *more)))
    for outcome, word in ((Outcome.FIXED, "no longer"), (Outcome.KNOWN, "known")):
        reasons = Counter(str(record["known"]) for record in records
                          if outcome_of(record) is outcome)
        for reason, number in sorted(reasons.items()):
            yield _item(outcome, f"{word}, {plural(number, 'cell')}: {reason}")
    if records and (bad or any(record.get("known") for record in records)):
        yield ""


def _item(outcome: Outcome, text: str) -> RenderableType:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_row(Text(MARKS[outcome], style=STYLES[outcome]), Text(text, overflow="fold"))
    return grid


def _first_line(record: Record) -> str:
    lines = str(record["reason"]).splitlines() or [""]
    verdict = str(record["verdict"])
    if record.get("flaky"):
        verdicts = ", ".join(f"{many} {name}" for name, many in record["flaky"].items())
        return f"flaky ({verdicts}): {lines[0]}"
    return lines[0] if lines[0].startswith(verdict) else f"{verdict}: {lines[0]}"
