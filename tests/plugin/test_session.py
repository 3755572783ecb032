"""A session's rig: what is made once, and who shares it."""

from __future__ import annotations

import pytest

from helpers.planting import I440FX_STOCK, Q35_GUEST, Q35_STOCK, SILENT, plant
from helpers.sessions import M, ran, records


def test_xdist_runs_the_same_cells(pytester: pytest.Pytester) -> None:
    plant(pytester.path, verdicts={Q35_GUEST: SILENT})
    result = pytester.runpytest(M, "-n", "2", "--bootmatrix-records", "all.jsonl",
                                "--bootmatrix-run-dir", "out")
    result.assert_outcomes(passed=4, failed=1, xfailed=1)
    found = records(pytester.path / "all.jsonl")
    assert sorted(record["cell"]["id"] for record in found) == sorted(ran(pytester.path))
    assert len(found) == 6
    own = records(pytester.path / "out" / "records.jsonl")
    assert [record | {"run": "out"} for record in own] == found, "a copy tells where the logs are"
    result.stdout.fnmatch_lines(["*which firmware ran*", "6 cells: 4 passed, 1 known*1 failed*"])
    # Each worker closed its rig.
    log = (pytester.path / "rig.log").read_text().splitlines()
    assert sorted(line for line in log if "close" in line) == ["close gw0", "close gw1"]


def test_stop_at_the_first_and_only_the_last_failed(pytester: pytest.Pytester) -> None:
    plant(pytester.path, verdicts={I440FX_STOCK: SILENT})
    pytester.runpytest(M, "-x").assert_outcomes(failed=1)
    assert ran(pytester.path) == [I440FX_STOCK]
    pytester.runpytest(M).assert_outcomes(passed=4, failed=1, xfailed=1)
    pytester.runpytest(M, "--lf").assert_outcomes(failed=1)


def test_images_are_made_once_before_the_first_cell(pytester: pytest.Pytester) -> None:
    plant(pytester.path)
    pytester.runpytest(M, "-k", "q35 and stock")
    lines = (pytester.path / "rig.log").read_text().splitlines()
    assert lines[0] == "prepare debian-bullseye debian-sid"
    assert lines[-2:] == [f"run {Q35_STOCK}", "close main"]


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.thorough)])
def test_an_image_that_cannot_be_made_breaks_the_rig(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    plant(pytester.path, images="debian-sid: mmdebstrap failed")
    result = pytester.runpytest(M, *workers)
    assert 1 <= result.parseoutcomes()["failed"] <= 2  # at most one of each worker's
    assert result.ret == 3
    result.stdout.fnmatch_lines(["the rig broke; nothing was learnt*", "debian-sid: mmdebstrap*",
                                 "stopped: the rig broke: debian-sid: mmdebstrap*",
                                 "not run: 6 cells", f"  {I440FX_STOCK}", "  ... and 3 more"])
    # In CI pytest repeats it, uncut, in its short summary.
    assert result.stdout.str().count("\nthe rig broke; nothing was learnt") == 1
    assert ran(pytester.path) == []
