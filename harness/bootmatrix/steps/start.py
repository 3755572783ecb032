"""``start``: the guest boots in a new process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bootmatrix.model import Host
from bootmatrix.policies.base import PolicyModel
from bootmatrix.steps.base import Ability, GuestState, Role, Step, at_host


@dataclass(frozen=True)
class Start(Step):
    """Boot in a new process on ``host``."""

    host: int

    kind = "start"
    options = (Role("on", "host"),)
    boots = True
    needs = frozenset({Ability.START})

    def problem(self, state: GuestState) -> str | None:
        """A guest runs once."""
        return "the guest is running already; shut it down first" if state.running else None

    def advance(self, state: GuestState) -> None:
        """It runs there; the nvram, if it was cleared, is made anew."""
        state.host, state.started, state.running, state.cleared = self.host, True, True, False
        state.replaced = False

    def apply(self, model: PolicyModel) -> str | None:
        """The policy says which firmware a start has there."""
        assert model.process is None
        process = model.process = model.launch(self.host)
        firmware = model.at_start(self.host)
        process.store = model.store_at(self.host)
        model.lost |= model.misses(process.store)
        model.boot(firmware)
        return None

    def describe(self, hosts: Sequence[Host]) -> str:
        """Where."""
        return f"{self.kind} on {at_host(self.host, hosts)}"
