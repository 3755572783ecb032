"""On one host, the guest's memory handed over as descriptors and not copied: QEMU's live update.

A destination waits for them before it has made its monitor, so it is connected to only once the
migration has begun. QEMU's docs/devel/migration/CPR.rst, "cpr-transfer mode".
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from bootmatrix.deadline import Deadline
from bootmatrix.errors import MonitorError, QemuError
from bootmatrix.machines.qemu.command_line import cpr_channel
from bootmatrix.machines.qemu.migration.base import Migration, attempt, outcome, prepare
from bootmatrix.machines.qemu.migration.unix import SOCKET, connected
from bootmatrix.machines.qemu.process import VM
from bootmatrix.modes import Mode
from bootmatrix.witnesses.refusal import Refusal, classify

HANDOVER = "cpr.sock"
_LOOK_SECONDS = 0.01
_NOT_YET = re.compile(r"Failed to connect to .*: Connection refused$")


def migrate(source: VM, destination: VM, mode: Mode, deadline: Deadline) -> Migration:
    """Migrate to a destination that was launched with a socket for descriptors."""

    def move() -> Refusal | None:
        try:
            _wait_for_handover(destination, deadline)
            with connected(destination) as uri:
                main = {"channel-type": "main",
                        "addr": {"transport": "socket", "type": "unix",
                                 "path": f"{destination.inside}/{SOCKET}"}}
                handover = cpr_channel(f"{destination.inside}/{HANDOVER}")
                since = _begin(source, destination, [main, handover], mode, deadline)
                destination.connect(deadline)
                arrived = prepare(destination, mode, deadline, mode.destination)
                destination.monitor.execute("migrate-incoming", {"uri": uri}, deadline=deadline)
                return outcome(destination, arrived, deadline) or outcome(source, since, deadline)
        except QemuError as error:  # the destination has ended before it could be asked
            return classify(error.tail, error.status)

    try:
        return attempt((destination, source), move, deadline)
    finally:
        destination.scratch.cell.unlink(destination.file(HANDOVER))


def _begin(source: VM, destination: VM, channels: Sequence[Mapping[str, Any]], mode: Mode,
           deadline: Deadline) -> int:
    """Have the source begin; the mark of its events.

    Between the making of its socket and its listening there the destination refuses a connection,
    which is no refusal of the guest: it is asked for again.
    """
    while True:
        since = prepare(source, mode, deadline, mode.source)
        try:
            source.monitor.execute("migrate", {"channels": channels}, deadline=deadline)
        except MonitorError as error:
            if not (_NOT_YET.search(error.message) and destination.alive):
                raise
        else:
            return since
        deadline.check(f"{destination.name}: a socket for descriptors, at which it listens")
        time.sleep(_LOOK_SECONDS)


def _wait_for_handover(destination: VM, deadline: Deadline) -> None:
    """Wait until a destination listens, which no event tells: there is no monitor yet."""
    while True:
        try:
            destination.scratch.cell.lstat(destination.file(HANDOVER))
            return
        except FileNotFoundError:
            if not destination.alive:
                raise destination.ended() from None
        deadline.check(f"{destination.name}: a socket for descriptors")
        time.sleep(_LOOK_SECONDS)
