"""Records as they arrive."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.errors import Status, UserError
from bootmatrix.records.jsonl import RecordWriter
from helpers.planting import Q35_GUEST, Q35_STOCK, SILENT, plant
from helpers.sessions import M, records


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
        "source.qemu": "5.2.0", "source.firmware": "seabios-1.14.0-2",
        "destination.qemu": "11.1.3", "destination.firmware": "seabios-1.17.0-1",
        "verdict": "silent", "reason": SILENT["reason"], "artifacts": f"cells/m.yaml/{Q35_GUEST}"}
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


def third_write_fails(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """To a file of that name three records cannot be written."""
    write, written = RecordWriter.write, []

    def failing(writer: RecordWriter, record: Mapping[str, Any]) -> None:
        if writer.path.name == name:
            written.append(record)
            if len(written) == 3:
                raise UserError("cannot write records: Broken pipe", file=writer.path)
        write(writer, record)

    monkeypatch.setattr(RecordWriter, "write", failing)


def told(result: pytest.RunResult) -> str:
    """The run's own last words."""
    text = result.stdout.str()
    assert "from the earlier run" not in text
    return text


def test_a_copy_that_breaks_off_takes_no_record_with_it(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(pytester.path)
    third_write_fails(monkeypatch, "copy.jsonl")
    result = pytester.runpytest(M, "--bootmatrix-records", "copy.jsonl", "--bootmatrix-run-dir",
                                "out")
    assert result.ret == Status.RIG_BROKEN
    assert len(records(pytester.path / "copy.jsonl")) == 2
    assert len(records(pytester.path / "out" / "records.jsonl")) == 3
    result.assert_outcomes(passed=3)
    text = told(result)
    assert "3 cells: 3 passed" in text
    assert "not run: 3 cells" in text
    assert "stopped: the rig broke: copy.jsonl: cannot write records: Broken pipe" in text.replace(
        f"{pytester.path}/", "")


def test_a_cell_that_is_not_recorded_has_not_passed(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(pytester.path)
    third_write_fails(monkeypatch, "records.jsonl")
    result = pytester.runpytest(M, "--bootmatrix-run-dir", "out")
    assert result.ret == Status.RIG_BROKEN
    assert len(records(pytester.path / "out" / "records.jsonl")) == 2
    result.assert_outcomes(passed=2, failed=1)
    text = told(result)
    assert "2 cells: 2 passed" in text
    assert "ended without a record: 1 cell\n" in text
    assert "not run: 3 cells" in text
    assert "it is not recorded: " in text


def test_records_file_that_cannot_be_made(pytester: pytest.Pytester) -> None:
    plant(pytester.path)
    (pytester.path / "file").write_text("")
    result = pytester.runpytest(M, "--bootmatrix-records", "file/all.jsonl")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *all.jsonl: cannot write records: *"])


def test_a_session_without_cells_does_not_pay_for_records(tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text("def test_nothing(): pass\n")
    program = ("import sys, pytest; code = pytest.main(['-q', '-p', 'no:cacheprovider', "
               "'-p', 'no:hypothesispytest', 'test_nothing.py']); "
               "print('pydantic' in sys.modules); sys.exit(code)")
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True,
                          text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "False"
