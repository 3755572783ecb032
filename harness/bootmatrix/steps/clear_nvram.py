"""``clear-nvram``: the user empties the guest's nvram."""

from __future__ import annotations

from dataclasses import dataclass

from bootmatrix.policies.base import PolicyModel
from bootmatrix.steps.base import Ability, GuestState, Step


@dataclass(frozen=True)
class ClearNvram(Step):
    """Empty the nvram of a guest that does not run: the next start makes it anew."""

    kind = "clear-nvram"
    needs_nvram = True
    by_user = True
    needs = frozenset({Ability.NVRAM})

    def problem(self, state: GuestState) -> str | None:
        """Nothing may use it."""
        return "clear-nvram needs a guest that is shut down" if state.running else None

    def advance(self, state: GuestState) -> None:
        """It is empty."""
        state.cleared = True

    def apply(self, model: PolicyModel) -> str | None:
        """Firmware and variables are gone."""
        model.clear_nvram()
        return None
