"""``upgrade-host``: a host gets other firmware."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bootmatrix.model import Host, role_name
from bootmatrix.policies.base import PolicyModel
from bootmatrix.steps.base import Ability, GuestState, Role, Step, at_host


@dataclass(frozen=True)
class UpgradeHost(Step):
    """Replace the firmware file on ``host`` by that of the host ``firmware_of``."""

    host: int
    firmware_of: int

    kind = "upgrade-host"
    options = (Role("host"), Role("firmware-of", beyond=True))
    needs = frozenset({Ability.REPLACE_FIRMWARE})

    def problem(self, state: GuestState) -> str | None:
        """It must be another one."""
        same = self.host == self.firmware_of
        return f"{role_name(self.host)} has that firmware already" if same else None

    def apply(self, model: PolicyModel) -> str | None:
        """file(H) is another one, for whoever reads it from now on."""
        other = model.hosts[self.firmware_of]
        model.upgrade_host(self.host, other.firmware, other.loader)
        return None

    def describe(self, hosts: Sequence[Host]) -> str:
        """Where, and which firmware."""
        return (f"{self.kind} of {at_host(self.host, hosts)} "
                f"with {hosts[self.firmware_of].firmware.name}")
