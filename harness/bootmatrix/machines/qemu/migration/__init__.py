"""Move a running guest from one QEMU to another: one file a way of doing it.

A way is given the source, the destination, which was launched as incoming, what the mode takes
(bootmatrix.modes), and a deadline. A refusal by either side is an answer, not an error. Afterwards
the source stands still (or runs on, if it was refused): what to do with it is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from bootmatrix.deadline import Deadline
from bootmatrix.machines.qemu.migration import (
    cpr_exec,
    cpr_transfer,
    file,
    half,
    mapped,
    postcopy,
    snapshot,
    tcp,
    unix,
)
from bootmatrix.machines.qemu.migration.base import Migration
from bootmatrix.machines.qemu.migration.begun import BegunMigration
from bootmatrix.machines.qemu.migration.file import restore, save
from bootmatrix.machines.qemu.process import VM
from bootmatrix.model import Channel, MigrationEnd
from bootmatrix.modes import Mode, Way

__all__ = ["CHANNELS", "WAYS", "BegunMigration", "Migration", "begin", "fail", "migrate", "restore",
           "save", "snapshot"]

Migrate = Callable[[VM, VM, Mode, Deadline], Migration]

CHANNELS: Mapping[Channel, Migrate] = MappingProxyType(
    {Channel.UNIX: unix.migrate, Channel.TCP: tcp.migrate, Channel.FILE: file.migrate}
)
WAYS: Mapping[Way, Migrate] = MappingProxyType(
    {Way.MAPPED: mapped.migrate, Way.POSTCOPY: postcopy.migrate,
     Way.CPR_TRANSFER: cpr_transfer.migrate, Way.CPR_EXEC: cpr_exec.migrate}
)


def migrate(
    source: VM, destination: VM, mode: Mode, channel: Channel, deadline: Deadline
) -> Migration:
    """Migrate in a mode, through a channel, if the mode has no way of its own."""
    way = CHANNELS[channel] if mode.way is Way.CHANNEL else WAYS[mode.way]
    return way(source, destination, mode, deadline)


def begin(source: VM, destination: VM, mode: Mode, deadline: Deadline) -> BegunMigration:
    """Begin to migrate in a mode; it does not arrive until it is told to."""
    return BegunMigration(source, destination, mode, deadline)


def fail(
    source: VM, destination: VM, mode: Mode, by: MigrationEnd, cut_at: int, deadline: Deadline
) -> str:
    """Begin to migrate in a mode, and let it end half-way; how it has ended.

    Raises MonitorError.
    """
    return half.fail(source, destination, mode, by, cut_at, deadline)
