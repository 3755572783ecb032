"""What machines can do: an ability each, which a machine has or has not.

A guest lives on the ``Hosts`` of its cell, in one ``Machine`` after the other. What not every
machine can do is a protocol of its own here, and stands beside its Ability in the table ABILITIES:
a class that has its methods has the ability, and a step that needs another one is ``unsupported``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeVar, runtime_checkable

from bootmatrix.deadline import Deadline
from bootmatrix.errors import UserError
from bootmatrix.machines.console import Console
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.model import Channel, FirmwareBuild, MigrationEnd
from bootmatrix.steps.base import Ability
from bootmatrix.witnesses.observation import BlackBox
from bootmatrix.witnesses.refusal import Refusal

T = TypeVar("T")

LAST_WORDS_SECONDS = 2.0
"""In which a machine that has broken off a connection has ended, if it ends."""


class MachineClock(Protocol):
    """The time in which a machine was able to run, in seconds."""

    def __call__(self) -> float:
        """The time, or a little less, at no price."""

    def look(self) -> float:
        """The time, exactly."""

    def limit(self, seconds: float) -> float:
        """How long is waited at most for what must be done in so many seconds.

        More than that where nobody sees whether the machine was able to run.
        """

    def deadline(self, seconds: float) -> Deadline:
        """The deadline for what must be done in so many seconds."""


class Machine(Protocol):
    """A machine on a host, from its launch to its end; what each of them can do.

    ``host`` is its index among the hosts.
    """

    host: int

    @property
    def clock(self) -> MachineClock:
        """The clock of all that it is waited for. It must have been started."""

    @property
    def name(self) -> str:
        """What it is called in messages."""

    @property
    def console(self) -> Console:
        """Its serial console. It must have been started."""

    @property
    def alive(self) -> bool:
        """Whether it has power."""

    def start(self, deadline: Deadline) -> None:
        """Let it run, or wait for its guest. Raises QemuError, with its last words, if it ends."""

    def outlives(self, deadline: Deadline) -> bool:
        """Whether it still has power at the deadline; waits for its end until then."""

    def last_words(self) -> str:
        """What it said of itself at its end, not on its console; "" for nothing."""

    def exit_status(self, deadline: Deadline) -> int:
        """How it ended: 0 where there is nothing to tell. Raises DeadlineExceeded."""

    def stopped(self) -> str | None:
        """Why it has stopped its guest by itself and does not go on; None where it has not."""

    def booted(self) -> Refusal | None:
        """A boot is over. The reason why the policy's firmware could not run in it, if any."""

    def resets(self, deadline: Deadline) -> int:
        """How often it was reset since its last boot was over, which its guest might not tell.

        Once the deadline has expired, as far as that was heard.
        """

    def check(self) -> None:
        """Raise HarnessError if what was to happen by itself has gone wrong."""

    def close(self) -> None:
        """End it at once, and let go of all that belongs to it."""


class Hosts(Protocol):
    """The hosts of one guest, with what the guest owns on them. Leaving it ends all machines.

    ``processes`` has a row (role, version, argv) for each machine that was launched.
    """

    setup: GuestSetup
    processes: list[dict[str, object]]

    @property
    def rom_size(self) -> int:
        """Bytes of firmware in the guest's address space, without variables."""

    def check_engine(self) -> None:
        """Raise EngineError if a machine was lost, whose end was then not its own.

        And TpmLost if what is a machine's TPM was, without which it tells nothing.
        """

    def close(self) -> None:
        """End every machine of this guest."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *exc: object) -> None: ...


# ---- abilities ------------------------------------------------------------------------------


@runtime_checkable
class Starts(Protocol):
    """Hosts on which machines can be started."""

    def launch(self, host: int, *, incoming: bool) -> Machine:
        """A new machine, which is to be started. ``incoming``: to receive the guest."""


@runtime_checkable
class ReplacesFirmware(Protocol):
    """Hosts whose firmware can be replaced."""

    def install(self, host: int, firmware: FirmwareBuild) -> None:
        """Install a firmware build on a host: machines that run are left as they are."""


@runtime_checkable
class ReplacesDisk(Protocol):
    """Hosts on which the guest's disk can be replaced."""

    def replace_disk(self) -> None:
        """Put another disk in its place."""


class FirmwareStore(Protocol):
    """Where a guest's own firmware is: a file of a QEMU's, or the chip of a board."""

    @property
    def size(self) -> int:
        """Bytes of a firmware in it."""

    def stage(self, firmware: bytes, name: str) -> None:
        """Have a firmware of that name run from the next boot on."""

    def clear(self) -> None:
        """Empty it."""


@runtime_checkable
class KeepsNvram(Protocol):
    """Hosts on which a guest's firmware can be in a file of its own."""

    @property
    def nvram(self) -> FirmwareStore | None:
        """That file, under a policy that keeps one, once there is one."""

    def arrived(self, machine: Any) -> bool | None:
        """The guest has come to a machine, and its nvram with it.

        Whether that is equal to what it was; None for a guest without one.
        """


@runtime_checkable
class Saves(Protocol):
    """Hosts on which what the guest owns can be kept for others."""

    def keep(self, host: int, directory: Path) -> None:
        """Copy what belongs to the guest on ``host`` into a new directory."""

    def take_up(self, host: int, directory: Path) -> None:
        """Have what was kept there."""


