"""A cell as an item: its verdict as pytest's outcome, told to people."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from types import FunctionType
from typing import Any

import pytest

from bootmatrix.plugin.cells import pytest_keyboard_interrupt
from helpers.planting import I440FX_STOCK, Q35_GUEST, Q35_STOCK, SILENT, plant
from helpers.sessions import PUT_OFF, M, ran, records


def test_every_verdict_has_its_outcome(pytester: pytest.Pytester) -> None:
    plant(pytester.path, verdicts={
        Q35_GUEST: SILENT,
        I440FX_STOCK: {"verdict": "unsupported", "reason": "QEMU 11.1.3 has no pc-i440fx-5.2"},
        I440FX_STOCK.replace("stock", "guest-owned"): {
            "verdict": "error", "reason": "the monitor broke off"},
    })
    result = pytester.runpytest(M, "-rA")
    result.assert_outcomes(passed=2, failed=2, skipped=1, xfailed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([
        f"SKIPPED * {M}*: QEMU 11.1.3 has no pc-i440fx-5.2",
        f"XFAIL {M}::{Q35_STOCK} - the old firmware hangs at its reset",
        f"FAILED {M}::*guest-owned*",
    ])
    result.stdout.fnmatch_lines(["the rig broke; nothing was learnt about the firmware:",
                                 "the monitor broke off"])


NOTHING = "none of these cells can be run: nothing was learnt"


@pytest.mark.parametrize(("beside", "status", "workers"), [
    ("", pytest.ExitCode.NO_TESTS_COLLECTED, "0"),
    ("def test_ours(): pass\n", pytest.ExitCode.NO_TESTS_COLLECTED, "0"),
    ("import pytest\ndef test_ours(): pytest.skip()\n", pytest.ExitCode.NO_TESTS_COLLECTED, "0"),
    ("def test_ours(): assert 0\n", pytest.ExitCode.TESTS_FAILED, "0"),
    # Workers report a test as it ended; how that counts is told above.
    pytest.param("", pytest.ExitCode.NO_TESTS_COLLECTED, "2", marks=pytest.mark.thorough),
    pytest.param("def test_ours(): pass\n", pytest.ExitCode.NO_TESTS_COLLECTED, "2",
                 marks=pytest.mark.thorough),
], ids=["alone", "one passes", "one is skipped", "one fails", "alone-2", "one passes-2"])
def test_a_session_in_which_no_cell_can_be_run_is_not_green(
    pytester: pytest.Pytester, beside: str, status: pytest.ExitCode, workers: str
) -> None:
    cannot = {"verdict": "unsupported", "reason": "QEMU 11.1.3 has no pc-q35-5.2"}
    plant(pytester.path, verdicts={
        Q35_GUEST: cannot, Q35_GUEST.replace("guest", "machine"): cannot,
        Q35_STOCK: cannot | {"known": "declared"}})
    more = []
    if beside:
        (pytester.path / "test_beside.py").write_text(beside)
        more = ["test_beside.py"]
    result = pytester.runpytest(M, *more, "-n", workers, "-k", "test_ours or q35")
    assert result.ret == status
    assert NOTHING in result.stdout.str()


def test_one_of_many_shards_may_have_none_that_can_be_run(pytester: pytest.Pytester) -> None:
    cannot = {"verdict": "unsupported", "reason": "QEMU 11.1.3 has no pc-q35-5.2"}
    plant(pytester.path, verdicts={
        Q35_GUEST: cannot, Q35_GUEST.replace("guest", "machine"): cannot,
        Q35_STOCK: cannot | {"known": "declared"}})
    for shard, status in (("1/2", pytest.ExitCode.OK),
                          ("1/1", pytest.ExitCode.NO_TESTS_COLLECTED)):
        result = pytester.runpytest(M, "-k", "q35", "--bootmatrix-shard", shard)
        assert result.ret == status, shard
        assert NOTHING in result.stdout.str()


def interrupted_where_there_is_no_line() -> pytest.ExceptionInfo[BaseException]:
    """A KeyboardInterrupt that came through code of which a compiler has told no lines."""
    def raises() -> None:
        raise KeyboardInterrupt

    without = FunctionType(raises.__code__.replace(co_linetable=b""), {})
    with pytest.raises(KeyboardInterrupt) as caught:
        without()
    assert [entry._rawentry.tb_lineno for entry in caught.traceback][-1] is None
    return caught


def test_an_interruption_may_come_where_there_is_no_line() -> None:
    caught: Any = interrupted_where_there_is_no_line()
    with pytest.raises(TypeError, match="NoneType"):
        caught.getrepr(funcargs=True)
    pytest_keyboard_interrupt(caught)
    assert "KeyboardInterrupt" in str(caught.getrepr(funcargs=True).reprcrash)


@pytest.mark.parametrize("verdict", [
    "wrong-firmware", "wrong-disk", "no-boot", "silent", "blocked", "witness-conflict"])
def test_claims_that_are_false_fail(pytester: pytest.Pytester, verdict: str) -> None:
    plant(pytester.path, verdicts={Q35_GUEST: {"verdict": verdict, "reason": "boot 2: planted"}})
    result = pytester.runpytest(M, "--bootmatrix-cell", Q35_GUEST)
    result.assert_outcomes(failed=1)
    assert f"{verdict}: boot 2: planted" in result.outlines
    assert f"1 failed ({verdict})" in result.stdout.str()


def test_a_failure_is_told_to_people(pytester: pytest.Pytester) -> None:
    plant(pytester.path, verdicts={Q35_GUEST: SILENT})
    result = pytester.runpytest(M, "--bootmatrix-cell", Q35_GUEST)
    result.stdout.fnmatch_lines([
        "silent: boot 2 (reset on destination): not a byte in 3.0 s",
        "",
        "boot  step   host         expected          console           rom               guest up",
        "1     start  source       seabios-1.14.0-2  seabios-1.14.0-2  seabios-1.14.0-2  yes,*",
        "2     reset  destination  seabios-1.14.0-2  -                 seabios-1.14.0-2  no,*",
        "the console's last lines:",
        "    the last words",
        f"artifacts: runs/*/cells/m.yaml/{Q35_GUEST}",
        f"again: *bootmatrix run {M} --cell {Q35_GUEST}",
    ], consecutive=False)
    assert "Traceback" not in result.stdout.str()
    assert "plugin.py" not in result.stdout.str()


def test_a_known_one_is_told_by_its_reason_alone(pytester: pytest.Pytester) -> None:
    """No traceback of ours: nobody asked for one, and to make it is to read pytest's source."""
    plant(pytester.path)
    result = pytester.runpytest(M, "--bootmatrix-cell", Q35_STOCK, "--xfail-tb")
    result.assert_outcomes(xfailed=1)
    result.stdout.fnmatch_lines(["*XFAILURES*", "_*_", "the old firmware hangs at its reset"],
                                consecutive=True)
    assert "cells.py" not in result.stdout.str()


