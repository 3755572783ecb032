"""Cell: one point of the matrix. Its annotated fields are the table of the axes, a row each.

A cell's id, the matrix file's schema, pytest's markers, what a record says of a cell and how that
is read back follow from the table: a new axis is a new row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Annotated, Any, get_args, get_type_hints

from bootmatrix.arguments import ArgumentSet, devices
from bootmatrix.boards import Board, board_of
from bootmatrix.model import (
    DEFAULT_LIMITS,
    Accel,
    Arch,
    Disk,
    GuestKind,
    HostSpec,
    Limits,
    MigrationMode,
    Nic,
    OwnGuest,
    OwnMachine,
    Tpm,
)
from bootmatrix.policies import Policy
from bootmatrix.steps.base import Scenario

PATIENCE = 120.0
"""Seconds that a failure is waited for, at least, before it is called one.

The longest time-out of a firmware that was met is 32 s (SeaBIOS, an AHCI command). Work can take
longer: OVMF with a full variable store was up after 35 to 127 s on a busy machine
(docs/stock-qemu.md); with so short a patience that can be called a hang."""

BETWEEN_HOSTS = "-to-"
"""Joins the hosts in a cell's id."""

# Names become parts of cell ids, which must be safe as file names and in a shell.
NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"
_WORD = r"[A-Za-z0-9][A-Za-z0-9._-]*"
# What stands behind a comma: neither a space nor what a shell reads otherwise.
_OPTIONS = rf"(,{_WORD}=[A-Za-z0-9._:+-]*)*"
_MACHINE = rf"^{_WORD}(:{_WORD})?{_OPTIONS}$"
# A CPU model with properties; empty for QEMU's own choice.
_CPU = rf"^({_WORD}(,([+-]{_WORD}|{_WORD}=[A-Za-z0-9._:+-]*))*)?$"
_SMP = rf"^([0-9]{{1,4}},)?{_WORD}=[0-9]{{1,4}}(,{_WORD}=[0-9]{{1,4}})*$"
_MEMORY = rf"^(([0-9]{{1,7}}[MG]?|size=[0-9]{{1,7}}[MG]?)(,{_WORD}=[0-9]{{1,7}}[MGT]?)*)?$"


@dataclass(frozen=True)
class Axis:
    """An axis of the matrix beside its hosts; ``name``, ``type`` and ``default`` are the field's.

    ``meaning`` is its marker's, ``schema`` what the JSON Schema says, and ``pattern`` what values
    are like that are names. The default is in no id, and goes without saying in reports and lists;
    but with ``in_id`` it is, and with ``shown`` it is said there. ``labelled``: the value alone
    does not tell of which axis it is, and stands behind its name (``smp-2``). ``sparse``: where it
    is the default, no record has it. A number that has a ``pattern`` can also be such a text.
    """

    meaning: str
    schema: str
    pattern: str = ""
    in_id: bool = False
    shown: bool = False
    labelled: bool = False
    sparse: bool = False
    name: str = ""
    type: Any = str
    default: Any = None

    @property
    def is_number(self) -> bool:
        """Whether its values are whole numbers, texts beside them or not."""
        return self.type is int or self.type == NumberOrText

    def parses(self, text: str) -> bool:
        """Whether it is a text that could be a value."""
        return bool(self.pattern) and re.search(self.pattern[:-1] + r"\Z", text) is not None

    def plain(self, value: Any) -> str | int:
        """A cell's value as a record has it."""
        if isinstance(value, Scenario | ArgumentSet | OwnGuest):
            return value.name
        return value.value if isinstance(value, StrEnum) else value

    def parse(self, value: Any) -> Any:
        """The inverse of ``plain``, but for a scenario, which stays a name. Raises ValueError.

        A set of arguments, or a guest of a matrix's own, is given as such: its name alone does not
        say what is in it.
        """
        if self.type is ArgumentSet:
            if isinstance(value, ArgumentSet):
                return value
            if value == "":
                return self.default
        elif self.type == AnyGuest:
            return value if isinstance(value, OwnGuest) else GuestKind(value)
        elif self.is_number and type(value) is int:
            if value > 0:
                return value
        elif self.pattern:
            if isinstance(value, str) and self.parses(value):
                return value
        elif self.type is not int:
            return self.type(value)
        raise ValueError(f"{self.name} is {value!r}, which no matrix can hold")


NumberOrText = int | str
AnyGuest = GuestKind | OwnGuest


