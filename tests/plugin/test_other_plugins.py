"""Cells beside other people's plugins, which are installed from the index and run for real."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.planting import I440FX_STOCK, Q35_GUEST, SILENT, cell_id, plant
from helpers.sessions import M, ran, records

PLUGINS = (
    "allure-pytest==2.16.2", "allure-python-commons==2.16.2", "attrs", "pytest-html==4.2.0",
    "pytest-json-report==1.5.0", "pytest-metadata==3.1.1", "pytest-randomly==5.1.0",
    "pytest-rerunfailures==16.7", "pytest-timeout==2.4.0",
)  # fmt: skip

Run = Callable[..., pytest.RunResult]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where they are: not beside this suite's own, which would have them all."""
    place = tmp_path_factory.mktemp("plugins")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target",
                    place, "--disable-pip-version-check", *PLUGINS], check=True)
    return place


@pytest.fixture
def run(installed: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A session with one of them, in a process of its own; one cell fails."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(installed))

    def run(plugin: str, *words: str, **planned: Any) -> pytest.RunResult:
        plant(pytester.path, **({"verdicts": {Q35_GUEST: SILENT}} | planned))
        (pytester.path / "pytest.ini").write_text("[pytest]\n")
        return pytester.runpytest_subprocess(
            "-p", "bootmatrix.plugin", *(word for name in plugin.split() for word in ("-p", name)),
            M, *words)

    return run


@pytest.mark.parametrize("waits", [pytest.param([], marks=pytest.mark.thorough), [Q35_GUEST]])
def test_allure(run: Run, pytester: pytest.Pytester, waits: list[str]) -> None:
    run("allure_pytest.plugin", "--alluredir", "allure", waits=waits).assert_outcomes(
        passed=4, failed=1, xfailed=1)
    results = [json.loads(path.read_text()) for path in pytester.path.glob("allure/*-result.json")]
    found = {result["name"]: result for result in results}
    assert len(results) == len(found) == 6
    failed = found[Q35_GUEST]
    assert failed["status"] == "failed"
    assert SILENT["reason"] in failed["statusDetails"]["trace"]
    assert failed["statusDetails"]["message"].endswith(f"silent: {SILENT['reason']}")
    assert {one["name"]: one["value"].strip("'") for one in failed["parameters"]} == {
        "source": "bullseye", "destination": "sid", "machine": "pc-q35-5.2",
        "policy": "guest-owned", "scenario": "migrate-reset", "disk": "ahci", "accel": "tcg"}
    attached = {one["name"]: pytester.path / "allure" / one["source"]
                for one in failed["attachments"]}
    (console,) = [path for name, path in attached.items() if name.endswith("/console.log")]
    assert "SeaBIOS" in console.read_text()
    assert attached["command lines"].read_text().splitlines() == [
        f"{role}: /usr/bin/qemu-system-x86_64 -name 'guest {role}'"
        for role in ("source", "destination")]


@pytest.mark.parametrize("waits", [pytest.param([], marks=pytest.mark.thorough), [Q35_GUEST]])
def test_rerunfailures(run: Run, pytester: pytest.Pytester, waits: list[str]) -> None:
    result = run("pytest_rerunfailures", "--reruns", "2", waits=waits)
    result.assert_outcomes(passed=4, failed=1, xfailed=1)
    result.stdout.fnmatch_lines(["*1 failed, 4 passed, 1 xfailed, 2 rerun in *"])
    assert ran(pytester.path).count(Q35_GUEST) == 3
    assert "6 cells: 4 passed, 1 known (silent), 1 failed (silent)" in result.outlines
    assert "earlier run" not in result.stdout.str()
    assert "not run" not in result.stdout.str()


def test_timeout(run: Run) -> None:
    result = run("pytest_timeout", "--timeout", "1", "-k", "q35 and guest-owned", hang=Q35_GUEST)
    result.assert_outcomes(failed=1)
    assert "not run" not in result.stdout.str()


def test_randomly(run: Run, pytester: pytest.Pytester) -> None:
    run("pytest_randomly", "--randomly-seed", "3").assert_outcomes(passed=4, failed=1, xfailed=1)
    cells = ran(pytester.path)
    in_order = [cell_id(machine, policy) for machine in ("i440fx", "q35")
                for policy in ("stock", "guest-owned", "machine-owned")]
    assert cells != in_order
    assert sorted(cells) == sorted(in_order)


def test_html(run: Run, pytester: pytest.Pytester) -> None:
    run("pytest_metadata.plugin pytest_html.plugin", "--html", "page.html").assert_outcomes(
        passed=4, failed=1, xfailed=1)
    page = (pytester.path / "page.html").read_text()
    assert I440FX_STOCK in page
    assert SILENT["reason"] in page


def test_json_report(run: Run, pytester: pytest.Pytester) -> None:
    run("pytest_metadata.plugin pytest_jsonreport.plugin", "--json-report",
        "--json-report-file", "report.json").assert_outcomes(passed=4, failed=1, xfailed=1)
    report = json.loads((pytester.path / "report.json").read_text())
    assert report["summary"]["failed"] == 1
    (failed,) = [test for test in report["tests"] if test["outcome"] == "failed"]
    assert failed["nodeid"] == f"{M}::{Q35_GUEST}"
    assert SILENT["reason"] in failed["call"]["longrepr"]
    assert len(records(next(pytester.path.glob("runs/*/records.jsonl")))) == 6
