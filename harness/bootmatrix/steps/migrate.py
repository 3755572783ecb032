"""``migrate``: the running guest moves to another host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bootmatrix.model import Channel, Host, role_name
from bootmatrix.policies.base import PolicyModel
from bootmatrix.steps.base import Ability, Choice, Flag, GuestState, Platform, Role, Step, at_host


@dataclass(frozen=True)
class Migrate(Step):
    """Move the running guest to ``host``, live, or by a file. ``during_post``: it still boots."""

    host: int
    channel: Channel = Channel.UNIX
    during_post: bool = False

    kind = "migrate"
    options = (Role("to", "host", beyond=True), Choice("channel", values=tuple(Channel)),
               Flag("during-post"))
    running = True
    must_answer = "the guest no longer answers on the destination"
    needs = frozenset({Ability.MIGRATE})

    def problem(self, state: GuestState) -> str | None:
        """It goes elsewhere, and during POST only while there is one."""
        if self.host == state.host:
            return f"the guest is on {role_name(state.host)} already; migrate it elsewhere"
        if self.during_post and not state.booting:
            return "during-post must come right after a start or a reset"
        return None

    def advance(self, state: GuestState) -> None:
        """It is there."""
        state.host = self.host

    def apply(self, model: PolicyModel) -> str | None:
        """Firmware and variables come along; what the new process has read counts later."""
        assert model.process is not None
        refusal = model.refusal(model.process.host, self.host)
        if refusal:
            return refusal
        store = model.process.store
        model.process = model.launch(self.host)
        model.process.store = model.carry_store(self.host, store) if store else None
        return None

    def unsupported(self, platform: Platform, host: int) -> Iterator[str]:
        """It has to wait for a firmware's name during POST, and the board has to migrate at all."""
        if self.during_post and platform.uefi:
            yield "during-post needs firmware that says its name as it begins, as a BIOS does"
        source, target = platform.hosts[host].qemu, platform.hosts[self.host].qemu
        if not platform.board.migrates_to_others and source.version != target.version:
            yield (
                f"{platform.board.name} does not migrate between versions of QEMU "
                f"(its documentation says so): {source.version} to {target.version}"
            )

    def describe(self, hosts: Sequence[Host]) -> str:
        """Where, through what, and when."""
        through = "" if self.channel is Channel.UNIX else f" through {self.channel}"
        when = " while the firmware runs" if self.during_post else ""
        return f"{self.kind} to {at_host(self.host, hosts)}{through}{when}"


def leaves_during_post(step: Step | None) -> bool:
    """Whether a step takes the guest away while the firmware of the step before still runs."""
    return isinstance(step, Migrate) and step.during_post
