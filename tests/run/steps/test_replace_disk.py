"""Another disk file, found at the next boot."""

from __future__ import annotations

from pathlib import Path

from helpers.fakes import fake_guest, life


def test_the_other_disk_is_found_at_the_next_boot(tmp_path: Path) -> None:
    seen = life(fake_guest(tmp_path), ["start", "replace-disk", "reset", "suspend"])
    disks = [step.boot.up.disk for step in seen if step.boot and step.boot.up]
    assert disks == ["A", "B"]
    assert seen[3].answer is not None
