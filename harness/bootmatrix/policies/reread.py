"""``reread``: firmware is part of the machine, and read again at each boot."""

from __future__ import annotations

from bootmatrix.policies.base import Mechanism, ModelProcess, PolicyModel, Swap


class Reread(PolicyModel):
    """Firmware is part of the machine, and the file is read again at each boot."""

    name = "reread"
    how = Mechanism(nvram=False, swap=Swap.FILE)

    def at_reset(self, process: ModelProcess) -> str:
        """file(H) at this moment."""
        return self.files[process.host]
