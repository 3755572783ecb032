"""``upgrade-nvram``: the user stages other firmware in the guest's nvram."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bootmatrix.model import Host
from bootmatrix.policies.base import PolicyModel
from bootmatrix.steps.base import Ability, GuestState, Role, Step


@dataclass(frozen=True)
class UpgradeNvram(Step):
    """Stage the firmware of the host ``firmware_of``: it runs from the next boot on."""

    firmware_of: int

    kind = "upgrade-nvram"
    options = (Role("firmware-of", beyond=True),)
    needs_nvram = True
    by_user = True
    needs = frozenset({Ability.NVRAM})

    def problem(self, state: GuestState) -> str | None:
        """There must be something to upgrade."""
        if state.cleared:
            return "there is no nvram to upgrade after clear-nvram; start the guest first"
        return None

    def apply(self, model: PolicyModel) -> str | None:
        """The policy keeps it until a boot."""
        model.upgrade_nvram(model.hosts[self.firmware_of].firmware)
        return None

    def describe(self, hosts: Sequence[Host]) -> str:
        """Which firmware."""
        return f"{self.kind} with {hosts[self.firmware_of].firmware.name}"
