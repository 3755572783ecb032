"""Failed cells as what GitHub and GitLab show beside a change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from bootmatrix.records.model import Record
from bootmatrix.records.outcome import Outcome, outcome_of
from bootmatrix.records.words import called, declared
from bootmatrix.report.markdown import explained
from bootmatrix.report.summary import rerun_command
from bootmatrix.terminal import visible

_SEVERITY = {Outcome.ERROR: "major", Outcome.FAILED: "critical", Outcome.FLAKY: "minor"}


def github(records: Sequence[Record]) -> str:
    """Workflow commands, one a line, for a step's output (GitHub: "Workflow commands")."""
    lines = []
    for record in records:
        outcome = outcome_of(record)
        if not outcome.is_bad and outcome is not Outcome.FIXED:
            continue
        level = "error" if outcome.is_bad else "notice"
        said = "\n".join(explained(record)) if outcome.is_bad else f"no longer: {declared(record)}"
        where = [f"file={_property(str(record['matrix']))}"] if record.get("matrix") else []
        where.append(f"title={_property(called(record))}")
        lines.append(f"::{level} {','.join(where)}::"
                     + _data(f"{said}\nagain: {rerun_command(record)}"))
    return "\n".join(lines)


def gitlab(records: Sequence[Record]) -> str:
    """A Code Quality report (GitLab: "Code Quality report format"), for artifacts:reports."""
    return json.dumps([
        {
            "description": f"{called(record)}: {'; '.join(explained(record))}",
            "check_name": str(record["verdict"]),
            # The same finding in the next pipeline: it must not hang on times or on order.
            "fingerprint": hashlib.sha256(
                f"{called(record)} {record['verdict']}".encode()).hexdigest(),
            "severity": _SEVERITY[outcome_of(record)],
            "location": {"path": str(record.get("matrix") or "matrix.yaml"),
                         "lines": {"begin": 1}},
        }
        for record in records if outcome_of(record).is_bad
    ], indent=1)  # fmt: skip


def _data(text: str) -> str:
    return visible(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
