"""``shutdown``: the guest's process ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bootmatrix.model import Host, ShutdownBy
from bootmatrix.policies.base import PolicyModel
from bootmatrix.steps.base import Ability, Choice, GuestState, Platform, Step

KEY = "s"
"""What a guest is typed to shut itself down."""


@dataclass(frozen=True)
class Shutdown(Step):
    """End the guest's process, as a user shuts a guest down, or the guest itself does."""

    by: ShutdownBy = ShutdownBy.MONITOR

    kind = "shutdown"
    options = (Choice("by", values=tuple(ShutdownBy)),)
    running = True

    @property
    def needs(self) -> frozenset[Ability]:
        """A guest shuts itself down when it is typed to."""
        return frozenset({Ability.POWER if self.by is ShutdownBy.MONITOR else Ability.CONSOLE})

    def advance(self, state: GuestState) -> None:
        """It does not run, and goes nowhere."""
        state.running, state.coming = False, None

    def apply(self, model: PolicyModel) -> str | None:
        """Nothing runs."""
        model.power_off()
        return None

    def unsupported(self, platform: Platform, host: int) -> Iterator[str]:
        """Neither a boot sector nor a client of Open Firmware can."""
        if self.by is ShutdownBy.GUEST and not (platform.guest.is_linux or platform.uefi):
            yield f"shutdown by the guest: {platform.guest_name} cannot"

    def describe(self, hosts: Sequence[Host]) -> str:
        """By whom, if not by the monitor."""
        return f"{self.kind} by the guest" if self.by is ShutdownBy.GUEST else self.kind
