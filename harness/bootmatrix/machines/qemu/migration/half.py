"""A migration that ends half-way: it is cancelled, or its destination is killed."""

from __future__ import annotations

import time

from bootmatrix.deadline import Deadline
from bootmatrix.errors import MonitorError
from bootmatrix.machines.qemu.migration.base import prepare
from bootmatrix.machines.qemu.migration.unix import connected
from bootmatrix.machines.qemu.process import VM
from bootmatrix.model import MigrationEnd
from bootmatrix.modes import Mode

# Bytes a second. The smallest guest's memory takes more than this in the names of its pages alone.
_PACE = 4096
_LOOK_SECONDS = 0.01
_CLEAN_SECONDS = 10.0


def fail(source: VM, destination: VM, mode: Mode, by: MigrationEnd, deadline: Deadline) -> None:
    """Begin to migrate, and end it while memory goes over. The guest goes on at the source.

    Raises MonitorError where it had come to an end of its own.
    """
    since = prepare(source, mode, deadline)
    prepare(destination, mode, deadline)
    execute = source.monitor.execute
    execute("migrate-set-parameters", {"max-bandwidth": _PACE}, deadline=deadline)
    with connected(destination) as uri:
        destination.monitor.execute("migrate-incoming", {"uri": uri}, deadline=deadline)
        execute("migrate", {"uri": uri}, deadline=deadline)
        _until(source, since, deadline, "active")
        if by is MigrationEnd.CANCELLED:
            execute("migrate_cancel", deadline=deadline)
            _until(source, since, deadline, "cancelled")
        else:
            destination.process.kill()
            _until(source, since, deadline, "failed")
    _cleaned_up(source, deadline)


def _cleaned_up(source: VM, deadline: Deadline) -> None:
    """Wait until the source takes another migration, or show that it will not.

    It tells of the end before it has let go of the channels ("duplicate yank instance"), and no
    event says that it has. A QEMU before 6.0 has no such list, and no such refusal. One that does
    not let go at all refuses the next migration, in its own words.
    """
    bound = deadline.sooner(_CLEAN_SECONDS)
    while not bound.expired:
        try:
            there = source.monitor.execute("query-yank", deadline=deadline)
        except MonitorError:
            return
        if not isinstance(there, list) or {"type": "migration"} not in there:
            return
        time.sleep(_LOOK_SECONDS)


def _until(source: VM, since: int, deadline: Deadline, wanted: str) -> None:
    ends = ("completed", "failed", "cancelled")
    event = source.monitor.wait("MIGRATION", since=since, deadline=deadline, status=(wanted, *ends))
    if event.data["status"] != wanted:
        raise MonitorError(f"{source.name}: the migration was to be {wanted}, and is "
                           f"{event.data['status']}")
