"""What a step is, and what each kind of step has to say of itself. Pure.

What is done to a guest stands in ``bootmatrix.run.steps``, in a file of the same name: nothing here
may know it, as what must be seen must not follow from what was done.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, ClassVar

from bootmatrix.boards import ARCHITECTURES, Board
from bootmatrix.model import GuestKind, Host, Interface, role_index, role_name
from bootmatrix.policies.base import PolicyModel

_ROLE_EXAMPLES = ("source", "destination", "host-3")


class Ability(Enum):
    """What a step or a policy can need of a machine, which has each of them or has not."""

    CONSOLE = "a console to type at"
    START = "a machine that can be started"
    RESET = "a reset button"
    POWER = "a power switch"
    POWER_LOSS = "power that can be cut"
    MIGRATE = "migration"
    WAKE = "wake-up from outside"
    REPLACE_FIRMWARE = "firmware that can be replaced"
    REPLACE_DISK = "a disk that can be replaced"
    SWAP = "firmware that can be replaced at a reset"
    NVRAM = "a file for a guest's firmware"


class StepError(ValueError):
    """A step list that cannot be read, or makes no sense.

    ``where`` leads from the list to the offending part, for example ``(1, "migrate", "to")``;
    ``found`` and ``accepted`` are set where a name was expected and another one found.
    """

    def __init__(
        self,
        where: tuple[str | int, ...],
        message: str,
        *,
        found: str | None = None,
        accepted: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.where = where
        self.message = message
        self.found = found
        self.accepted = tuple(accepted)


# ---- options --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Option:
    """What the mapping of a step can have under ``name``; it goes to the field ``field``."""

    name: str
    field: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "field", self.field or self.name.replace("-", "_"))

    @property
    def schema(self) -> Mapping[str, Any]:
        """The JSON Schema of a value."""
        raise NotImplementedError

    def read(self, where: tuple[str | int, ...], value: Any) -> Any:
        """The field's value. Raises StepError."""
        raise NotImplementedError

    def written(self, value: Any) -> Any:
        """The inverse of ``read``."""
        return value


@dataclass(frozen=True)
class Role(Option):
    """A host of the cell, by its index.

    Left out, it is the one where the guest is, or which the option before it names; with
    ``beyond`` the one after that, in the order source, destination, host-3, ...
    """

    beyond: bool = False

    @property
    def schema(self) -> Mapping[str, Any]:
        """The names of roles."""
        return {"type": "string", "pattern": r"^(source|destination|host-([3-9]|[1-9][0-9]+))$"}

    def read(self, where: tuple[str | int, ...], value: Any) -> int:
        """From its name."""
        try:
            return role_index(value)
        except (ValueError, AttributeError):
            raise StepError(
                where, f"no host of a cell: {value!r}", found=str(value), accepted=_ROLE_EXAMPLES
            ) from None

    def written(self, value: int) -> str:
        """Its name."""
        return role_name(value)


@dataclass(frozen=True)
class Flag(Option):
    """True or false."""

    @property
    def schema(self) -> Mapping[str, Any]:
        """A boolean."""
        return {"type": "boolean"}

    def read(self, where: tuple[str | int, ...], value: Any) -> bool:
        """Itself, and nothing that only counts as true."""
        if not isinstance(value, bool):
            raise StepError(where, f"must be true or false, not {value!r}")
        return value


@dataclass(frozen=True)
class Choice(Option):
    """One of ``values``."""

    values: tuple[StrEnum, ...] = ()

    @property
    def schema(self) -> Mapping[str, Any]:
        """All of them."""
        return {"enum": [value.value for value in self.values]}

    def read(self, where: tuple[str | int, ...], value: Any) -> StrEnum:
        """From its text."""
        for candidate in self.values:
            if candidate.value == value:
                return candidate
        accepted = [each.value for each in self.values]
        raise StepError(where, f"not known: {value!r}", found=str(value), accepted=accepted)

    def written(self, value: StrEnum) -> str:
        """Its text."""
        return value.value


