"""Live, and the guest goes on at the destination while part of its memory is still at the source.

After a pass over all of the memory, or at once, which is after none. Where its connection breaks
then, neither side has all of the guest: both pause, and go on by another.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from typing import Any

from bootmatrix.deadline import Deadline
from bootmatrix.errors import HarnessError, MonitorError
from bootmatrix.machines.qemu.migration.base import (
    ENDS,
    Migration,
    attempt,
    connect,
    give,
    live,
    outcome,
    prepare,
)
from bootmatrix.machines.qemu.migration.unix import connected
from bootmatrix.machines.qemu.process import VM
from bootmatrix.modes import Mode
from bootmatrix.witnesses.refusal import Refusal

# Bytes a second. A guest that idles makes a page dirty with each tick of its clock, 55 ms; at a
# page in 100 ms, which is how often QEMU gives out what may be sent, there is always one left.
_CRAWL = 40 << 10
# Since 8.0 a QEMU counts what has left its buffer, which are 32 pages at once: a first pass takes
# a second at any pace. Before, it would take a quarter of a minute, and goes so slow only once so
# few bytes are left of it.
_BY_BUFFERS = 8
_LEFT = 256 << 10
_LOOK_SECONDS = 0.01
_ACTIVE, _PAUSED = "postcopy-active", "postcopy-paused"
# What nobody asks for goes so slowly, in bytes a second, that some is left when it breaks.
_POSTCOPY_PACE = "max-postcopy-bandwidth"


def migrate(source: VM, destination: VM, mode: Mode, deadline: Deadline) -> Migration:
    """Migrate live; raises HarnessError if all was there before postcopy could begin."""
    if mode.recovers:
        return _interrupted(source, destination, mode, deadline)

    def begun(since: int) -> None:
        if mode.passes:
            _wait_for_passes(source, mode.passes, deadline)
        source.monitor.execute("migrate-start-postcopy", deadline=deadline)
        event = source.monitor.wait("MIGRATION", since=since, deadline=deadline,
                                    status=(*ENDS, _ACTIVE))
        if event.data["status"] == "completed":
            raise HarnessError(f"{source.name}: all had arrived before postcopy began")

    return live(source, destination, connected(destination), mode, deadline, begun)


def _interrupted(source: VM, destination: VM, mode: Mode, deadline: Deadline) -> Migration:
    """The same by a connection that breaks once the guest runs at the destination.

    The next one is given to both beforehand: a destination whose guest waits for memory might take
    nothing more from its monitor but what is said out of band.
    """

    def move() -> Refusal | None:
        of_source = prepare(source, mode, deadline, {**mode.source, _POSTCOPY_PACE: _CRAWL})
        of_destination = prepare(destination, mode, deadline, mode.destination)
        ours, theirs = socket.socketpair()
        with ours, theirs, ours.dup() as first:
            uri = give(source, ours, deadline)
            give(destination, theirs, deadline)
            another = connect(source, destination, deadline, "recovery")
            destination.monitor.execute("migrate-incoming", {"uri": uri}, deadline=deadline)
            source.monitor.execute("migrate", {"uri": uri}, deadline=deadline)
            source.monitor.execute("migrate-start-postcopy", deadline=deadline)
            # Until its guest runs a destination still loads devices, and ends instead of waiting.
            destination.monitor.wait("RESUME", since=of_destination, deadline=deadline)
            first.shutdown(socket.SHUT_RDWR)
        for vm, since in ((source, of_source), (destination, of_destination)):
            _until(vm, since, _PAUSED, deadline)
        of_source, of_destination = source.monitor.mark(), destination.monitor.mark()
        source.monitor.execute("migrate-set-parameters", {_POSTCOPY_PACE: 0}, deadline=deadline)
        destination.monitor.execute(
            "migrate-recover", {"uri": another}, deadline=deadline, at_once=True)
        source.monitor.execute("migrate", {"uri": another, "resume": True}, deadline=deadline)
        return outcome(destination, of_destination, deadline) or outcome(
            source, of_source, deadline)

    return attempt((destination, source), move, deadline)


def _until(vm: VM, since: int, wanted: str, deadline: Deadline) -> None:
    """Wait for a status. Raises HarnessError if all was there before, MonitorError if it failed."""
    event = vm.monitor.wait("MIGRATION", since=since, deadline=deadline,
                            status=("completed", "failed", "cancelled", wanted))
    status = event.data["status"]
    if status == "completed":
        raise HarnessError(f"{vm.name}: all had arrived before the connection broke")
    if status != wanted:
        raise MonitorError(f"{vm.name}: the migration was to be {wanted}, and is {status}")


def _wait_for_passes(source: VM, passes: int, deadline: Deadline) -> None:
    """Wait until the memory was gone over, or the migration is over. No event tells how far it is.

    QEMU counts how often it has asked which pages are dirty: once before each pass.
    """
    slow = _by_buffers(source.monitor.execute("query-version", deadline=deadline))
    if slow:
        _crawl(source, deadline)
    while not deadline.expired:
        info = source.monitor.execute("query-migrate", deadline=deadline)
        ram = info.get("ram", {}) if isinstance(info, Mapping) else None
        if not isinstance(ram, Mapping):
            raise MonitorError(f"{source.name}: query-migrate answers {str(info)[:100]}")
        if info.get("status") in ENDS or ram.get("dirty-sync-count", 0) > passes:
            return
        if not slow and 0 < ram.get("remaining", 0) <= _LEFT:
            _crawl(source, deadline)
            slow = True
        time.sleep(_LOOK_SECONDS)
    deadline.check(f"{source.name}: a pass over the guest's memory")


def _by_buffers(version: Any) -> bool:
    """Whether a QEMU of that version counts what has left its buffer."""
    try:
        return bool(version["qemu"]["major"] >= _BY_BUFFERS)
    except (TypeError, KeyError):
        return False


def _crawl(source: VM, deadline: Deadline) -> None:
    source.monitor.execute(
        "migrate-set-parameters", {"max-bandwidth": _CRAWL}, deadline=deadline)