def test_another_verdict_than_the_declared_one_fails(pytester: pytest.Pytester) -> None:
    plant(pytester.path, verdicts={Q35_STOCK: {"verdict": "blocked", "reason": "refused"}})
    result = pytester.runpytest(M, "--bootmatrix-cell", Q35_STOCK)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*declares something else*hangs at its reset*"])


def test_a_known_one_that_passes_is_fixed(pytester: pytest.Pytester) -> None:
    plant(pytester.path, verdicts={Q35_STOCK: {"verdict": "pass"}})
    result = pytester.runpytest(M)
    assert result.ret == 0
    assert result.parseoutcomes() == {"passed": 5, "fixed": 1}
    result.stdout.fnmatch_lines(["! no longer, 1 cell: the old firmware hangs at its reset"])
    result = pytester.runpytest(M, "--strict-known")
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines(["passes, but the matrix declares a failure (--strict-known)*"])


def test_runxfail_takes_no_excuse(pytester: pytest.Pytester) -> None:
    plant(pytester.path)
    pytester.runpytest(M, "--runxfail").assert_outcomes(passed=5, failed=1)


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_a_cell_that_is_waited_for_comes_after_the_others(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    late = dict(zip(("verdict", "reason"), PUT_OFF, strict=True))
    plant(pytester.path, waits=[I440FX_STOCK, Q35_STOCK], verdicts={I440FX_STOCK: late})
    # Another file before and after: what pytest has set up for one item fits the next.
    for name in ("test_before.py", "test_behind.py"):
        (pytester.path / name).write_text("def test_other(): pass\n")
    result = pytester.runpytest(
        "test_before.py", M, "test_behind.py", *workers, "--junit-xml", "junit.xml", "-v")
    result.assert_outcomes(passed=6, failed=1, xfailed=1)
    log = (pytester.path / "rig.log").read_text().splitlines()
    waiting = [at for at, line in enumerate(log) if line.startswith("put off ")]
    told = [at for at, line in enumerate(log) if line in (
        f"run {I440FX_STOCK}", f"run {Q35_STOCK}")]
    assert len(waiting) == len(told) == 2
    assert len(ran(pytester.path)) == 6
    if not workers:
        others = [at for at, line in enumerate(log) if line.startswith("run ") and at not in told]
        assert min(told) > max(others)
    found, = pytester.path.glob("runs/*/records.jsonl")
    assert len(records(found)) == 6
    cases = list(ElementTree.parse(pytester.path / "junit.xml").iter("testcase"))
    assert len(cases) == 8


def test_with_x_what_waits_is_not_run_after_a_failure(pytester: pytest.Pytester) -> None:
    plant(pytester.path, waits=[I440FX_STOCK], verdicts={Q35_GUEST: SILENT})
    result = pytester.runpytest(M, "-x")
    result.assert_outcomes(failed=1, passed=2, xfailed=1)
    assert I440FX_STOCK not in ran(pytester.path)
    result.stdout.fnmatch_lines(["not run: 2 cells"])


def test_with_x_a_failure_of_what_was_waited_for_ends_the_session(
    pytester: pytest.Pytester,
) -> None:
    plant(pytester.path, waits=[I440FX_STOCK, Q35_GUEST],
          verdicts={Q35_GUEST: SILENT, I440FX_STOCK: SILENT})
    pytester.runpytest(M, "-x").assert_outcomes(failed=1, passed=3, xfailed=1)
    pytester.runpytest(M, "--lf", "-n", "2").assert_outcomes(failed=1)
