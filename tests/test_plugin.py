"""The pytest face, in real pytest sessions with planted verdicts."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from planting import I440FX_STOCK, MATRIX, Q35_GUEST, Q35_STOCK, SILENT, plant

# pytester forgets what a session imports: what stays here is not imported in each again.
import harness.matrix
import harness.report.summary  # noqa: F401

M = "matrices/m.yaml"


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def ran(here: Path) -> list[str]:
    log = here / "rig.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [line.removeprefix("run ") for line in lines if line.startswith("run ")]


def test_import_brings_in_nothing_heavy() -> None:
    heavy = ("pydantic", "ruamel", "docker", "rich", "qemu", "pexpect", "asyncio",
             "harness.matrix", "harness.images", "harness.runner", "harness.report.table")
    code = ("import pytest, sys; before = set(sys.modules); import harness.plugin; "
            "print(*sorted(set(sys.modules) - before))")
    new = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                         check=True).stdout.split()
    assert "harness.plugin" in new
    assert [name for name in new if name in heavy or name.split(".")[0] in heavy] == []


def test_a_session_without_a_matrix_stays_light(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import sys
        def test_light():
            assert not {"ruamel.yaml", "docker", "harness.matrix"} & set(sys.modules)
    """)
    pytester.makefile(".yaml", other="services: {web: {image: x}}")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
    assert not (pytester.path / "runs").exists()


def test_cells_are_items_with_their_ids(pytester: pytest.Pytester) -> None:
    plant(pytester.path)
    result = pytester.runpytest("--collect-only", "-q", M)
    assert f"{M}::{Q35_STOCK}" in result.outlines
    result.stdout.fnmatch_lines(["6 tests collected*"])
    assert ran(pytester.path) == []
    # Below matrices/ the file need not be named, elsewhere it must be.
    pytester.runpytest("--collect-only", "-q").stdout.fnmatch_lines(["6 tests collected*"])
    (pytester.path / "matrices").rename(pytester.path / "other")
    pytester.runpytest("--collect-only", "-q").stdout.fnmatch_lines(["no tests collected*"])
    result = pytester.runpytest("--collect-only", "-q", "other/m.yaml")
    result.stdout.fnmatch_lines(["6 tests collected*"])


def test_one_cell_by_nodeid_and_by_option(pytester: pytest.Pytester) -> None:
    plant(pytester.path)
    pytester.runpytest(f"{M}::{I440FX_STOCK}").assert_outcomes(passed=1)
    pytester.runpytest(M, "--bootmatrix-cell", Q35_STOCK).assert_outcomes(xfailed=1)
    assert ran(pytester.path) == [I440FX_STOCK, Q35_STOCK]


@pytest.mark.parametrize(("arguments", "count"), [
    (("-k", "q35 and guest-owned"), 1),
    (("-k", "not stock"), 4),
    (("-m", "machine(name='pc-q35-5.2')"), 3),
    (("-m", "policy(name='stock') and destination(name='sid')"), 2),
    (("-m", "host(qemu='debian-bullseye') and disk(name='ahci')"), 6),
    (("-m", "source(name='sid') or scenario(name='cold-boot')"), 0),
    (("-m", "arch(name='x86_64') and guest(name='probe') and smp(name='1')"), 6),
    (("-m", "cpu(name='') and nic(name='none')"), 6),
    (("-m", "guest(name='linux')"), 0),
])
def test_selection(pytester: pytest.Pytester, arguments: tuple[str, str], count: int) -> None:
    plant(pytester.path)
    result = pytester.runpytest(M, "--collect-only", "-q", "--strict-markers", *arguments)
    assert sum(line.startswith(f"{M}::") for line in result.outlines) == count


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
        "silent: boot 2 (reset on destination): nothing on the console within 3.0 s",
        "",
        "boot  step   host         expected          console           rom               guest up",
        "1     start  source       seabios-1.14.0-2  seabios-1.14.0-2  seabios-1.14.0-2  yes,*",
        "2     reset  destination  seabios-1.14.0-2  -                 seabios-1.14.0-2  no,*",
        "the console's last lines:",
        "    the last words",
        f"artifacts: runs/*/cells/{Q35_GUEST}",
        f"again: *bootmatrix run {M} --cell {Q35_GUEST}",
    ], consecutive=False)
    assert "Traceback" not in result.stdout.str()
    assert "plugin.py" not in result.stdout.str()


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


