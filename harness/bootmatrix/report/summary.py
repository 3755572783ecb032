"""What stands under the table: counts, reasons, time, artifacts, and how to run a cell again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from bootmatrix.records.model import Record
from bootmatrix.records.outcome import Outcome, outcome_of
from bootmatrix.records.words import (
    called,
    declared,
    duration,
    joined,
    natural,
    plural,
    steady,
)
from bootmatrix.report.causes import causes, neighbours
from bootmatrix.report.table import MARKS, STYLES, Style, rendered, tables
from bootmatrix.terminal import visible

MOST_LISTED = 12
LONGEST = 4096
"""Characters of one finding that are shown."""
FIRST = 3


def summary(
    records: Sequence[Record],
    style: Style,
    *,
    seconds: float | None,
    artifacts: str,
    command: str = "bootmatrix",
    earlier: int = 0,
    ran: int = 0,
    watched: bool = True,
) -> str:
    """The table and all that stands under it, as one text that ends with the rerun command.

    ``seconds`` is the wall time of the run, None where nobody knows it, or, if nobody ``watched``
    it, that in which at least one cell ran, which is less where cells waited; ``artifacts`` its
    directory as it is to be shown, ``command`` how bootmatrix is called here. ``earlier`` of the
    results are from an earlier run, and so often a cell ``ran`` in this one.
    """
    records = sorted(records, key=lambda record: natural(called(record)))
    return "\n".join((
        tables(records, style),
        "",
        rendered(list(_findings(records)), style),
        rendered([counts(records), *map(str, causes(records)), *_retried(records),
                  *missed(records), *mismatches(records),
                  Text(_time(records, earlier, ran, seconds, watched))], style),
        "",
        # Not through rich: a path or a command that is broken over lines cannot be copied.
        visible(f"artifacts: {artifacts}"),
        visible(f"one cell again: {rerun_command(_interesting(records), command)}"),
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
    nodeids: Mapping[str, bool], command: str, run_dir: str | None,
    options: Sequence[str] = (), behind: Sequence[str] = (), *, repeated: bool = False,
) -> str:
    """Which cells have no record, by their node ids (``MATRIX::ID``), and how to go on.

    True stands with those that were begun. ``run_dir`` is the run's directory as it is to be
    shown; None: there is nothing to go on with. ``options`` are those by which the same cells are
    meant, ``behind`` is for pytest. Where cells are ``repeated`` it is their runs that are named.
    """
    lines = []
    for what, begun in (("ended without a record", True), ("not run", False)):
        left = [nodeid for nodeid, was in nodeids.items() if was is begun]
        ids = [nodeid.partition("::")[2] for nodeid in left]
        if ids:
            cells = plural(len({nodeid.partition("#")[0] for nodeid in left}), "cell")
            many = f"{plural(len(ids), 'run')} of {cells}" if repeated else cells
            lines += [f"{what}: {many}", *(f"  {one}" for one in ids[:FIRST])]
        if len(ids) > FIRST:
            lines.append(f"  ... and {len(ids) - FIRST} more")
    if run_dir is not None:
        matrices = dict.fromkeys(nodeid.partition("::")[0] for nodeid in nodeids)
        lines.append("go on: " + joined(
            [command, "run", *matrices, *options, "--resume", run_dir,
             *(["--", *behind] if behind else [])]))
    return visible("\n".join(lines))


def rerun_command(record: Record, command: str = "bootmatrix") -> str:
    """The one command that runs a record's cell again."""
    matrix = str(record.get("matrix") or "")
    if matrix and matrix.startswith("-"):
        matrix = f"./{matrix}"  # a file, and no option
    words = [command, "run", *([matrix] if matrix else []), *record.get("options", ()),
             "--cell", str(record["cell"]["id"])]
    return joined(words)


def _retried(records: Sequence[Record]) -> Iterator[RenderableType]:
    """Cells that were run once more after the engine had failed."""
    for reason, number in Counter(
        str(record["retried"]) for record in records if record.get("retried")
    ).items():
        yield Text(f"{plural(number, 'cell')} run once more, the engine had failed: {reason}")


