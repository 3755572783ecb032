"""``reread``: firmware is part of the machine, and read again at each boot."""

from __future__ import annotations

from bootmatrix.boards import Loader
from bootmatrix.policies.base import IN_A_CHIP, Mechanism, ModelProcess, PolicyModel, Swap


class Reread(PolicyModel):
    """Firmware is part of the machine, and the file is read again at each boot."""

    name = "reread"
    how = Mechanism(nvram=False, swap=Swap.FILE)

    @classmethod
    def mechanism(cls, loader: Loader = Loader.ROM) -> Mechanism:
        """A chip is programmed as soon as the file is another one, and before each start."""
        return IN_A_CHIP if loader is Loader.CHIP else cls.how

    def at_reset(self, process: ModelProcess) -> str:
        """file(H) at this moment."""
        return self.files[process.host]

    def in_rom(self) -> str | None:
        """What runs; of a real board that is its chip, which is file(H) at any moment."""
        if self.process is not None and Loader.CHIP in self.loaders:
            return self.files[self.process.host]
        return self.running
