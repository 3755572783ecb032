"""``guest-flash``: the guest programs its own flash."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bootmatrix.model import Host, role_name
from bootmatrix.policies.base import PolicyModel
from bootmatrix.steps.base import Ability, GuestState, Platform, Role, Step

KEY, LINE = "f", "flash"
"""What a guest is typed to program its flash, and the kind of its line when it is done."""


@dataclass(frozen=True)
class GuestFlash(Step):
    """Let the guest program its flash with the firmware of the host ``firmware_of``, from fw_cfg.

    Where its firmware is no flash, that changes nothing.
    """

    firmware_of: int

    kind = "guest-flash"
    options = (Role("firmware-of", beyond=True),)
    running = True
    by_user = True
    must_answer = "the guest no longer answers"
    needs = frozenset({Ability.CONSOLE})

    def problem(self, state: GuestState) -> str | None:
        """The image is in fw_cfg from the launch on."""
        if state.flashes not in (None, self.firmware_of):
            return (
                f"the guest flashes the firmware of {role_name(state.flashes or 0)} already; "
                "a QEMU offers it one image"
            )
        return None

    def advance(self, state: GuestState) -> None:
        """The image is that one, to the end."""
        state.flashes = self.firmware_of

    def apply(self, model: PolicyModel) -> str | None:
        """The policy says whether its firmware is that flash."""
        model.guest_flash(model.hosts[self.firmware_of].firmware)
        return None

    def unsupported(self, platform: Platform, host: int) -> Iterator[str]:
        """The boot sector alone knows how."""
        if not platform.boot_sector:
            yield f"{self.kind} needs the boot sector on a BIOS, {platform.guest_name} cannot"

    def by_hand(self, process: str) -> tuple[str, ...]:
        """``tell`` waits for its line."""
        return (f"tell {process} {KEY} {LINE}"
                "  # the guest programs its own flash, with the file that it finds in fw_cfg",)

    def describe(self, hosts: Sequence[Host]) -> str:
        """Which firmware."""
        return f"{self.kind} with {hosts[self.firmware_of].firmware.name}"


def flashed(steps: Sequence[Step]) -> int | None:
    """Whose firmware a guest flashes in these steps, which all say the same; None: it does not."""
    return next((step.firmware_of for step in steps if isinstance(step, GuestFlash)), None)