def missed(records: Sequence[Record]) -> list[str]:
    """Cells that missed a step, and did not when they were run again, which counted."""
    again = [called(record) for record in records if record.get("run_again")]
    more = f" and {len(again) - FIRST} more" if len(again) > FIRST else ""
    return [f"{plural(len(again), 'cell')} run once more: a step was missed, and then it was not; "
            f"that counts: {', '.join(again[:FIRST])}{more}"] if again else []


def mismatches(records: Sequence[Record]) -> list[str]:
    """Code and variables of different layouts, where a cell's verdict does not tell of them."""
    unsaid = Counter(mismatch for record in records
                     if (mismatch := record.get("layout_mismatch"))
                     and mismatch not in str(record["reason"]))
    return [f"code and variables do not fit, {plural(number, 'cell')}: {mismatch}"
            for mismatch, number in sorted(unsaid.items())]


def _time(
    records: Sequence[Record], earlier: int, ran: int, seconds: float | None, watched: bool
) -> str:
    if seconds is None:
        added = sum(float(record.get("seconds") or 0) for record in records)
        return f"{duration(added)} for all cells, one after the other"
    if not watched:
        return f"cells ran for {duration(seconds)}"
    each = round(60 * ran / seconds) if seconds > 0 else 0
    what = "run" if any(record.get("repeats", 1) > 1 for record in records) else "cell"
    rate = f", {plural(each, what)} a minute" if each else ""
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
    near = neighbours(records)
    alike: dict[tuple[Outcome, str], list[Record]] = {}
    for record in bad:
        alike.setdefault((outcome_of(record), steady(_first_line(record))), []).append(record)
    for (outcome, _), cells in alike.items():
        reason = _first_line(cells[0])
        if len({*map(_first_line, cells)}) > 1:  # in times, in a process's id
            reason += " (so the first of them)"
        ids = [f"{cell}: {near[cell]}" if cell in near else cell for cell in map(called, cells)]
        more = [f"... and {len(ids) - MOST_LISTED} more"] if len(ids) > MOST_LISTED else []
        yield _item(outcome, "\n".join((
            reason, *_black_box(cells), *ids[:MOST_LISTED], *more)))
    for outcome, line in declarations(records):
        yield _item(outcome, line)
    cannot = not_run(records)
    for line in cannot:
        yield _item(Outcome.UNSUPPORTED, line)
    if bad or cannot or any(record.get("known") for record in records):
        yield ""


def _black_box(cells: Sequence[Record]) -> Iterator[str]:
    """What the machines of these cells did, in a line."""
    lines = {record.get("black_box") for record in cells}
    line = next(filter(None, (record.get("black_box") for record in cells)), None)
    if line is not None:
        yield f"black box{'' if len(lines) == 1 else ' of one of them'}: {line}"


def declarations(records: Sequence[Record]) -> list[tuple[Outcome, str]]:
    """What the matrix declares of cells that are as declared, or no longer so: a line each."""
    return [(outcome, f"{word}, {plural(number, 'cell')}: {reason}")
            for outcome, word in ((Outcome.FIXED, "no longer"), (Outcome.KNOWN, "known"))
            for reason, number in sorted(Counter(
                declared(record) for record in records
                if outcome_of(record) is outcome).items())]


def not_run(records: Sequence[Record]) -> list[str]:
    """Why cells cannot be run, a line for each reason; of many reasons the most frequent."""
    reasons = Counter((str(record["reason"]).splitlines() or [""])[0] for record in records
                      if outcome_of(record) is Outcome.UNSUPPORTED)
    lines = [f"n/a, {plural(number, 'cell')}: {why}"
            for why, number in reasons.most_common(MOST_LISTED)]
    if more := reasons.most_common()[MOST_LISTED:]:
        lines.append(f"n/a, {plural(sum(number for _, number in more), 'cell')}: "
                    f"{plural(len(more), 'other reason')}, in the records")
    return lines


def _item(outcome: Outcome, text: str) -> RenderableType:
    if len(text) > LONGEST:  # rich takes its time with the square of it
        text = text[:LONGEST] + " ..."
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
