"""Move a running guest from one QEMU to another: one file a mode.

A mode is given the source, the destination, which was launched as incoming, and a deadline. A
refusal by either side is an answer, not an error. Afterwards the source stands still (or runs on,
if it was refused): what to do with it is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from bootmatrix.deadline import Deadline
from bootmatrix.machines.qemu.migration import file, tcp, unix
from bootmatrix.machines.qemu.migration.base import Migration
from bootmatrix.machines.qemu.migration.file import restore, save
from bootmatrix.machines.qemu.process import VM
from bootmatrix.model import Channel

__all__ = ["MODES", "Migration", "migrate", "restore", "save"]

MODES: Mapping[Channel, Callable[[VM, VM, Deadline], Migration]] = MappingProxyType(
    {Channel.UNIX: unix.migrate, Channel.TCP: tcp.migrate, Channel.FILE: file.migrate}
)


def migrate(source: VM, destination: VM, channel: Channel, deadline: Deadline) -> Migration:
    """Migrate by the mode that a channel stands for."""
    return MODES[channel](source, destination, deadline)
