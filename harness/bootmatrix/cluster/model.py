"""What goes between a run and the machines that run its cells: data, checked where it arrives.

Nothing of it is code, and nothing is believed: a cell is made anew from its values by the worker,
a record is checked as one that is read from a file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from bootmatrix.arguments import ArgumentSet, complaint
from bootmatrix.cell import AXES, NAME, Cell
from bootmatrix.errors import HarnessError
from bootmatrix.model import (
    Arch,
    GuestKind,
    HostSpec,
    Known,
    Limits,
    OwnDisk,
    OwnGuest,
    OwnMachine,
    Verdict,
)
from bootmatrix.steps.base import Scenario
from bootmatrix.steps.library import StepData, validate

PROTOCOL = 2
"""What workers and runs of one number understand of each other."""

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
RunName = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
Matrix = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f]*$", max_length=1024)]
Place = Callable[[str], Path]
"""Where a file is on this machine, by its digest."""

_MACHINE = TypeAdapter(OwnMachine)


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class HostData(_Data):
    """A host of a cell: ``builds`` is the key of its QEMU and firmware in the run's table."""

    name: str
    builds: Digest
    arch: str
    arguments: list[str] = []


class DiskData(_Data):
    """A disk of the user's, by its content."""

    digest: Digest
    format: Literal["raw", "qcow2"]


class GuestData(_Data):
    """A guest of the matrix file's own."""

    kind: str
    machine: dict[str, Any] | None
    disk: DiskData | None
    up: str
    smbios: str
    login: list[tuple[str, str]]

    def guest(self, name: str, place: Place) -> OwnGuest:
        """The guest. Raises ValueError for what no matrix can hold."""
        machine = None if self.machine is None else _MACHINE.validate_python(self.machine)
        if machine is not None:
            _words(machine.words)
        for pattern in (self.up, *(pattern for pattern, _ in self.login)):
            re.compile(pattern)
        disk = self.disk and OwnDisk(place(self.disk.digest), self.disk.format)
        return OwnGuest(_name(name), GuestKind(self.kind), machine, disk or None, self.up,
                        self.smbios, tuple(self.login))


class LimitsData(_Data):
    """The limits of a cell's sandboxes, as bootmatrix.model.Limits has them."""

    memory: Annotated[int, Field(ge=1, le=1 << 20)] | None = None
    file: Annotated[int, Field(ge=1, le=1 << 20)] | None = None
    processes: Annotated[int, Field(ge=1, le=1 << 20)] | None = None


class KnownData(_Data):
    """An entry of ``known``."""

    when: list[tuple[str, list[str]]]
    verdict: list[str]
    reason: str
    link: str | None = None


class Task(_Data):
    """A cell to be run, once: its values, its hosts' builds, and what the run wants of it.

    ``values`` are those of the axes by their names, ``steps`` the scenario's as a matrix file has
    them; ``words`` are in its sets of arguments, by their axes; ``guest`` is there where it is the
    matrix file's own. ``all_artifacts``: its files come back whatever its verdict. ``attempt``
    counts from 1.
    """

    run: RunName
    matrix: Matrix
    id: str
    hosts: list[HostData]
    values: dict[str, str | int]
    words: dict[str, list[str]]
    guest: GuestData | None
    steps: list[StepData]
    seconds: float
    patience: float | None
    debug_log: bool
    limits: LimitsData = LimitsData()
    known: list[KnownData]
    repeat: int
    engine: str | None
    share: bool
    all_artifacts: bool
    attempt: int

    def cell(self, place: Place) -> Cell:
        """The cell. Raises HarnessError for values that make none, or another one."""
        try:
            values = {name: self._value(name, place) for name in AXES
                      if name in self.values or not AXES[name].sparse}
            validate(self.steps)
            values["scenario"] = Scenario(values["scenario"], tuple(self.steps))
            hosts = tuple(HostSpec(host.name, host.builds, arch=Arch(host.arch),
                                   arguments=_words(host.arguments)) for host in self.hosts)
            cell = Cell(hosts, seconds=self.seconds, patience=self.patience,
                        debug_log=self.debug_log, limits=Limits(**self.limits.model_dump()),
                        **values)
        except (ValueError, LookupError, re.error) as error:
            raise HarnessError(f"what came is no cell: {error}") from None
        if cell.id != self.id:
            raise HarnessError(f"what came as {self.id} is {cell.id} here")
        return cell

    def _value(self, axis: str, place: Place) -> Any:
        value = self.values[axis]
        if AXES[axis].type is ArgumentSet:
            return ArgumentSet(_name(value), _words(self.words[axis]))
        if axis == "guest" and self.guest is not None:
            return self.guest.guest(str(value), place)
        return AXES[axis].parse(value)

    def declared(self) -> tuple[Known, ...]:
        """The entries of ``known``."""
        return tuple(Known(tuple((key, tuple(globs)) for key, globs in entry.when),
                           tuple(map(Verdict, entry.verdict)), entry.reason, entry.link)
                     for entry in self.known)


def _name(text: str | int) -> str:
    if not isinstance(text, str) or re.search(NAME[:-1] + r"\Z", text) is None:
        raise ValueError(f"{text!r} is no name")
    return text