def test_xdist_runs_the_same_cells(pytester: pytest.Pytester) -> None:
    plant(pytester.path, verdicts={Q35_GUEST: SILENT})
    result = pytester.runpytest(M, "-n", "2", "--bootmatrix-records", "all.jsonl",
                                "--bootmatrix-run-dir", "out")
    result.assert_outcomes(passed=4, failed=1, xfailed=1)
    found = records(pytester.path / "all.jsonl")
    assert sorted(record["cell"]["id"] for record in found) == sorted(ran(pytester.path))
    assert len(found) == 6
    assert records(pytester.path / "out" / "records.jsonl") == found
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


def test_junit_has_the_axes_and_the_verdict(pytester: pytest.Pytester) -> None:
    plant(pytester.path, verdicts={Q35_GUEST: SILENT})
    pytester.runpytest(M, "--junit-xml", "junit.xml")
    cases = {case.get("name"): case
             for case in ElementTree.parse(pytester.path / "junit.xml").iter("testcase")}
    assert len(cases) == 6
    properties = {str(found.get("name")): found.get("value")
                  for found in cases[Q35_GUEST].iter("property")}
    assert properties == {
        "source": "bullseye", "destination": "sid", "machine": "pc-q35-5.2",
        "policy": "guest-owned", "scenario": "migrate-reset", "disk": "ahci", "accel": "tcg",
        "verdict": "silent", "reason": SILENT["reason"], "artifacts": f"cells/{Q35_GUEST}"}
    assert cases[Q35_GUEST].find("failure") is not None
    skipped = cases[Q35_STOCK].find("skipped")
    assert skipped is not None
    assert skipped.get("type") == "pytest.xfail"


def test_records_are_written_as_they_arrive(pytester: pytest.Pytester) -> None:
    plant(pytester.path)
    (pytester.path / "stop.py").write_text(
        "import json, os\n"
        "from pathlib import Path\n"
        "def pytest_runtest_logfinish(nodeid):\n"
        "    if 'q35' in nodeid: os._exit(9)\n")
    result = pytester.runpytest_subprocess(M, "-p", "stop", "--bootmatrix-records", "all.jsonl")
    assert result.ret == 9
    found = records(pytester.path / "all.jsonl")
    assert [record["cell"]["machine"] for record in found] == ["pc-i440fx-5.2"] * 3 + ["pc-q35-5.2"]
    assert found[0]["matrix"] == M


def test_records_file_that_cannot_be_made(pytester: pytest.Pytester) -> None:
    plant(pytester.path)
    (pytester.path / "file").write_text("")
    result = pytester.runpytest(M, "--bootmatrix-records", "file/all.jsonl")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *all.jsonl: cannot write records: *"])


@pytest.mark.parametrize(("broken", "message"), [
    (MATRIX.replace("policy: [stock", "policy: [stck"), f"{M}:*:*stck*"),
    (MATRIX.replace("[pc-i440fx-5.2, ", "[[pc"), f"{M}:*"),
    (MATRIX.replace("debian-sid", "debian-potato"), f"{M}: no QEMU build is called*"),
])
def test_a_mistake_in_a_matrix_is_one_line(
    pytester: pytest.Pytester, broken: str, message: str
) -> None:
    plant(pytester.path, matrix=broken)
    result = pytester.runpytest(M)
    assert result.ret not in (0, pytest.ExitCode.NO_TESTS_COLLECTED)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([message])
    assert "Traceback" not in result.stdout.str()
    assert ".py:" not in result.stdout.str()
    assert ran(pytester.path) == []


def test_images_are_made_once_before_the_first_cell(pytester: pytest.Pytester) -> None:
    plant(pytester.path)
    pytester.runpytest(M, "-k", "q35 and stock")
    lines = (pytester.path / "rig.log").read_text().splitlines()
    assert lines[0] == "prepare debian-bullseye debian-sid"
    assert lines[-2:] == [f"run {Q35_STOCK}", "close main"]


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
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


def test_ten_thousand_cells_are_collected_in_three_seconds(pytester: pytest.Pytester) -> None:
    hosts = [f"h{number}" for number in range(26)]
    plant(pytester.path, matrix="\n".join((
        "schema: 1",
        "hosts:", *(f"  {host}: {{qemu: debian-sid}}" for host in hosts),
        "axes:",
        f"  source: [{', '.join(hosts)}]",
        f"  destination: [{', '.join(hosts)}]",
        "  machine: [pc-i440fx-5.2, pc-q35-5.2]",
        "  policy: [stock, guest-owned, guest-owned-versioned, machine-owned, reread]",
        "  scenario: [migrate-reset, migrate-restart]",
        "  disk: ahci", "")))
    begun = time.process_time()
    result = pytester.runpytest(M, "--collect-only", "-qq")
    spent = time.process_time() - begun
    assert len(result.outlines) >= 1
    result.stdout.fnmatch_lines([f"{M}: 13520"])
    assert spent < 3 * 1.352
