"""Move a running guest from one QEMU to another: one file a way of doing it.

A way is given the source, the destination, which was launched as incoming, what the mode takes
(bootmatrix.modes), and a deadline. A refusal by either side is an answer, not an error. Afterwards
the source stands still (or runs on, if it was refused): what to do with it is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from bootmatrix.deadline import Deadline
from bootmatrix.machines.qemu.migration import file, half, mapped, tcp, unix
from bootmatrix.machines.qemu.migration.base import Migration
from bootmatrix.machines.qemu.migration.file import restore, save
from bootmatrix.machines.qemu.process import VM
from bootmatrix.model import Channel, MigrationEnd, MigrationMode
from bootmatrix.modes import MODES, Mode

__all__ = ["CHANNELS", "Migration", "fail", "migrate", "restore", "save"]

CHANNELS: Mapping[Channel, Callable[[VM, VM, Mode, Deadline], Migration]] = MappingProxyType(
    {Channel.UNIX: unix.migrate, Channel.TCP: tcp.migrate, Channel.FILE: file.migrate}
)


def migrate(
    source: VM, destination: VM, mode: MigrationMode, channel: Channel, deadline: Deadline
) -> Migration:
    """Migrate in a mode, through a channel; one that is a file's goes through its own."""
    row = MODES[mode]
    way = mapped.migrate if row.by_file else CHANNELS[channel]
    return way(source, destination, row, deadline)


def fail(
    source: VM, destination: VM, mode: MigrationMode, by: MigrationEnd, deadline: Deadline
) -> None:
    """Begin to migrate in a mode, and let it end half-way. Raises MonitorError."""
    half.fail(source, destination, MODES[mode], by, deadline)
