"""What tests of the nvram share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bootmatrix.nvram import Nvram
from helpers.nvram_files import make


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Nvram]:
    """An initialised nvram on one host."""
    with make(tmp_path / "source") as nvram:
        yield nvram