# ---- steps ----------------------------------------------------------------------------------


@dataclass
class GuestState:
    """A guest after the steps so far, as far as the order of steps depends on it.

    ``host`` is where it was last. ``booting``: the last step was one that boots. ``cleared``: its
    nvram is empty until the next start. ``flashes`` is whose firmware fw_cfg offers it to flash.
    """

    host: int = 0
    started: bool = False
    running: bool = False
    booting: bool = False
    cleared: bool = False
    flashes: int | None = None


@dataclass(frozen=True)
class Platform:
    """What a guest runs on, as far as it decides which steps can be done to it."""

    board: Board
    hosts: Sequence[Host]
    guest: GuestKind

    @property
    def uefi(self) -> bool:
        """Whether firmware offers UEFI's interface; U-Boot does, too, to what it boots."""
        return (self.hosts[0].firmware.interface is Interface.UEFI
                or not ARCHITECTURES[self.board.arch].has_bios)

    @property
    def boot_sector(self) -> bool:
        """Whether the guest is the one of a BIOS."""
        return not self.guest.is_linux and not self.uefi

    @property
    def guest_name(self) -> str:
        """The guest in words."""
        return "a boot sector" if self.boot_sector else f"a {self.guest} guest"


@dataclass(frozen=True)
class Step:
    """One thing done to a guest. A kind of step is a subclass, and its options are the fields.

    ``kind`` is its name in matrix files, ``options`` what its mapping there can have. ``running``:
    it is done to a guest that runs; ``needs_nvram``: to one that has an nvram file; ``by_user``: to
    its firmware, by the guest's own user; ``boots``: the guest boots. ``must_answer`` is what is
    wrong with a guest that does not answer after it, "" where it is not asked.
    """

    kind: ClassVar[str]
    options: ClassVar[tuple[Option, ...]] = ()
    running: ClassVar[bool] = False
    needs_nvram: ClassVar[bool] = False
    by_user: ClassVar[bool] = False
    boots: ClassVar[bool] = False
    must_answer: ClassVar[str] = ""

    @property
    def roles(self) -> tuple[int, ...]:
        """The hosts that it names."""
        return tuple(getattr(self, option.field) for option in self.options
                     if isinstance(option, Role))

    @property
    def needs(self) -> frozenset[Ability]:
        """What it needs of a machine."""
        return frozenset()

    def problem(self, state: GuestState) -> str | None:
        """Why it makes no sense at this point of a list; None if it does."""
        return None

    def advance(self, state: GuestState) -> None:
        """Let it happen to the guest, as far as the order of steps depends on it."""

    def apply(self, model: PolicyModel) -> str | None:
        """Do it to the policy's model; the class of the refusal where QEMU must refuse it."""
        return None

    def unsupported(self, platform: Platform, host: int) -> Iterator[str]:
        """Why it cannot be done to this guest, which is on ``host``."""
        yield from ()

    def by_hand(self, process: str) -> tuple[str, ...]:
        """What a reproduction script does in it; ``process`` is the guest's, "" if none runs.

        Where the script must keep in mind what has changed, ``diagnose.reproduction.steps`` has
        a function instead.
        """
        return ()

    def describe(self, hosts: Sequence[Host]) -> str:
        """The step in words, with the builds behind the roles."""
        return self.kind


def at_host(index: int, hosts: Sequence[Host]) -> str:
    """A host in words, with its QEMU."""
    return f"{role_name(index)} ({hosts[index].qemu.called})"


@dataclass(frozen=True)
class Scenario:
    """A named list of steps, the way a guest goes through its life."""

    name: str
    steps: tuple[Step, ...]
    summary: str = ""

    @property
    def hosts_needed(self) -> int:
        """How many hosts the steps name: a cold boot needs 1, a migration 2, a chain 3."""
        return max((role for step in self.steps for role in step.roles), default=0) + 1
