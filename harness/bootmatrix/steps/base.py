"""What a step is, and what each kind of step has to say of itself. Pure.

What is done to a guest stands in ``bootmatrix.run.steps``, in a file of the same name: nothing here
may know it, as what must be seen must not follow from what was done.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, ClassVar

from bootmatrix.boards import Board, offered
from bootmatrix.model import GuestKind, Host, Interface, role_index, role_name
from bootmatrix.policies.base import PolicyModel

_MOST = 999_999_999
_QEMU_NAME = r"^[a-z][a-z0-9-]{0,63}$"
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
    PAUSE = "a way to be stopped for a while"
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


@dataclass(frozen=True)
class Number(Option):
    """A whole number, from 0."""

    @property
    def schema(self) -> Mapping[str, Any]:
        """Of nine digits at most."""
        return {"type": "integer", "minimum": 0, "maximum": _MOST}

    def read(self, where: tuple[str | int, ...], value: Any) -> int:
        """Itself, and nothing that only counts as a number."""
        if not _is_number(value) or not 0 <= value <= _MOST:
            raise StepError(where, f"must be a whole number from 0 to {_MOST}, not {value!r}")
        return int(value)  # YAML's 0 and 0x10 are of kinds of their own


@dataclass(frozen=True)
class Names(Option):
    """A list of QEMU's names; whether it has them, it is asked."""

    @property
    def schema(self) -> Mapping[str, Any]:
        """Texts."""
        return {"type": "array", "items": {"type": "string", "pattern": _QEMU_NAME}}

    def read(self, where: tuple[str | int, ...], value: Any) -> tuple[str, ...]:
        """In their order."""
        if not isinstance(value, list):
            raise StepError(where, f"must be a list of names, not {value!r}")
        return tuple(_qemu_name((*where, index), name) for index, name in enumerate(value))

    def written(self, value: tuple[str, ...]) -> list[str]:
        """As a list."""
        return list(value)


@dataclass(frozen=True)
class Settings(Option):
    """QEMU's names and their values; whether it takes them, it is asked."""

    @property
    def schema(self) -> Mapping[str, Any]:
        """A mapping."""
        return {"type": "object", "propertyNames": {"pattern": _QEMU_NAME},
                "additionalProperties": {"type": ["string", "integer", "boolean"]}}

    def read(
        self, where: tuple[str | int, ...], value: Any
    ) -> tuple[tuple[str, str | int | bool], ...]:
        """In their order."""
        if not isinstance(value, Mapping):
            raise StepError(where, f"must be a mapping of names to values, not {value!r}")
        for name, given in value.items():
            _qemu_name(where, name)
            if not isinstance(given, (str, int)):
                raise StepError((*where, name),
                                f"must be a text, a whole number, true or false, not {given!r}")
        return tuple((name, int(given) if _is_number(given) else given)
                     for name, given in value.items())

    def written(self, value: tuple[tuple[str, str | int | bool], ...]) -> dict[str, Any]:
        """As a mapping."""
        return dict(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _qemu_name(where: tuple[str | int, ...], name: Any) -> str:
    if not isinstance(name, str) or not re.fullmatch(_QEMU_NAME, name):
        raise StepError(where, f"no name of QEMU's: {name!r}")
    return name


# ---- steps ----------------------------------------------------------------------------------


@dataclass
class GuestState:
    """A guest after the steps so far, as far as the order of steps depends on it.

    ``host`` is where it was last. ``booting``: the last step was one that boots. ``cleared``: its
    nvram is empty until the next start. ``flashes`` is whose firmware fw_cfg offers it to flash,
    ``coming`` where a migration that has begun will bring it. ``replaced``: its process has a disk
    open that lies there no more.
    """

    host: int = 0
    started: bool = False
    running: bool = False
    booting: bool = False
    cleared: bool = False
    flashes: int | None = None
    coming: int | None = None
    replaced: bool = False


@dataclass(frozen=True)
class Platform:
    """What a guest runs on, as far as it decides which steps can be done to it."""

    board: Board
    hosts: Sequence[Host]
    guest: GuestKind

    @property
    def uefi(self) -> bool:
        """Whether firmware offers UEFI's interface; U-Boot does, too, to what it boots."""
        return self._offered is Interface.UEFI

    @property
    def bios(self) -> bool:
        """Whether it offers a BIOS's."""
        return self._offered is Interface.BIOS

    @property
    def _offered(self) -> Interface:
        return offered(self.hosts[0].firmware, self.board.arch)

    @property
    def boot_sector(self) -> bool:
        """Whether the guest is the one of a BIOS."""
        return not self.guest.is_linux and self.bios

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

    @property
    def mistake(self) -> str | None:
        """What is wrong with its options, wherever it comes."""
        return None

    def problem(self, state: GuestState) -> str | None:
        """Why it makes no sense at this point of a list; None if it does."""
        return self.mistake

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


def cannot_begin(state: GuestState, host: int) -> str | None:
    """Why no migration to a host can begin now; None if one can."""
    if host == state.host:
        return f"the guest is on {role_name(state.host)} already; let it go elsewhere"
    if state.coming is not None:
        return f"a migration to {role_name(state.coming)} has begun before"
    return None


def never_migrates(platform: Platform, source: int, destination: int) -> Iterator[str]:
    """Why a board does not migrate from one host to another, where it does not."""
    old, new = (platform.hosts[host].qemu.version for host in (source, destination))
    if not platform.board.migrates_to_others and old != new:
        yield f"{platform.board.name} does not migrate between versions of QEMU"


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
