"""A new file in the place of a host's firmware: what runs keeps what it has."""

from __future__ import annotations

from pathlib import Path

from helpers.fakes import VERSIONS, fake_guest, life

OLD, NEW, _ = VERSIONS
UPGRADE = {"upgrade-host": {"host": "source", "firmware-of": "destination"}}


def test_it_is_found_by_a_new_process(tmp_path: Path) -> None:
    seen = life(fake_guest(tmp_path), ["start", UPGRADE, "reset", "shutdown", "start"])
    ran = [step.boot.up.bios_version for step in seen if step.boot and step.boot.up]
    assert ran == [OLD, OLD, NEW]
    assert seen[1].host == 0
