"""``guest-owned-versioned``: guest-owned, until the guest moves to another version."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bootmatrix.model import DEFAULT_MACHINE
from bootmatrix.policies.guest_owned import GuestOwned


@dataclass
class GuestOwnedVersioned(GuestOwned):
    """Guest-owned, but the nvram clears itself when the guest moves without ``-M``."""

    name = "guest-owned-versioned"
    how = replace(GuestOwned.how, clears_on_move=True)

    def at_start(self, host: int) -> str:
        """As guest-owned, unless the machine is ``default`` and the stamp is another version."""
        if (
            self.machine == DEFAULT_MACHINE
            and self.nvram is not None
            and self.stamp != self.hosts[host].version
        ):
            self.clear_nvram()
        return super().at_start(host)
