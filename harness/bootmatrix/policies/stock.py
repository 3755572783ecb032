"""``stock``: what a QEMU does by itself."""

from __future__ import annotations

from bootmatrix.boards import Loader
from bootmatrix.policies.base import Mechanism, ModelProcess, PolicyModel, Swap
from bootmatrix.policies.guest_owned import GuestOwned


class Stock(PolicyModel):
    """Whatever QEMU does by itself, which is not the same for every loader."""

    name = "stock"
    how = Mechanism(nvram=False, swap=Swap.NOTHING)

    @classmethod
    def on(cls, loader: Loader) -> type[PolicyModel]:
        """What a real board does by itself: its chip is its own."""
        return GuestOwned if loader is Loader.CHIP else cls

    def at_start(self, host: int) -> str:
        """file(H), or the copy of it that is this guest's own flash there."""
        if self.loaders[host] is not Loader.WRITABLE_FLASH:
            return self.files[host]
        flash = self.store_at(host)
        assert flash is not None
        return flash.firmware

    def at_reset(self, process: ModelProcess) -> str:
        """ROM and flash stay what migrated in; memory is filled again with what was read."""
        if process.loader is Loader.MEMORY:
            return process.image
        assert self.running is not None
        return self.running
