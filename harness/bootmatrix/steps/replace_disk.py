"""``replace-disk``: another file takes the place of the guest's disk."""

from __future__ import annotations

from dataclasses import dataclass

from bootmatrix.policies.base import SECOND_DISK, PolicyModel
from bootmatrix.steps.base import Ability, GuestState, Step


@dataclass(frozen=True)
class ReplaceDisk(Step):
    """Rename the disk's file (label A) away, and put another (label B) in its place."""

    kind = "replace-disk"
    needs = frozenset({Ability.REPLACE_DISK})

    def advance(self, state: GuestState) -> None:
        """A process that runs keeps what it has open."""
        state.replaced = state.running

    def by_hand(self, process: str) -> tuple[str, ...]:
        """``disk_b`` makes the other one."""
        return "mv disk.img disk.old.img", "disk_b disk.img"

    def apply(self, model: PolicyModel) -> str | None:
        """A process that runs keeps what it has open."""
        model.disk_file = SECOND_DISK
        return None
