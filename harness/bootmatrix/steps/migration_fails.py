"""``migration-fails``: a migration that ends half-way, and the guest goes on where it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from bootmatrix.model import Host, MigrationEnd
from bootmatrix.steps.base import (
    Ability,
    Choice,
    GuestState,
    Number,
    Platform,
    Role,
    Step,
    at_host,
    cannot_begin,
    never_migrates,
)

CUT_WITHIN = 48 << 10
"""Bytes within which a stream is cut where nobody says more: the smallest guest's memory, 32 MiB,
takes 72 KiB in the names of its pages alone (of a page of zeros goes its address, 8 bytes, and one
more).
"""


@dataclass(frozen=True)
class MigrationFails(Step):
    """Begin to move the running guest to ``host``, and let that fail, ``by`` one of its ends.

    Nothing has changed then: neither where the guest is, nor what its next reset runs. ``seed``
    says at which of the first ``within`` bytes a stream is cut.
    """

    host: int
    by: MigrationEnd = MigrationEnd.CANCELLED
    seed: int = 0
    within: int = CUT_WITHIN

    kind = "migration-fails"
    options = (Role("to", "host", beyond=True), Choice("by", values=tuple(MigrationEnd)),
               Number("seed"), Number("within"))
    running = True
    must_answer = "the guest no longer answers after a migration that did not arrive"
    needs = frozenset({Ability.MIGRATE})

    def problem(self, state: GuestState) -> str | None:
        """It is to go elsewhere."""
        return cannot_begin(state, self.host) or self.mistake

    @property
    def mistake(self) -> str | None:
        """Where a stream is cut is said of one that is."""
        for name, said in (("seed", self.seed), ("within", self.within != CUT_WITHIN)):
            if said and self.by is not MigrationEnd.STREAM_CUT:
                return f"{name} says where a stream is cut: by: {MigrationEnd.STREAM_CUT}"
        return None if self.within else "within: a stream is cut within its first byte at least"

    def unsupported(self, platform: Platform, host: int) -> Iterator[str]:
        """What a board never does cannot fail half-way."""
        return never_migrates(platform, host, self.host)

    @property
    def cut_at(self) -> int:
        """After so many bytes a stream is cut: one seed gives one number, from 1 on."""
        return 1 + Random(self.seed).randrange(self.within)  # noqa: S311  # no secret

    def by_hand(self, process: str) -> tuple[str, ...]:
        """Nothing: what it leaves behind is what was there before."""
        return (f"ask {process}  # a migration ended half-way here, which this script leaves out",)

    def describe(self, hosts: Sequence[Host]) -> str:
        """To where, and why it does not arrive."""
        cut = f" after {self.cut_at} bytes" if self.by is MigrationEnd.STREAM_CUT else ""
        return f"{self.kind}: to {at_host(self.host, hosts)}, {self.by}{cut}"
