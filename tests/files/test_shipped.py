"""What is shipped is found in a checkout, and in an installed package."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.files import shipped as module
from bootmatrix.files.shipped import IMAGES, MATRICES, shipped

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