def _words(words: Sequence[str]) -> tuple[str, ...]:
    if (wrong := complaint(words)) is not None:
        raise ValueError(wrong)
    return tuple(words)


def words_data(cell: Cell) -> dict[str, list[str]]:
    """What is in a cell's sets of arguments, by their axes."""
    return {name: list(getattr(cell, name).words) for name, axis in AXES.items()
            if axis.type is ArgumentSet and getattr(cell, name) != axis.default}


def guest_data(guest: GuestKind | OwnGuest, digest: Callable[[Path], str]) -> GuestData | None:
    """A guest of the matrix file's own as data; None for one of the harness's."""
    if isinstance(guest, GuestKind):
        return None
    disk, machine = guest.disk, guest.machine
    return GuestData.model_validate({
        "kind": guest.kind.value, "up": guest.up, "smbios": guest.smbios,
        "login": list(guest.login),
        "machine": None if machine is None else _MACHINE.dump_python(machine, mode="json"),
        "disk": None if disk is None else {"digest": digest(disk.path), "format": disk.format}})


def known_data(known: Known) -> KnownData:
    """An entry of ``known`` as data."""
    return KnownData(when=[(key, list(globs)) for key, globs in known.when],
                     verdict=[verdict.value for verdict in known.verdict],
                     reason=known.reason, link=known.link)


class CellAnswer(_Data):
    """What has come of a cell on a worker; its record and its files come beside it.

    ``done``: it has a record. ``lost``: the process that ran it ended, or told nothing any more.
    ``broken``: the rig of that machine is at fault, and the next cell would fail alike.
    ``unknown``: it knows nothing of this run, or not any more. ``stopped``: nobody wanted it.
    """

    state: Literal["done", "lost", "broken", "unknown", "stopped"]
    why: str = ""


class WorkerFacts(_Data):
    """What a worker has, as it announces it.

    ``axes`` are those that a cell can have for it. ``kvm`` is empty where KVM can be used, and else
    says why it cannot. ``memory`` is in MiB. ``roots`` are the catalogue's builds that are built
    there, with their digests. ``boards`` are those on its bench, by their digests, with their
    names. ``slots`` is how many cells it runs side by side.
    """

    protocol: int
    axes: list[str]
    version: str
    name: str
    machine: str
    slots: Annotated[int, Field(ge=1, le=4096)]
    kvm: str
    memory: int
    engines: list[str]
    roots: dict[str, str]
    boards: dict[Digest, str] = {}

    @property
    def resources(self) -> dict[str, float]:
        """What it has, as dask counts it."""
        return {"memory-mib": self.memory, **({} if self.kvm else {"kvm": self.slots}),
                **{_resource(board): 1 for board in self.boards}}


def _resource(board: str) -> str:
    return f"board-{board[:16]}"


class Needs(_Data):
    """What a cell needs of a machine. ``memory``, in MiB, is that of its guest on two hosts.

    ``boards`` are the digest and the name of each board.
    """

    machine: str | None
    kvm: bool = False
    memory: int = 0
    engine: str | None = None
    boards: tuple[tuple[str, str], ...] = ()

    @property
    def resources(self) -> tuple[tuple[str, float], ...]:
        """What it takes of a worker, as dask counts it."""
        return (("memory-mib", self.memory), *[("kvm", 1)] * self.kvm,
                *((_resource(board), 1) for board, _ in self.boards))

    def lacking(self, facts: WorkerFacts) -> str:
        """What a machine lacks for it, in a few words; empty if nothing."""
        if self.machine not in (None, facts.machine):
            return f"is {facts.machine}, not {self.machine}"
        if missing := [name for board, name in self.boards if board not in facts.boards]:
            return f"has no board {missing[0]}"
        if self.kvm and facts.kvm:
            return f"has no KVM: {facts.kvm}"
        if self.engine and self.engine not in facts.engines:
            return f"runs QEMUs with {' and '.join(facts.engines) or 'no engine'}, " \
                   f"not with {self.engine}"
        if not facts.engines and not self.boards:
            return "has no engine that works"
        if self.memory > facts.memory:
            return f"has {facts.memory} MiB of memory, not {self.memory}"
        return ""


def read_task(data: bytes) -> Task:
    """The task that has come. Raises HarnessError for what is none."""
    try:
        return Task.model_validate_json(data)
    except ValidationError as error:
        raise HarnessError(f"what came is no task: {error.errors()[0]['msg']}") from None


def read_answer(data: bytes) -> CellAnswer:
    """The answer that has come. Raises HarnessError for what is none."""
    try:
        return CellAnswer.model_validate_json(data)
    except ValidationError as error:
        raise HarnessError(f"what came is no answer: {error.errors()[0]['msg']}") from None


def read_facts(data: bytes) -> WorkerFacts:
    """The facts that have come. Raises HarnessError for what is none."""
    try:
        return WorkerFacts.model_validate_json(data)
    except ValidationError as error:
        raise HarnessError(f"it says nothing that is understood: {error.errors()[0]['msg']}"
                           ) from None
