"""What is said at the end of an exploration."""

from __future__ import annotations

from bootmatrix.explore.coverage import Coverage
from bootmatrix.explore.failures import Failure, KnownFailure
from bootmatrix.explore.summary import SHOWN, covered, is_red, summary

FAILURE = Failure("silent", "reset", "not a byte", "pc-q35", "seabios-1.14.0-2")
FOUND = {"name": "finding-1", "state": "steady", "verdicts": ["silent"] * 3, "shrunk": True,
         "reason": "boot 2: not a byte", "machine": "pc-q35-5.2", "policy": "stock",
         "life": ["start on a", "reset"], "qemus": {"a": "5.2.0, seabios-1.14.0-2"}}


def test_a_finding_and_what_was_known() -> None:
    lines = list(summary("3 lives", [FOUND], [
        KnownFailure(FAILURE, ("start", "reset"), "finding-1"),
        KnownFailure(FAILURE, ("reset",), "as it is", declared=True)], 2, Coverage()))
    assert lines[:9] == [
        "3 lives", "", "known (2 lives met it, or what was found here):",
        "  ~ silent at reset (pc-q35, seabios-1.14.0-2): as it is", "",
        "finding-1: steady (silent, silent, silent)", "  boot 2: not a byte",
        "  pc-q35-5.2, stock: start on a, reset", "  a 5.2.0, seabios-1.14.0-2"]


def test_nothing() -> None:
    assert "nothing was found" in list(summary("3 lives", [], [], 0, Coverage()))


def test_what_never_was() -> None:
    coverage = Coverage()
    coverage.counts["pair of steps", "start, reset"] += 1
    coverage.possible |= {("pair of steps", f"start, {number:02}") for number in range(20)}
    lines = list(covered(coverage))
    assert lines[0] == "pair of steps: 1 of 21 that were possible"
    assert lines[1].startswith("  never: start, 00; start, 01; ")
    assert lines[1].endswith(f"; and {20 - SHOWN} more")


def test_what_is_gone_is_not_red() -> None:
    assert is_red([FOUND, FOUND | {"state": "gone"}])
    assert not is_red([FOUND | {"state": "gone"}])
    assert not is_red([])


def test_who_is_interrupted_is_not_told_that_nothing_was_found() -> None:
    lines = list(summary("3 lives", [], [], 0, Coverage(), to_its_end=False))
    assert "nothing was looked into to its end; the same command goes on" in lines
