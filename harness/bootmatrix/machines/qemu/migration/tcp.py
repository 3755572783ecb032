"""Live, through a connection of which each QEMU is given its end.

None of TCP: the sandboxes have no network, and such a socket is one of this host's network
wherever it goes. Who has it can disconnect it (connect(2), AF_UNSPEC) and connect it to something
else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from bootmatrix.deadline import Deadline
from bootmatrix.machines.qemu.migration.base import Migration, connect, live
from bootmatrix.machines.qemu.process import VM
from bootmatrix.modes import Mode


def migrate(source: VM, destination: VM, mode: Mode, deadline: Deadline) -> Migration:
    """Migrate live, by a connection that the harness makes."""
    return live(source, destination, _connected(source, destination, deadline), mode,
                deadline)


@contextlib.contextmanager
def _connected(source: VM, destination: VM, deadline: Deadline) -> Iterator[str]:
    yield connect(source, destination, deadline)
