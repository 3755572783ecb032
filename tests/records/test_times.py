"""How long a run took that had several cells at a time."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bootmatrix.records.model import checked
from bootmatrix.records.times import now, took, when
from helpers.records import record


def ended(second: float, seconds: float) -> Any:
    return record() | {"seconds": seconds, "ended": f"2026-11-26T18:00:{second:06.3f}+00:00"}


@pytest.mark.parametrize(("cells", "total"), [
    ([(10, 4), (12, 4)], 6.0),  # side by side
    ([(10, 8), (8, 1), (10, 1)], 8.0),  # within another
    ([(10, 4), (30, 5)], 9.0),  # and a break between
    ([(10, 4)], 4.0),
])
def test_what_ran_side_by_side_counts_once(cells: list[Any], total: float) -> None:
    assert took([ended(*cell) for cell in reversed(cells)]) == total


def test_records_that_do_not_say_when() -> None:
    assert took([ended(10, 4), record()]) is None
    assert when([record()]) is None
    assert when([ended(10, 4), record()]) == "2026-11-26 18:00 UTC"


def test_the_moment_is_one_that_is_read_back() -> None:
    assert checked(record() | {"ended": now()})
    with pytest.raises(ValueError, match="ended is"):
        checked(record() | {"ended": "yesterday"})
    odd = record() | {"ended": "2026-99-99T99:99:99.999+00:00"}
    assert checked(odd)
    assert when([odd]) == "1970-01-01 00:00 UTC"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*\+00:00", now())