@runtime_checkable
class Types(Protocol):
    """A machine at whose console somebody can type."""

    def reset_by(self, keys: bytes, deadline: Deadline) -> bool:
        """Type what makes the guest reset it. False: it was not reset in time, or has ended.

        It then stands where a boot begins: what its console says is all of the next boot.
        """


@runtime_checkable
class Resets(Protocol):
    """A machine with a reset button."""

    def reset(self, deadline: Deadline) -> bool:
        """Press it: what the console says from then on is all of the next boot. False: in vain."""


@runtime_checkable
class SwitchesOff(Protocol):
    """A machine that can be switched off."""

    def off(self, deadline: Deadline) -> None:
        """Switch it off, and wait until it is."""


@runtime_checkable
class LosesPower(Protocol):
    """A machine whose power can be cut at any moment, as a plug is pulled."""

    def cut_power(self) -> None:
        """Cut it."""


@runtime_checkable
class Wakes(Protocol):
    """A machine that can be woken up."""

    def suspend_by(self, keys: bytes, deadline: Deadline) -> None:
        """Type what makes the guest suspend it. Raises DeadlineExceeded."""

    def wake(self, deadline: Deadline) -> None:
        """Wake it up. Raises DeadlineExceeded, MonitorError."""


@runtime_checkable
class Pauses(Protocol):
    """A machine that can be stopped, and goes on as if nothing had been."""

    def pause(self, deadline: Deadline) -> None:
        """Stop it."""

    def go_on(self, deadline: Deadline) -> None:
        """Let it go on."""


@runtime_checkable
class SwapsFirmware(Protocol):
    """A machine whose firmware can be replaced at its resets."""

    def arm(self) -> None:
        """Make the policy's firmware run at the resets to come."""

    @property
    def swapped(self) -> bool:
        """Whether it was replaced since the last boot was over."""


@runtime_checkable
class Migrates(Protocol):
    """A machine out of which, and into which, a running guest can move."""

    def migrate(
        self, target: Any, channel: Channel, deadline: Deadline, capabilities: Sequence[str] = (),
        parameters: Mapping[str, str | int] = MappingProxyType({}), *, recovers: bool = False,
    ) -> Refusal | None:
        """Move the guest to a machine of the same kind. It then stands still, if not refused.

        Both have QEMU's ``capabilities`` and ``parameters`` of these names beside their own.
        ``recovers``: their connection breaks half-way, and it goes on by another.
        Where it has begun to move there, it arrives.
        """

    @property
    def leaves_first(self) -> bool:
        """Whether the guest has to be out of it before another machine is launched for it."""

    def leave(self, deadline: Deadline) -> Refusal | None:
        """Move the guest to where a machine that is launched afterwards takes it from."""

    def arrive(self, deadline: Deadline) -> Refusal | None:
        """Take it from there, and let it run."""

    def begin_to_migrate(self, target: Any, deadline: Deadline) -> None:
        """Begin to move it to a machine, and hold that back: it is still here until ``migrate``."""

    def fail_to_migrate(
        self, target: Any, by: MigrationEnd, cut_at: int, deadline: Deadline
    ) -> str:
        """Begin to move it, and let that end half-way: it goes on here. How that has ended.

        Raises MonitorError.
        """

    def save(self, file: Path, deadline: Deadline) -> Refusal | None:
        """Move the guest into a file."""

    def restore(self, file: Path, deadline: Deadline) -> Refusal | None:
        """Take the guest out of a file."""


@runtime_checkable
class ReadsMemory(Protocol):
    """A machine whose memory can be read. No step needs it: it is one witness more."""

    def rom_digest(self, deadline: Deadline) -> str | None:
        """The sha256 of the firmware in its memory; None where its bytes tell nothing.

        Raises MonitorError, DeadlineExceeded.
        """


@runtime_checkable
class Explains(Protocol):
    """A machine that can say what it is doing. No step needs it: it is asked where one failed."""

    def explain(self, since: float) -> BlackBox:
        """What it is doing instead of what it should since a time (monotonic).

        It takes half a second at most, and raises nothing that is not the engine's: a machine
        that does not answer says so.
        """


ABILITIES: Mapping[Ability, type] = MappingProxyType({
    Ability.CONSOLE: Types,
    Ability.START: Starts,
    Ability.RESET: Resets,
    Ability.POWER: SwitchesOff,
    Ability.POWER_LOSS: LosesPower,
    Ability.MIGRATE: Migrates,
    Ability.WAKE: Wakes,
    Ability.PAUSE: Pauses,
    Ability.REPLACE_FIRMWARE: ReplacesFirmware,
    Ability.REPLACE_DISK: ReplacesDisk,
    Ability.SWAP: SwapsFirmware,
    Ability.NVRAM: KeepsNvram,
})  # fmt: skip


def abilities(hosts: type, machine: type) -> frozenset[Ability]:
    """What a kind of hosts and its machines can do."""

    def has(protocol: type) -> bool:
        names = [name for name in vars(protocol) if not name.startswith("_")]
        return any(all(hasattr(kind, name) for name in names) for kind in (hosts, machine))

    return frozenset(ability for ability, protocol in ABILITIES.items() if has(protocol))


def able(thing: object, ability: type[T]) -> T:
    """A machine, or hosts, as one that has an ability. Raises UserError if it has not."""
    if not isinstance(thing, ability):
        raise UserError(f"{thing} cannot do that", hint=(ability.__doc__ or "").strip())
    return thing
