"""``guest-owned``: firmware is part of the guest."""

from __future__ import annotations

from dataclasses import dataclass

from bootmatrix.boards import Loader
from bootmatrix.policies.base import (
    IN_A_CHIP,
    Mechanism,
    ModelProcess,
    PolicyModel,
    Swap,
    VariableStore,
)


@dataclass
class GuestOwned(PolicyModel):
    """Firmware is part of the guest: in an nvram file that migrates with it."""

    name = "guest-owned"
    how = Mechanism(nvram=True, swap=Swap.STAGED)

    nvram: str | None = None
    staged: str | None = None
    stamp: str | None = None
    nvram_store: VariableStore | None = None

    @classmethod
    def mechanism(cls, loader: Loader = Loader.ROM) -> Mechanism:
        """A real board's chip needs none."""
        return IN_A_CHIP if loader is Loader.CHIP else cls.how

    def at_start(self, host: int) -> str:
        """The nvram's firmware; the first start ever initialises it with file(H)."""
        if self.nvram is None:
            self._initialise(host)
        return self._take_staged()

    def at_reset(self, process: ModelProcess) -> str:
        """The nvram's firmware, or what the user staged."""
        return self._take_staged()

    def upgrade_nvram(self, firmware: str) -> None:
        """Stage a build; it becomes ``running`` at the next reset or start, never before."""
        self.staged = firmware

    def upgrade_host(self, host: int, firmware: str, loader: Loader) -> None:
        """Of a real board that is its chip, which is the guest's."""
        super().upgrade_host(host, firmware, loader)
        if loader is Loader.CHIP and self.nvram is not None:
            self.upgrade_nvram(firmware)

    def guest_flash(self, firmware: str) -> None:
        """The flash is the nvram: the build runs from the next reset or start on, anywhere."""
        self.nvram = firmware

    def in_rom(self) -> str | None:
        """The nvram, which is mapped as flash; what is staged for a real board is in its chip."""
        if self.staged is not None and Loader.CHIP in self.loaders:
            return self.staged
        return self.nvram if self.process else None

    def clear_nvram(self) -> None:
        """The next start initialises the nvram again, firmware and variables.

        Of a real board the firmware stays: CMOS and variables are cleared.
        """
        if Loader.CHIP in self.loaders:
            return
        self.nvram = self.staged = self.stamp = None
        self.nvram_store = None

    def store_at(self, host: int) -> VariableStore | None:
        """The nvram's, made with it."""
        return self.nvram_store

    def carry_store(self, host: int, store: VariableStore) -> VariableStore:
        """The nvram file comes along: there is but one."""
        return store

    def _initialise(self, host: int) -> None:
        self.nvram = self.files[host]
        self.stamp = self.hosts[host].version
        self.nvram_store = self.new_store(host) if self.loaders[host].has_store else None

    def _take_staged(self) -> str:
        assert self.nvram is not None
        if self.staged is not None:
            self.nvram, self.staged = self.staged, None
        return self.nvram
