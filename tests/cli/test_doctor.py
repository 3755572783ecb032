"""bootmatrix doctor: findings as lines or JSON, and a status that says whether cells can be run."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from bootmatrix.cli.main import main
from bootmatrix.diagnose import doctor
from bootmatrix.diagnose.doctor import Finding, Health

WELL = Finding("tool nasm", Health.OK, "/usr/bin/nasm")
POOR = Finding("accelerator kvm", Health.WARN, "this host has no /dev/kvm", "load its module")
BAD = Finding("engine", Health.FAIL, "none works", "mend one of those above")


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """What is found; the engine that was asked for is told first."""
    found: list[Finding] = []

    def examine(engine: str | None, qemus: object) -> Iterator[Finding]:
        yield Finding("asked for", Health.OK, str(engine))
        yield from found

    monkeypatch.setattr(doctor, "examine", examine)
    return found


def test_each_finding_is_a_line_and_its_remedy_another(
    finds: list[Finding], capsys: pytest.CaptureFixture[str]
) -> None:
    finds += [WELL, POOR]
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "ok    tool nasm: /usr/bin/nasm",
        "warn  accelerator kvm: this host has no /dev/kvm",
        "      mend it: load its module",
    ]


def test_what_no_cell_runs_with_is_status_1(
    finds: list[Finding], capsys: pytest.CaptureFixture[str]
) -> None:
    finds += [BAD, WELL]
    assert main(["doctor", "--engine", "docker"]) == 1
    said = capsys.readouterr().out
    assert "ok    asked for: docker" in said
    assert "FAIL  engine: none works\n      mend it: mend one of those above\n" in said


def test_json_is_one_document(finds: list[Finding], capsys: pytest.CaptureFixture[str]) -> None:
    finds += [BAD]
    assert main(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[1] == {
        "what": "engine", "state": "fail", "found": "none works",
        "mend": "mend one of those above"}
