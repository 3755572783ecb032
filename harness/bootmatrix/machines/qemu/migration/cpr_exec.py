"""In one process: the source replaces its program by the destination's, and its memory stays.

QEMU writes the state of its devices to a file, and calls execvp(3) with the command line that it
was given; descriptors of the memory live on. The new program makes connections of its own. QEMU's
docs/devel/migration/CPR.rst, "cpr-exec mode".
"""

from __future__ import annotations

from bootmatrix.deadline import Deadline
from bootmatrix.errors import MonitorError, QemuError
from bootmatrix.machines.qemu.migration.base import Migration, attempt, failure, outcome, prepare
from bootmatrix.machines.qemu.process import VM
from bootmatrix.modes import Mode
from bootmatrix.witnesses.refusal import Refusal, classify

_FILE = "migration.cpr"


def migrate(source: VM, destination: VM, mode: Mode, deadline: Deadline) -> Migration:
    """Have the source's process run the destination's program, which has none of its own."""
    uri = f"file:{destination.inside}/{_FILE}"
    asked = [source]  # they have one log

    def move() -> Refusal | None:
        since = prepare(source, mode, deadline,
                        {**mode.source, "cpr-exec-command": list(destination.argv)})
        source.monitor.execute("migrate", {"uri": uri}, deadline=deadline)
        if refusal := _stayed(source, since, deadline):
            return refusal
        destination.succeed(source)
        asked[:] = [destination]
        try:
            destination.connect(deadline)
        except QemuError as error:
            return classify(error.tail, error.status)
        since = prepare(destination, mode, deadline, mode.destination)
        destination.monitor.execute("migrate-incoming", {"uri": uri}, deadline=deadline)
        return outcome(destination, since, deadline)

    try:
        return attempt(asked, move, deadline)
    finally:
        destination.scratch.cell.unlink(destination.file(_FILE))


def _stayed(source: VM, since: int, deadline: Deadline) -> Refusal | None:
    """Why a QEMU is still the program that it was; None once it is another.

    A migration that has completed can fail yet, where the program cannot be replaced. Of one that
    was nobody tells: its connections are closed.
    """
    try:
        source.monitor.wait("MIGRATION", since=since, deadline=deadline,
                            status=("failed", "cancelled"))
    except MonitorError:
        return None
    return failure(source, "failed", deadline)
