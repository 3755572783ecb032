"""A migration that has begun, and does not arrive until it is told to: its stream is held back."""

from __future__ import annotations

from bootmatrix.deadline import Deadline
from bootmatrix.errors import MonitorError
from bootmatrix.machines.qemu.migration.base import ENDS, Migration, attempt, outcome, prepare
from bootmatrix.machines.qemu.migration.spoiled import HOLD_AT, relay
from bootmatrix.machines.qemu.process import VM
from bootmatrix.modes import Mode
from bootmatrix.witnesses.refusal import Refusal, classify


class BegunMigration:
    """A migration between two QEMUs, which both have begun; ``finish`` has it arrive.

    What goes wrong meanwhile is told then: the guest has not noticed it.
    """

    def __init__(self, source: VM, destination: VM, mode: Mode, deadline: Deadline) -> None:
        self._source, self._destination = source, destination
        self._refused: Refusal | None = None
        self._from_source = prepare(source, mode, deadline)
        self._from_destination = prepare(destination, mode, deadline)
        uri, self._relay = relay(source, destination, deadline, hold_at=HOLD_AT)
        try:
            destination.monitor.execute("migrate-incoming", {"uri": uri}, deadline=deadline)
            source.monitor.execute("migrate", {"uri": uri}, deadline=deadline)
            source.monitor.wait("MIGRATION", since=self._from_source, deadline=deadline,
                                status=("active", *ENDS))
        except MonitorError as error:
            self._refused = classify(f"qemu-system-x86_64: {error.message}")

    def finish(self, deadline: Deadline) -> Migration:
        """Let it arrive."""

        def arrive() -> Refusal | None:
            if self._refused is not None:
                return self._refused
            self._relay.release()
            return outcome(self._destination, self._from_destination, deadline) or outcome(
                self._source, self._from_source, deadline)

        return attempt((self._destination, self._source), arrive, deadline)
