"""``bootmatrix matrix`` names the shipped matrices, and prints one as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.cli.main import main
from bootmatrix.errors import Status
from bootmatrix.files.shipped import MATRICES


def test_the_names_with_what_each_asks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["matrix"]) == Status.GREEN
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(p.stem for p in MATRICES.glob("*.yaml"))
    assert all(line.endswith((".", "?")) for line in lines)
    assert "contract     The contract between firmware and QEMU: each firmware build on each " \
           "QEMU build, started once and reset once." in lines


@pytest.mark.parametrize("path", sorted(MATRICES.glob("*.yaml")), ids=lambda path: path.stem)
def test_one_is_printed_as_it_is(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["matrix", path.stem]) == Status.GREEN
    assert capsys.readouterr().out == path.read_text()


def test_another_name_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["matrix", "../images/catalogue"]) == Status.USER_ERROR
    assert capsys.readouterr().err.startswith(
        "bootmatrix: no matrix '../images/catalogue' comes with bootmatrix (these do: bench, ")
