"""Live, through a socket that the destination's QEMU listens at."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.machines.qemu.migration import unix
from bootmatrix.model import MigrationMode
from bootmatrix.modes import MODES
from helpers.migrations import Vm

PLAIN = MODES[MigrationMode.PRECOPY]


@pytest.mark.parametrize("said", ["completed", "failed"])
def test_the_socket_is_the_destination_s_and_is_removed_whatever_came(said: str) -> None:
    removed: list[str] = []
    source, destination = Vm("completed"), Vm(said)
    destination.of_qemu.inside = "/cell/2-destination"
    destination.of_qemu.file = lambda name: f"2-destination/{name}"
    destination.of_qemu.scratch = SimpleNamespace(cell=SimpleNamespace(unlink=removed.append))
    done = unix.migrate(source.of_qemu, destination.of_qemu, PLAIN, Deadline.after(60))
    assert (done.refusal is None) is (said == "completed")
    uri = {"uri": "unix:/cell/2-destination/migration.sock"}
    assert ("migrate-incoming", uri) in destination.asked
    assert ("migrate", uri) in source.asked
    assert removed == ["2-destination/migration.sock"]
