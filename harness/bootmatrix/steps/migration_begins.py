"""``migration-begins``: a migration that goes on while other things are done to the guest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bootmatrix.model import Host
from bootmatrix.policies.base import PolicyModel
from bootmatrix.steps.base import (
    Ability,
    GuestState,
    Platform,
    Role,
    Step,
    at_host,
    cannot_begin,
    never_migrates,
)


@dataclass(frozen=True)
class MigrationBegins(Step):
    """Launch the destination on ``host``, and begin to move the guest there, which is held back.

    The guest is where it was until the next ``migrate``, which lets it arrive. What is done to it
    meanwhile is done there: a reset is the source's, and runs what one would have run without this.
    The destination has read its host's firmware file by now: image(P) of what it will be.
    """

    host: int

    kind = "migration-begins"
    options = (Role("to", "host", beyond=True),)
    running = True
    must_answer = "the guest no longer answers while it migrates"
    needs = frozenset({Ability.MIGRATE})

    def problem(self, state: GuestState) -> str | None:
        """It goes elsewhere, and once."""
        return cannot_begin(state, self.host)

    def advance(self, state: GuestState) -> None:
        """It is still where it was."""
        state.coming = self.host

    def apply(self, model: PolicyModel) -> str | None:
        """The process that will have the guest is there, and has read what is there now."""
        model.incoming = model.launch(self.host)
        return None

    def unsupported(self, platform: Platform, host: int) -> Iterator[str]:
        """What a board never does cannot begin."""
        return never_migrates(platform, host, self.host)

    def describe(self, hosts: Sequence[Host]) -> str:
        """To where."""
        return f"{self.kind}: to {at_host(self.host, hosts)}"
