"""Live, through a socket of QEMU's own: the destination listens, the source connects."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from bootmatrix.deadline import Deadline
from bootmatrix.machines.qemu.migration.base import Migration, live
from bootmatrix.machines.qemu.process import VM
from bootmatrix.modes import Mode

SOCKET = "migration.sock"


def migrate(source: VM, destination: VM, mode: Mode, deadline: Deadline) -> Migration:
    """Migrate live; both QEMUs are in one cell, and see the socket there."""
    return live(source, destination, connected(destination), mode, deadline)


@contextlib.contextmanager
def connected(destination: VM) -> Iterator[str]:
    """The URI of a socket at which the destination listens; it is removed afterwards."""
    try:
        yield f"unix:{destination.inside}/{SOCKET}"
    finally:
        destination.scratch.cell.unlink(destination.file(SOCKET))
