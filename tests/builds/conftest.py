"""A catalogue's file for a test."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def catalogue(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        file = tmp_path / "catalogue.yaml"
        file.write_text(textwrap.dedent(text).lstrip("\n"))
        return file

    return write