@dataclass(frozen=True)
class Cell:
    """One point of the matrix. Everything in it has an influence on what is run.

    ``seconds`` is the time within which a boot counts as usual. One that misses it is waited for
    with ``patience``, before it is called late or a hang; None: ``longest`` says how long.
    ``cpu`` is a CPU model, "" QEMU's own choice; ``smp`` is how many CPUs there are, ``memory``
    how many MiB, or what -smp and -m are given.
    ``debug_log``: it has the port, where its board can, that firmware prints its debug log to.
    ``limits`` are those of its sandboxes.
    """

    hosts: tuple[HostSpec, ...]
    machine: Annotated[str, Axis(
        "the machine type",
        "versioned machine types, newest-common[:FAMILY], or default (no -M), each with options "
        "if you like (pc-q35-10.0,acpi=off)", _MACHINE)]
    policy: Annotated[Policy, Axis(
        "the rule that decides which firmware runs at a boot",
        "which firmware runs at a boot; default: all")]
    scenario: Annotated[Scenario, Axis(
        "what is done to the guest", "scenarios of the library, or of this file", NAME)]
    disk: Annotated[Disk, Axis(
        "how the guest's disk is attached", "how the disk is attached; default: ahci",
        in_id=True, shown=True)] = Disk.AHCI
    accel: Annotated[Accel, Axis(
        "QEMU's accelerator", "default: tcg", shown=True)] = Accel.TCG
    seconds: float = 5.0
    arch: Annotated[Arch, Axis(
        "what the QEMUs emulate", "what the QEMUs emulate; default: x86_64")] = Arch.X86_64
    guest: Annotated[GuestKind | OwnGuest, Axis(
        "what runs once the firmware is done",
        "what runs once the firmware is done: probe, linux, linux-kernel, or one of guests; "
        "default: probe", NAME)] = GuestKind.PROBE
    cpu: Annotated[str, Axis(
        "the CPU model, empty for QEMU's own choice",
        'CPU models, with properties if you like (Haswell,-hle); "", the default, is QEMU\'s own '
        "choice", _CPU, labelled=True)] = ""
    smp: Annotated[int | str, Axis(
        "how many CPUs there are", "how many CPUs, or what -smp takes (4,maxcpus=64); default: 1",
        _SMP, labelled=True)] = 1
    nic: Annotated[Nic, Axis(
        "the guest's network card", "the network card, with its option ROM; default: none",
        labelled=True)] = Nic.NONE
    migration: Annotated[MigrationMode, Axis(
        "how the running guest gets another QEMU under it",
        "modes of migration; default: precopy")] = MigrationMode.PRECOPY
    memory: Annotated[int | str, Axis(
        "MiB of memory, empty for what the guest needs",
        'MiB of memory, or what -m takes (1G,slots=2,maxmem=4G); "", the default, is what the '
        "guest needs", _MEMORY, labelled=True, sparse=True)] = ""
    arguments: Annotated[ArgumentSet, Axis(
        "more arguments for QEMU, on all hosts, by their name",
        "lists of more arguments for QEMU, on all hosts, by name; default: none",
        labelled=True, sparse=True)] = ArgumentSet()  # noqa: RUF009  # frozen
    devices: Annotated[ArgumentSet, Axis(
        "more devices, by their name",
        "lists of more devices (what -device takes, and options with their values), by name; "
        "default: none", labelled=True, sparse=True)] = ArgumentSet()  # noqa: RUF009  # frozen
    tpm: Annotated[Tpm, Axis(
        "the interface of the guest's TPM, if it has one",
        "the interface of the guest's TPM, which swtpm emulates; default: none",
        labelled=True, sparse=True)] = Tpm.NONE
    patience: float | None = None
    debug_log: bool = True
    limits: Limits = DEFAULT_LIMITS

    @property
    def longest(self) -> float:
        """Seconds after which a boot that has not come is called a hang."""
        return max(self.seconds, self.patience or max(PATIENCE, 3 * self.seconds))

    @cached_property
    def board(self) -> Board | None:
        """What its machine type is a version of; None for one that is not known here."""
        return board_of(self.machine, self.arch)

    @cached_property
    def id(self) -> str:
        """The cell's name, derived from its values; safe as a file name and in a shell."""
        parts = [BETWEEN_HOSTS.join(host.name for host in self.hosts)]
        for name, axis in AXES.items():
            value = getattr(self, name)
            if axis.in_id or value != axis.default:
                parts.append(f"{name}-" * axis.labelled + str(axis.plain(value)))
        return ",".join(parts)

    @property
    def values(self) -> dict[str, str | int]:
        """Axis to value, as the ``cell`` of a record has them, in the order of the axes."""
        return {name: axis.plain(value) for name, axis in AXES.items()
                if (value := getattr(self, name)) != axis.default or not axis.sparse}

    @property
    def words(self) -> tuple[str, ...]:
        """What QEMU is given beside what the other axes make of it."""
        own = self.own_machine
        return (*(own.words if own else ()), *devices(self.devices.words), *self.arguments.words)

    @property
    def own_machine(self) -> OwnMachine | None:
        """Somebody's machine, if that is what its guest runs in."""
        return self.guest.machine


def axes_of(cell: type[Cell]) -> Mapping[str, Axis]:
    """The table that the annotated fields of a class of cells are."""
    hints = get_type_hints(cell, include_extras=True)
    rows = ((field, get_args(hints[field.name])) for field in fields(cell))
    return MappingProxyType({
        field.name: replace(hint[1], name=field.name, type=hint[0],
                            default=None if field.default is MISSING else field.default)
        for field, hint in rows if len(hint) == 2 and isinstance(hint[1], Axis)
    })


AXES = axes_of(Cell)
"""The axes by name, in their order: the last changes fastest."""
