"""Which policy: what is counted, and what is not."""

from __future__ import annotations

from typing import Any

import pytest

from bootmatrix.report.decision import QUESTIONS, counterexamples, decide, questions
from helpers.records import record, refusing


def test_the_decision_table_counts() -> None:
    records: list[Any] = []
    for policy in ("stock", "machine-owned"):
        for scenario, last in (("migrate-reset", "stays"), ("migrate-restart", "moves")):
            told = record(policy=policy, scenario=scenario)
            told["cell"]["id"] += scenario
            new = "seabios-1.17.0-1"
            moved = policy == "machine-owned" or last == "moves"
            told["boots"][1] |= {"console": new if moved else "seabios-1.14.0-2", "up": True}
            told["steps"] = [
                {"step": "start", "outcome": "ok", "host": "source"},
                {"step": "migrate", "outcome": "completed", "host": "destination",
                 "rom": "seabios-1.14.0-2"},
                *([{"step": "reset", "outcome": "ok", "host": "destination"}]
                  if scenario == "migrate-reset" else [
                      {"step": "shutdown", "outcome": "ok", "host": None},
                      {"step": "start", "outcome": "ok", "host": "destination"}])]
            records.append(told)
    stock, machine = decide(records)
    assert [str(one) for one in stock.counts] == [
        "1 of 1", "1 of 2", "1 of 2", "0 of 1", "not tried", "0 of 2"]
    assert [str(one) for one in machine.counts] == [
        "1 of 1", "2 of 2", "0 of 2", "1 of 1", "not tried", "0 of 2"]
    # A refused migration is told, and decides nothing.
    (row,) = decide([refusing(one) for one in records[:2]])
    assert [str(one) for one in row.counts] == [*["not tried"] * 5, "2 of 2"]
    assert ("stock", "reset is not restart") in [one[:2] for one in counterexamples([stock])]


def test_a_guest_that_came_back_late_has_come_back_and_is_told_apart() -> None:
    late = record(policy="stock", verdict="late", reason="boot 2: not up within 5.0 s")
    late["boots"][1] |= {"up": True, "usual": 5.0, "seconds": 32.6}
    late["steps"] = [
        {"step": "start", "outcome": "ok", "host": "source"},
        {"step": "migrate", "outcome": "completed", "host": "destination",
         "rom": "seabios-1.14.0-2"},
        {"step": "reset", "outcome": "ok", "host": "destination"}]
    stock, = decide([late])
    assert str(stock.came_back) == "1 of 1, 1 late"
    assert ("stock", "came back, but late", [late["cell"]["id"]]) in counterexamples([stock])


def test_a_disk_that_stays_locked_is_counted_where_a_guest_has_a_tpm() -> None:
    records: list[Any] = []
    for policy, secret in (("stock", "unlocked"), ("machine-owned", "locked-out")):
        told = record(policy=policy)
        for boot, found in zip(told["boots"], ("sealed", secret), strict=True):
            boot["tpm"] = {"pcrs": {}, "secret": found, "expected_secret": found}
        records.append(told)
    acted = record(policy="stock")
    acted["boots"][1]["tpm"] = {"pcrs": {}, "secret": "locked-out"}
    acted["steps"] = [{"step": "start", "outcome": "ok", "host": "source"},
                      {"step": "upgrade-nvram", "outcome": "ok", "host": "source"},
                      {"step": "reset", "outcome": "ok", "host": "source"}]
    rows = decide([*records, acted])
    assert [str(row.locked) for row in rows] == ["0 of 1", "1 of 1"]
    assert questions(rows)[-1][0] == "stayed locked"
    assert [row.counts[-1] for row in rows] == [row.locked for row in rows]
    assert ("machine-owned", "stayed locked", [records[1]["cell"]["id"]]) in counterexamples(rows)


def after_an_entry(policy: str, booted_by: str | None, scenario: str = "boot-entry-move") -> Any:
    """Its guest wrote a boot entry, and at its next boot this was started."""
    told: Any = record(policy=policy, scenario=scenario)
    told["steps"] = [{"step": "start", "outcome": "ok", "host": "source"},
                     {"step": "write-boot-entry", "outcome": "ok", "host": "source"},
                     {"step": "reset", "outcome": "ok", "host": "source"}]
    for boot, by in zip(told["boots"], ("default", booted_by), strict=True):
        boot["program"] = {"path": "x", "booted_by": by, "expected": "boot-order"}
    return told


@pytest.mark.parametrize(("booted_by", "said"), [
    ("boot-order", "0 of 1"), ("boot-next", "0 of 1"), ("default", "1 of 1"), (None, "1 of 1")])
def test_a_boot_entry_that_is_not_used_is_counted_where_a_guest_wrote_one(
    booted_by: str | None, said: str
) -> None:
    told = after_an_entry("stock", booted_by)
    plain = record(policy="machine-owned")
    rows = decide([told, plain])
    assert [str(row.unused) for row in rows] == [said, "not tried"]
    assert questions(rows)[-1][0] == "entry unused"
    assert [row.counts[-1] for row in rows] == [row.unused for row in rows]
    found = ("stock", "entry unused", [told["cell"]["id"]]) in counterexamples(rows)
    assert found is (said == "1 of 1")


def test_what_no_guest_has_is_not_asked() -> None:
    without = decide([record(policy="stock")])
    assert questions(without) == QUESTIONS
    assert len(without[0].counts) == len(QUESTIONS)
