"""``machine-owned``: firmware is part of the machine it runs on."""

from __future__ import annotations

from bootmatrix.boards import Loader
from bootmatrix.policies.base import IN_A_CHIP, Mechanism, ModelProcess, PolicyModel, Swap
from bootmatrix.policies.stock import Stock


class MachineOwned(PolicyModel):
    """Firmware is part of the machine, replaced at start-up or reset and at no other point."""

    name = "machine-owned"
    how = Mechanism(nvram=False, swap=Swap.LAUNCHED)

    @classmethod
    def mechanism(cls, loader: Loader = Loader.ROM) -> Mechanism:
        """Into memory QEMU writes image(P) at each reset by itself, as ``stock`` has it."""
        if loader is Loader.CHIP:
            return IN_A_CHIP  # programmed before each start
        return Stock.how if loader is Loader.MEMORY else cls.how

    def at_reset(self, process: ModelProcess) -> str:
        """image(P): what this process read from its host when it was launched."""
        return process.image
