"""When cells were run, and how long a run took that had several at a time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from bootmatrix.records.model import Record


def now() -> str:
    """The moment as a record has it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def took(records: Iterable[Record]) -> float | None:
    """Seconds in which at least one cell was run; None where records do not say when they ended.

    Cells that ran side by side count once, and a break before a run was gone on with does not.
    """
    spans = []
    for record in records:
        if not record.get("ended"):
            return None
        end = _read(record["ended"])
        spans.append((end - timedelta(seconds=float(record.get("seconds") or 0)), end))
    total, until = timedelta(), None
    for start, end in sorted(spans):
        total += max(timedelta(), end - (start if until is None else max(start, until)))
        until = end if until is None else max(until, end)
    return total.total_seconds()


def when(records: Iterable[Record]) -> str | None:
    """The day, hour and minute at which the last cell ended; None where none says so."""
    ended = [record["ended"] for record in records if record.get("ended")]
    return f"{_read(max(ended)):%Y-%m-%d %H:%M} UTC" if ended else None


def _read(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:  # no such day, though it looks like one
        return datetime.fromtimestamp(0, UTC)
