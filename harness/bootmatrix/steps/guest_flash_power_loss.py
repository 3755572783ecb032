"""``guest-flash-power-loss``: the guest programs its own flash, and loses its power meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bootmatrix.model import Host
from bootmatrix.policies.base import PolicyModel
from bootmatrix.steps.base import Ability, GuestState
from bootmatrix.steps.guest_flash import GuestFlash


@dataclass(frozen=True)
class GuestFlashPowerLoss(GuestFlash):
    """Cut the power as soon as the guest says that it has programmed a part of its flash.

    What then must boot is what booted before: an update that was not finished is none.
    """

    kind = "guest-flash-power-loss"
    must_answer = ""
    needs = frozenset({Ability.CONSOLE, Ability.POWER_LOSS})

    def advance(self, state: GuestState) -> None:
        """It does not run."""
        super().advance(state)
        state.running = False

    def apply(self, model: PolicyModel) -> str | None:
        """Nothing runs."""
        model.power_off()
        return None

    def by_hand(self, process: str) -> tuple[str, ...]:
        """No script has power to cut."""
        return ()

    def describe(self, hosts: Sequence[Host]) -> str:
        """Which firmware."""
        return f"{self.kind} with {hosts[self.firmware_of].firmware.name}"
