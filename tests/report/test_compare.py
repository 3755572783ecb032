"""A run against a baseline: what is worse, what is not, and what is kept of a run."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.records.merged import merged
from bootmatrix.records.merging import load
from bootmatrix.report.compare import baseline, compare
from helpers.records import all_pairs, changed, record, refusing, write


@pytest.mark.parametrize(("old", "new", "kind"), [
    ({}, {"verdict": "silent", "reason": "boot 2: nothing"}, "new failure"),
    ({"verdict": "silent", "reason": "a"}, {"verdict": "silent", "reason": "b"}, "other reason"),
    ({"verdict": "silent", "reason": "a"}, {"verdict": "no-boot", "reason": "a"}, "other reason"),
    ({}, {"verdict": "error", "reason": "engine"}, "rig error"),
    ({}, {"verdict": "silent", "reason": "x", "known": "declared"}, None),
    ({"verdict": "silent", "reason": "x", "known": "declared"},
     {"verdict": "silent", "reason": "x"}, "new failure"),
])
def test_what_is_worse(old: dict[str, Any], new: dict[str, Any], kind: str | None) -> None:
    result = compare(changed(7, **old), changed(7, **new))
    assert result.worse is (kind is not None)
    if kind:
        assert [line for line in result.lines if line.startswith(kind)]


def test_what_is_not_worse() -> None:
    same = {"verdict": "silent", "reason": "not a byte in 3.0 s"}
    later = {"verdict": "silent", "reason": "not a byte in 5.0 s"}
    assert not compare(changed(7, **same), changed(7, **later)).worse
    fixed = compare(changed(7, **same), all_pairs())
    assert not fixed.worse
    assert fixed.lines[0].startswith("fixed ")




def test_what_is_known_now_is_shown() -> None:
    known = {"verdict": "silent", "reason": "boot 2: nothing", "known": "the old one hangs"}
    result = compare(all_pairs(), changed(7, **known))
    assert not result.worse
    assert result.lines[0].startswith("now known ")
    assert result.lines[0].endswith("silent: boot 2: nothing; declared: the old one hangs")
    assert "1 now known" in result.summary


def test_a_migration_that_is_refused_now_is_lost_coverage(tmp_path: Path) -> None:
    new = [refusing(one) if index == 7 else one for index, one in enumerate(all_pairs())]
    for old in (all_pairs(), load([write(tmp_path / "b.jsonl", baseline(all_pairs()))])):
        result = compare(old, new)
        assert result.worse
        assert result.lines[0].startswith("lost coverage ")
        assert "nothing migrated" in result.lines[0]
    assert not compare(load([write(tmp_path / "c.jsonl", baseline(new))]), new).lines


def test_other_firmware_gone_and_new_cells() -> None:
    old, new = all_pairs(), all_pairs()
    new[3]["boots"][1]["console"] = "seabios-9.9"
    gone = new.pop(10)
    new.append(record(policy="stock", machine="pc-q35-9.9"))
    result = compare(old, new)
    assert result.worse
    words = [line.split(" ")[0] for line in result.lines]
    assert words == ["gone", "other", "new"]  # the worst first
    assert gone["cell"]["id"] in result.lines[0]
    assert "seabios-9.9" in result.lines[1]


def test_a_slower_machine_is_no_regression_but_a_slower_cell_is() -> None:
    old = all_pairs()
    new = copy.deepcopy(old)
    for one in new:
        one["seconds"] = 2 * one["seconds"]
    assert compare(old, new, 1.5).lines == []
    new[5]["seconds"] = 8.0
    result = compare(old, new, 1.5)
    assert result.worse
    assert ("10.00x as long (0.400 s → 8.0 s, where all cells together take 2.00x)"
            in result.lines[0])
    assert result.same == len(old) - 1
    assert "noise unknown" in result.lines[0]
    assert not compare(old, new).worse
    repeats = [one | {"seconds": seconds, "repeat": n} for one in old
               for n, seconds in enumerate((0.1, 4.0))]  # such noise hides it
    assert compare(merged(repeats), new, 1.5).lines == []


def test_baseline_reads_back_as_records(tmp_path: Path) -> None:
    path = write(tmp_path / "b.jsonl", baseline(merged(all_pairs())))
    result = compare(merged(load([path])), merged(all_pairs()))
    assert not result.lines
    assert sys.intern("pc-q35-5.2") in {one["cell"]["machine"] for one in load([path])}
