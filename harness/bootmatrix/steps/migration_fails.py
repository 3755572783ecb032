"""``migration-fails``: a migration that ends half-way, and the guest goes on where it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bootmatrix.model import Host, MigrationEnd, role_name
from bootmatrix.steps.base import Ability, Choice, GuestState, Platform, Role, Step, at_host


@dataclass(frozen=True)
class MigrationFails(Step):
    """Begin to move the running guest to ``host``; it is cancelled, or the destination dies.

    Nothing has changed then: neither where the guest is, nor what its next reset runs.
    """

    host: int
    by: MigrationEnd = MigrationEnd.CANCELLED

    kind = "migration-fails"
    options = (Role("to", "host", beyond=True), Choice("by", values=tuple(MigrationEnd)))
    running = True
    must_answer = "the guest no longer answers after a migration that did not arrive"
    needs = frozenset({Ability.MIGRATE})

    def problem(self, state: GuestState) -> str | None:
        """It is to go elsewhere."""
        if self.host == state.host:
            return f"the guest is on {role_name(state.host)} already; let it go elsewhere"
        return None

    def unsupported(self, platform: Platform, host: int) -> Iterator[str]:
        """What a board never does cannot fail half-way."""
        source, target = platform.hosts[host].qemu, platform.hosts[self.host].qemu
        if not platform.board.migrates_to_others and source.version != target.version:
            yield f"{platform.board.name} does not migrate between versions of QEMU"

    def by_hand(self, process: str) -> tuple[str, ...]:
        """Nothing: what it leaves behind is what was there before."""
        return (f"ask {process}  # a migration ended half-way here, which this script leaves out",)

    def describe(self, hosts: Sequence[Host]) -> str:
        """To where, and why it does not arrive."""
        return f"{self.kind}: to {at_host(self.host, hosts)}, {self.by}"
