"""By a file that QEMU itself writes and reads, in which the memory has places of its own.

Both QEMUs see it: they are in one cell.
"""

from __future__ import annotations

from bootmatrix.deadline import Deadline
from bootmatrix.machines.qemu.migration.base import Migration, attempt, outcome, prepare
from bootmatrix.machines.qemu.process import VM
from bootmatrix.modes import Mode
from bootmatrix.witnesses.refusal import Refusal

_FILE = "migration.mapped"


def migrate(source: VM, destination: VM, mode: Mode, deadline: Deadline) -> Migration:
    """The source writes all of it, then the destination reads it."""
    uri = f"file:{destination.inside}/{_FILE}"

    def move() -> Refusal | None:
        since = prepare(source, mode, deadline, mode.source)
        source.monitor.execute("migrate", {"uri": uri}, deadline=deadline)
        if refusal := outcome(source, since, deadline):
            return refusal
        since = prepare(destination, mode, deadline, mode.destination)
        destination.monitor.execute("migrate-incoming", {"uri": uri}, deadline=deadline)
        return outcome(destination, since, deadline)

    try:
        return attempt((destination, source), move, deadline)
    finally:
        destination.scratch.cell.unlink(destination.file(_FILE))
