"""A migration that ends half-way: by who asked for it, by its destination, or by what is between.
"""

from __future__ import annotations

import contextlib
import time

from bootmatrix.deadline import Deadline
from bootmatrix.errors import DeadlineExceeded, MonitorError
from bootmatrix.machines.base import LAST_WORDS_SECONDS
from bootmatrix.machines.qemu.migration import spoiled
from bootmatrix.machines.qemu.migration.base import prepare
from bootmatrix.machines.qemu.migration.unix import connected
from bootmatrix.machines.qemu.process import VM
from bootmatrix.model import MigrationEnd
from bootmatrix.modes import Mode
from bootmatrix.witnesses.refusal import classify

_PACE = 4096  # bytes a second; QEMU makes a hundred times that of it
_LOOK_SECONDS = 0.01
_CLEAN_SECONDS = 10.0


def fail(
    source: VM, destination: VM, mode: Mode, by: MigrationEnd, cut_at: int, deadline: Deadline
) -> str:
    """Begin to migrate, and end it while memory goes over. The guest goes on at the source.

    The stream is cut after ``cut_at`` bytes, where that is to end it. Returns how it has ended.
    Raises MonitorError where it had come to an end of its own.
    """
    since = prepare(source, mode, deadline, mode.source)
    prepare(destination, mode, deadline, mode.destination)
    held = by in (MigrationEnd.CANCELLED, MigrationEnd.DESTINATION_KILLED)
    refuses = by is MigrationEnd.DESTINATION_REFUSES
    with contextlib.ExitStack() as stack:
        if not mode.one_way:  # no relay passes it on: it is slowed down instead
            source.monitor.execute(
                "migrate-set-parameters", {"max-bandwidth": _PACE}, deadline=deadline)
            uri, relay = stack.enter_context(connected(destination)), None
        else:
            uri, relay = spoiled.relay(
                source, destination, deadline, foreign=refuses,
                hold_at=spoiled.HOLD_AT if held else None,
                cut_at=cut_at if by is MigrationEnd.STREAM_CUT else None)
        destination.monitor.execute("migrate-incoming", {"uri": uri}, deadline=deadline)
        source.monitor.execute("migrate", {"uri": uri}, deadline=deadline)
        if held:
            _until(source, since, deadline, "active")
        if by is MigrationEnd.CANCELLED:
            source.monitor.execute("migrate_cancel", deadline=deadline)
        elif by is MigrationEnd.DESTINATION_KILLED:
            destination.process.kill()
        _until(source, since, deadline,
               "cancelled" if by is MigrationEnd.CANCELLED else "failed")
    how = by.value
    if refuses:
        how = _last_words(destination, deadline)
    elif by is MigrationEnd.STREAM_CUT:
        assert relay is not None, "bootmatrix.matrix.unsupported has let this through"
        how = f"cut after {relay.passed} bytes"
    _cleaned_up(source, deadline)
    return how


def _last_words(destination: VM, deadline: Deadline) -> str:
    """Why a destination has refused; it ends then. Raises MonitorError where it has not."""
    try:
        destination.process.wait(deadline.sooner(LAST_WORDS_SECONDS))
    except DeadlineExceeded:
        raise MonitorError(f"{destination.name}: it was to refuse a migration, and goes on"
                           ) from None
    return f"refused: {classify(destination.log_tail())}"


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
