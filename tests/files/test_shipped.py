"""What is shipped is found in a checkout, and in an installed package."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.files import shipped as module
from bootmatrix.files.shipped import IMAGES, MATRICES, build, shipped

HERE = Path(__file__).parents[2]


def test_in_a_checkout_it_lies_at_the_top() -> None:
    assert (IMAGES, MATRICES) == (HERE / "images", HERE / "matrices")


def test_an_installed_package_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "lib" / "python3" / "site-packages" / "bootmatrix"
    (package / "shipped" / "images").mkdir(parents=True)
    monkeypatch.setattr(module, "PACKAGE", package)
    assert shipped("images") == package / "shipped" / "images"


def test_two_states_of_the_code_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(name: str, code: str) -> str:
        package = tmp_path / name / "bootmatrix"
        (package / "cli").mkdir(parents=True)
        (package / "cli" / "main.py").write_text(code)
        monkeypatch.setattr(module, "PACKAGE", package)
        return build()

    first = made("a", "1\n")
    for beside in ("shipped/images", "cli/__pycache__"):
        (module.PACKAGE / beside).mkdir(parents=True)
        (module.PACKAGE / beside / "x").write_text("x")
    assert first == build() == made("b", "1\n") != made("c", "2\n")
