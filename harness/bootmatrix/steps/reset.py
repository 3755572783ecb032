"""``reset``: the guest boots in the same process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bootmatrix.model import Host, ResetBy
from bootmatrix.policies.base import PolicyModel
from bootmatrix.steps.base import Ability, Choice, Platform, Step

_EFI = (ResetBy.EFI_COLD, ResetBy.EFI_WARM)
KEYS = {
    ResetBy.CF9: "c", ResetBy.KEYBOARD: "k", ResetBy.TRIPLE_FAULT: "t", ResetBy.ACPI: "a",
    ResetBy.EFI_COLD: "e", ResetBy.EFI_WARM: "w", ResetBy.RTAS: "r",
}  # fmt: skip
"""What a guest is typed to reset itself."""


@dataclass(frozen=True)
class Reset(Step):
    """Boot in the same process, asked for by the monitor or by the guest itself."""

    by: ResetBy = ResetBy.MONITOR

    kind = "reset"
    options = (Choice("by", values=tuple(ResetBy)),)
    running = True
    boots = True

    @property
    def needs(self) -> frozenset[Ability]:
        """A guest resets itself when it is typed to."""
        return frozenset({Ability.RESET if self.by is ResetBy.MONITOR else Ability.CONSOLE})

    def apply(self, model: PolicyModel) -> str | None:
        """The policy says which firmware a reset has in this process."""
        assert model.process is not None
        model.boot(model.at_reset(model.process))
        return None

    def unsupported(self, platform: Platform, host: int) -> Iterator[str]:
        """A guest can reset itself only in the ways that it and its board have."""
        if self.by is ResetBy.MONITOR:
            return
        if self.by in _EFI and not platform.uefi:
            yield f"reset by {self.by} needs UEFI firmware"
        if self.by not in _EFI and self.by not in platform.board.resets:
            yield f"{platform.board} has no reset by {self.by}"
        if self.by is ResetBy.ACPI and not platform.guest.is_linux:
            yield (f"reset by acpi needs a Linux guest, {platform.guest_name} knows nothing of "
                   "ACPI")

    def describe(self, hosts: Sequence[Host]) -> str:
        """Who asks for it, if not the monitor."""
        by = "" if self.by is ResetBy.MONITOR else f" by the guest: {self.by}"
        return f"{self.kind}{by}"
