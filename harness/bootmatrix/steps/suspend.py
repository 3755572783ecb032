"""``suspend``: the guest suspends itself to RAM, and is woken up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bootmatrix.steps.base import Ability, Platform, Step

KEY = "z"
"""What a guest is typed to suspend itself."""


@dataclass(frozen=True)
class Suspend(Step):
    """Suspend to RAM and wake up, which goes through the reset vector, but is no boot."""

    kind = "suspend"
    running = True
    must_answer = "the guest no longer answers after its wake-up"
    needs = frozenset({Ability.CONSOLE, Ability.WAKE})

    def by_hand(self, process: str) -> tuple[str, ...]:
        """``suspend`` waits until the guest is awake again."""
        return f"suspend {process}", f"ask {process}"

    def unsupported(self, platform: Platform, host: int) -> Iterator[str]:
        """Linux can, where the board can."""
        if not platform.guest.is_linux:
            yield f"suspend needs a Linux guest, {platform.guest_name} cannot"
        if not platform.board.suspends:
            yield f"{platform.board} has no suspend to RAM"
