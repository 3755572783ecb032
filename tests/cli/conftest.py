"""A directory with the command in it, and two images."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.commands import place


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return place(tmp_path)
