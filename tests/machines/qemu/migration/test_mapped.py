"""By a file that both QEMUs see."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.machines.qemu.migration import mapped
from bootmatrix.model import MigrationMode
from bootmatrix.modes import MODES
from helpers.migrations import Vm

URI = {"uri": "file:/cell/2-destination/migration.mapped"}


@pytest.mark.parametrize(("saved", "loaded"), [
    ("completed", "completed"), ("failed", "completed"), ("completed", "failed")])
def test_the_source_is_done_before_the_destination_begins(saved: str, loaded: str) -> None:
    log: list[str] = []
    removed: list[str] = []
    source, destination = Vm(saved, log=log, name="a"), Vm(loaded, log=log, name="b")
    destination.of_qemu.inside = "/cell/2-destination"
    destination.of_qemu.file = lambda name: f"2-destination/{name}"
    destination.of_qemu.scratch = SimpleNamespace(cell=SimpleNamespace(unlink=removed.append))
    done = mapped.migrate(source.of_qemu, destination.of_qemu, MODES[MigrationMode.MAPPED_RAM],
                          Deadline.after(60))
    assert (done.refusal is None) is (saved == loaded == "completed")
    assert ("migrate", URI) in source.asked
    assert (("migrate-incoming", URI) in destination.asked) is (saved == "completed")
    if saved == "completed":
        assert log.index("a wait") < log.index("b migrate-incoming")
    assert removed == ["2-destination/migration.mapped"]
