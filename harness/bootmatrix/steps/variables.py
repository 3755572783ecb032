"""What the steps have in common in which the guest writes to its variable store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from bootmatrix.model import GuestKind
from bootmatrix.steps.base import Ability, Platform, Step


@dataclass(frozen=True)
class VariablesStep(Step):
    """The guest is typed ``key``, and says ``result`` in a line of kind ``line`` if all is well."""

    key: ClassVar[str]
    line: ClassVar[str]
    result: ClassVar[str]

    running = True
    must_answer = "the guest no longer answers"
    needs = frozenset({Ability.CONSOLE})

    def by_hand(self, process: str) -> tuple[str, ...]:
        """``tell`` waits for its line."""
        return f"tell {process} {self.key} {self.line}", f"ask {process}"

    def unsupported(self, platform: Platform, host: int) -> Iterator[str]:
        """There must be a store on each host."""
        for each in platform.hosts:
            if not platform.board.loader(each.firmware).has_store:
                yield (
                    f"{self.kind} needs UEFI firmware in flash, {each.firmware.name} on "
                    f"{platform.board.name} has no variable store"
                )


@dataclass(frozen=True)
class ProbesVariablesStep(VariablesStep):
    """One that the probe can do, and our Linux cannot."""

    def unsupported(self, platform: Platform, host: int) -> Iterator[str]:
        """The guest must be the probe, beside what each such step needs."""
        if platform.guest is not GuestKind.PROBE:
            yield f"{self.kind} needs the UEFI probe, which {platform.guest_name} is not"
        yield from super().unsupported(platform, host)
