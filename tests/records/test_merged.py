"""Repeats of a cell as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.errors import UserError
from bootmatrix.records.merged import meant, merged
from bootmatrix.records.outcome import Outcome, outcome_of
from bootmatrix.report.compare import compare
from helpers.records import of_two_matrices, record


def test_repeats_that_differ_are_flaky_and_never_averaged() -> None:
    one, other = record(), record(verdict="silent", reason="nothing")
    for records in ([one, other, one], [other, one, one]):
        (told,) = merged(records)
        assert outcome_of(told) is Outcome.FLAKY
        assert told["flaky"] == {"pass": 2, "silent": 1}
        assert told["verdict"] == "silent"
    assert outcome_of(merged([one, one])[0]) is Outcome.PASSED
    assert compare([one], merged([one, other])).lines[0].startswith("flaky")


def test_the_worst_of_the_repeats_stands_for_all_and_no_time_is_lost() -> None:
    every = [record() | {"seconds": seconds} for seconds in (3.0, 1.0, 9.0)]
    every[1] |= {"verdict": "error", "reason": "engine"}
    every[2] |= {"verdict": "silent", "reason": "nothing"}
    (one,) = merged([*every, record() | {"seconds": None}])
    assert (one["verdict"], one["reason"]) == ("error", "engine")
    assert (one["repeats"], one["times"], one["seconds"]) == (4, [3.0, 1.0, 9.0], 3.0)
    assert one["flaky"] == {"error": 1, "pass": 2, "silent": 1}
    (alike,) = merged([record() | {"seconds": None}] * 2)
    assert "times" not in alike
    assert "flaky" not in alike


@pytest.mark.parametrize("beside", ["run_again", "retried", "layout_mismatch"])
def test_what_a_repeat_says_beside_its_verdict_is_not_lost(beside: str) -> None:
    (one,) = merged([record(), record() | {beside: "so"}, record(verdict="silent", reason="x")])
    assert one["verdict"] == "silent"
    assert one.get(beside) == "so"
    assert beside not in merged([record(), record()])[0]


def test_a_cell_that_ran_once_is_left_as_it_is() -> None:
    assert merged([record()]) == [record()]


def test_cells_are_in_the_order_of_their_matrix_and_ids() -> None:
    ids = ["a-9", "a-10", "b-1"]
    records = [record() | {"cell": record()["cell"] | {"id": one}} for one in reversed(ids)]
    assert [one["cell"]["id"] for one in merged(records)] == ids
    first, second = merged([*records[:1], records[1] | {"matrix": "a.yaml"}])
    assert (first["matrix"], second["matrix"]) == ("a.yaml", "matrices/m.yaml")
    assert "called" not in first


def test_cells_of_two_matrices_with_one_id_are_called_by_both_names() -> None:
    other = record(policy="stock") | {"matrix": "a.yaml"}
    told = merged([*of_two_matrices(), other])
    cell = record()["cell"]["id"]
    assert [one.get("called") for one in told] == [f"a.yaml::{cell}", None, f"b.yaml::{cell}"]


def test_the_one_that_somebody_means() -> None:
    known = [("a", "x"), ("b", "x"), ("a", "y"), ("a", "y")]
    assert meant("y", known, Path("f")) == ("a", "y")
    assert meant("b::x", known, Path("f")) == ("b", "x")
    assert meant("z", known, Path("f")) is None
    with pytest.raises(UserError, match=r"f: cell x is one of a and one of b \(say which: a::x\)"):
        meant("x", known, Path("f"))
