"""``migrate``: the running guest moves to another host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bootmatrix.model import Channel, Host, MovesAs, role_name
from bootmatrix.modes import OWNED, UNSERVED
from bootmatrix.policies.base import PolicyModel
from bootmatrix.steps.base import (
    Ability,
    Choice,
    Flag,
    GuestState,
    Names,
    Platform,
    Role,
    Settings,
    Step,
    at_host,
    never_migrates,
)
from bootmatrix.steps.suspend import Suspend

_NEEDED = {
    MovesAs.RUNNING: frozenset[Ability](), MovesAs.PAUSED: frozenset({Ability.PAUSE}),
    MovesAs.SUSPENDED: Suspend.needs,
}


@dataclass(frozen=True)
class Migrate(Step):
    """Move the running guest to ``host``, live, or by a file. ``during_post``: it still boots.

    ``moves_as``: it is paused, or suspended to RAM, before it moves, and goes on, or is woken up,
    once it has arrived. ``capabilities`` and ``parameters`` are QEMU's; both sides have them.
    ``recovers``: the connection breaks once the guest runs there and part of its memory does not,
    and they go on by another.
    """

    host: int
    channel: Channel = Channel.UNIX
    during_post: bool = False
    moves_as: MovesAs = MovesAs.RUNNING
    capabilities: tuple[str, ...] = ()
    parameters: tuple[tuple[str, str | int | bool], ...] = ()
    recovers: bool = False

    kind = "migrate"
    options = (Role("to", "host", beyond=True), Choice("channel", values=tuple(Channel)),
               Flag("during-post"), Choice("as", "moves_as", values=tuple(MovesAs)),
               Names("capabilities"), Settings("parameters"), Flag("recovers"))
    running = True
    must_answer = "the guest no longer answers on the destination"

    @property
    def needs(self) -> frozenset[Ability]:
        """What the guest is to do meanwhile takes an ability of its own."""
        return frozenset({Ability.MIGRATE, *_NEEDED[self.moves_as]})

    def problem(self, state: GuestState) -> str | None:
        """It goes elsewhere, and during POST only while there is one."""
        if self.host == state.host:
            return f"the guest is on {role_name(state.host)} already; migrate it elsewhere"
        if state.coming is not None:
            if self.host != state.coming:
                return f"a migration to {role_name(state.coming)} has begun: it goes there"
            if self.channel is not Channel.UNIX or self.during_post:
                return "a migration that has begun has its channel, and is over when it is"
            if self.capabilities or self.parameters or self.recovers:
                return "a migration that has begun is told nothing more"
        if self.during_post and not state.booting:
            return "during-post must come right after a start or a reset"
        return self.mistake

    @property
    def mistake(self) -> str | None:
        """What a mode says nobody else does."""
        if self.during_post and self.moves_as is not MovesAs.RUNNING:
            return f"a guest whose firmware still runs is not {self.moves_as}"
        for name in (*self.capabilities, *dict(self.parameters)):
            if name in OWNED:
                return f"{name} is said by the axis migration, or by the harness"
            if name in UNSERVED:
                return f"{name}: {UNSERVED[name]}"
        return None

    def advance(self, state: GuestState) -> None:
        """It is there."""
        state.host, state.coming, state.replaced = self.host, None, False

    def apply(self, model: PolicyModel) -> str | None:
        """Firmware and variables come along; what the new process has read counts later."""
        assert model.process is not None
        refusal = model.refusal(model.process.host, self.host)
        if refusal:
            return refusal
        store = model.process.store
        model.process, model.incoming = model.incoming or model.launch(self.host), None
        model.process.store = model.carry_store(self.host, store) if store else None
        return None

    def unsupported(self, platform: Platform, host: int) -> Iterator[str]:
        """It has to wait for a firmware's name during POST, and the board has to migrate at all."""
        if self.during_post and not platform.bios:
            yield "during-post needs firmware that says its name as it begins, as a BIOS does"
        if self.moves_as is MovesAs.SUSPENDED:
            yield from Suspend().unsupported(platform, host)
        old, new = (platform.hosts[one].qemu.version for one in (host, self.host))
        for found in never_migrates(platform, host, self.host):
            yield f"{found} (its documentation says so): {old} to {new}"

    def describe(self, hosts: Sequence[Host]) -> str:
        """Where, through what, and when."""
        through = "" if self.channel is Channel.UNIX else f" through {self.channel}"
        when = " while the firmware runs" if self.during_post else ""
        what = "" if self.moves_as is MovesAs.RUNNING else f", {self.moves_as},"
        settings = [*self.capabilities, *(f"{name}={value}" for name, value in self.parameters)]
        further = f" with {', '.join(settings)}" if settings else ""
        broken = ", by a second connection once the first is broken" if self.recovers else ""
        return f"{self.kind}{what} to {at_host(self.host, hosts)}{through}{when}{further}{broken}"


def leaves_during_post(step: Step | None) -> bool:
    """Whether a step takes the guest away while the firmware of the step before still runs."""
    return isinstance(step, Migrate) and step.during_post
