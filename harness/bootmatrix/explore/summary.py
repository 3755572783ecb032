"""What an exploration says at its end: what was found, covered, and what never was. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bootmatrix.explore.coverage import KINDS, Coverage
from bootmatrix.explore.failures import KnownFailure

SHOWN = 12
"""So many of a list are shown; all of them are in coverage.json."""
_OPEN = KINDS[:2]  # of these it is known what would have been possible


def summary(
    counts: str, findings: Sequence[Mapping[str, Any]], seen: Sequence[KnownFailure], again: int,
    coverage: Coverage, *, to_its_end: bool = True,
) -> Iterator[str]:
    """The lines. ``to_its_end``: nothing had begun to be looked into that was not."""
    yield counts
    declared = {one.name: one for one in seen if one.declared}
    if declared:
        yield ""
        lives = "life" if again == 1 else "lives"
        yield f"known ({again} {lives} met it, or what was found here):"
        for one in declared.values():
            yield f"  ~ {one.failure}: {one.name}"
    yield ""
    if not findings:
        yield "nothing was found" if to_its_end else (
            "nothing was looked into to its end; the same command goes on")
    for finding in findings:
        yield from _finding(finding)
    yield ""
    yield from covered(coverage)


def _finding(finding: Mapping[str, Any]) -> Iterator[str]:
    verdicts = ", ".join(finding["verdicts"])
    yield f"{finding['name']}: {finding['state']} ({verdicts})"
    yield f"  {finding['reason']}"
    yield f"  {finding['machine']}, {finding['policy']}: {', '.join(finding['life'])}"
    qemus = "; ".join(f"{host} {what}" for host, what in finding["qemus"].items())
    yield f"  {qemus}"
    for way in finding.get("also", ()):
        yield f"  also: {', '.join(way)}"
    if not finding.get("shrunk", True):
        yield "  it did not fail in the same way twice, and was not shrunk"


def covered(coverage: Coverage) -> Iterator[str]:
    """What was covered, of what was possible, and the first of what never was."""
    for kind in KINDS:
        had = coverage.had(kind)
        if kind not in _OPEN:
            yield f"{kind}: {had}"
            continue
        never = coverage.never(kind)
        yield f"{kind}: {had} of {had + len(never)} that were possible"
        if never:
            more = f"; and {len(never) - SHOWN} more" if len(never) > SHOWN else ""
            yield f"  never: {'; '.join(never[:SHOWN])}{more}"


def is_red(findings: Sequence[Mapping[str, Any]]) -> bool:
    """Whether something was found that is there when it is looked at again."""
    return any(finding["state"] != "gone" for finding in findings)
