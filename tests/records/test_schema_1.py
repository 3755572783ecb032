"""Records that were written before schema 2, and all that was made of them then.

``schema-1.jsonl`` holds records of real runs of quickstart, library, contract and boards, chosen so
that each key, verdict, policy and step that occurred is there, and some that were planted for
verdicts that did not. ``schema-1.txt`` is what the code of that time said of them. Where a report
shall say something else, ``python tests/records/test_schema_1.py`` writes it again; the records
themselves are never to be touched.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from bootmatrix.diagnose.lookup import from_records
from bootmatrix.errors import UserError
from bootmatrix.model import Verdict
from bootmatrix.records.history import History
from bootmatrix.records.merged import merged
from bootmatrix.records.merging import load
from bootmatrix.report.annotations import github, gitlab
from bootmatrix.report.compare import baseline, compare
from bootmatrix.report.decision import counterexamples, decide
from bootmatrix.report.junit import junit
from bootmatrix.report.markdown import markdown, which_policy
from bootmatrix.report.summary import summary
from bootmatrix.report.table import Style

RECORDS, SAID = (Path(__file__).with_name(f"schema-1.{kind}") for kind in ("jsonl", "txt"))


class NoBuilds:
    """Stands in for the builds of from_records: any name is one."""

    def check(self, hosts: object) -> None:
        """Every host can be."""

    prepare = check
    host = check


def said() -> str:
    """All that is made of the records, in text."""
    return "\n".join(f"==== {title}\n{text}" for title, text in _parts()) + "\n"


def _parts() -> Iterator[tuple[str, str]]:
    read = load([RECORDS], mixed=True)
    records = merged(read)
    yield "terminal", summary(records, Style(100), seconds=1.0, artifacts="runs/1")
    yield "markdown", markdown(records)
    yield "which policy", which_policy(records)
    yield "counterexamples", "\n".join(map(str, counterexamples(decide(records))))
    yield "github", github(records)
    yield "gitlab", gitlab(records)
    yield "junit", junit(records)
    accepted = baseline(records)
    yield "gate", "\n".join((
        *_compared(accepted, records), *_compared(records[:-5], records[5:]),
        *_compared(records, [_as_the_other(one, two) for one, two in pairwise(records)]),
    ))
    # Its schema is that of whoever accepts it.
    yield "baseline", "\n".join(json.dumps({**row, "schema": 0}) for row in accepted)
    with tempfile.TemporaryDirectory() as place, History(Path(place, "h"), create=True) as history:
        for number, run in enumerate((read[:30], read[10:], read)):
            history.add(run, digest=str(number), time=f"2026-11-2{number}", label=f"run {number}")
        for part in ("runs", "changes", "flaky", "trend", "times"):
            yield f"history {part}", f"{getattr(history, part)()}"
    yield "repro", "\n".join(_again(record["cell"]["id"]) for record in read)


def _compared(old: list[Any], new: list[Any]) -> list[str]:
    found = compare(old, new, 1.5)
    return [*found.lines, found.summary]


def _as_the_other(one: Any, other: Any) -> dict[str, Any]:
    """A record with what another cell's run had."""
    return {**other, "cell": one["cell"], "matrix": one["matrix"], "seconds": 9 * one["seconds"]}


def _again(cell_id: str) -> str:
    """The cell that a record stands for; its id is made of all its values."""
    try:
        cell = from_records(cell_id, RECORDS, NoBuilds())  # type: ignore[arg-type]
    except UserError as error:
        return f"{cell_id}: {error}".replace(str(RECORDS), "RECORDS")
    steps = " ".join(step.kind for step in cell.scenario.steps)
    return f"{cell.id}: {steps}; {cell.seconds} s, {cell.longest} s"


def test_they_say_what_they_always_said() -> None:
    now, then = said().split("\n==== "), SAID.read_text().split("\n==== ")
    for part, before in zip(now, then, strict=True):
        assert part.splitlines() == before.splitlines()


def test_they_have_every_verdict_policy_and_step() -> None:
    text = RECORDS.read_text()
    later = {Verdict.EXTRA_RESET, Verdict.NOT_RESET, Verdict.STOPPED, Verdict.WRONG_CMOS,
             Verdict.WRONG_TABLES, Verdict.WRONG_HARDWARE, Verdict.WRONG_TPM,
             Verdict.WRONG_PROGRAM, Verdict.WRONG_MEMORY}
    assert set(re.findall(r'"verdict": "([^"]+)"', text)) == {
        one.value for one in Verdict if one not in later}
    assert set(re.findall(r'"policy": "([^"]+)"', text)) >= {
        "stock", "guest-owned", "guest-owned-versioned", "machine-owned", "reread"}
    assert set(re.findall(r'"step": "([^"]+)"', text)) >= {
        "start", "reset", "migrate", "shutdown", "upgrade-host", "upgrade-nvram", "guest-flash",
        "replace-disk", "write-variable", "suspend"}
    assert set(re.findall(r'"schema": (\d+)', text)) == {"1"}


if __name__ == "__main__":
    sys.stdout.write(f"{SAID.write_text(said())} characters\n")
