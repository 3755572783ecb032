"""Live, by a connection of which each QEMU is given its end."""

from __future__ import annotations

import os

from bootmatrix.deadline import Deadline
from bootmatrix.machines.qemu.migration import tcp
from bootmatrix.model import MigrationMode
from bootmatrix.modes import MODES
from helpers.migrations import Vm

PLAIN = MODES[MigrationMode.PRECOPY]


def test_each_is_given_its_end_which_is_not_kept_here() -> None:
    log: list[str] = []
    source, destination = Vm("completed", log=log, name="a"), Vm("completed", log=log, name="b")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    done = tcp.migrate(source.of_qemu, destination.of_qemu, PLAIN, Deadline.after(60))
    assert done.refusal is None
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208
    assert [name for name, _ in (*source.given, *destination.given)] == ["migration"] * 2
    assert source.given[0][1] != destination.given[0][1]
    assert log.index("a getfd") < log.index("b migrate-incoming")
    assert ("migrate", {"uri": "fd:migration"}) in source.asked
    assert ("migrate-incoming", {"uri": "fd:migration"}) in destination.asked
