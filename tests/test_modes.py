"""What each mode of a migration takes."""

from __future__ import annotations

from pathlib import Path

from bootmatrix.model import MigrationMode
from bootmatrix.modes import MODES, lacking
from helpers.fakes import hosts


def test_every_mode_has_its_row() -> None:
    assert set(MODES) == set(MigrationMode)


def test_a_host_that_is_too_old_is_named(tmp_path: Path) -> None:
    there = hosts(tmp_path)
    assert list(lacking(MigrationMode.MULTIFD, there)) == []
    assert list(lacking(MigrationMode.MAPPED_RAM, there)) == [
        "mapped-ram is QEMU 9.0's and later, h0 has 5.2.0",
        "mapped-ram is QEMU 9.0's and later, h2 has 7.2.22"]
