"""Guests for people who write their own tests: by names, and with names in the answers.

The pytest fixture ``bootmatrix`` is a Lab. Nothing here knows pytest; a script can make one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, TypeVar

from bootmatrix.builds import image_store
from bootmatrix.builds.host import Builds
from bootmatrix.cell import AXES, AnyGuest, Axis, Cell
from bootmatrix.engines import Engine
from bootmatrix.errors import HarnessError, UserError
from bootmatrix.files.cell_files import remove_tree
from bootmatrix.firmware.identity import KnownFirmware
from bootmatrix.machines.qemu.machine import QemuHosts, QemuMachine
from bootmatrix.machines.qemu.process import VM
from bootmatrix.machines.setup import POST_MS, setup_of
from bootmatrix.matrix import unsupported
from bootmatrix.model import (
    Arch,
    BootBy,
    Channel,
    FirmwareSource,
    GuestKind,
    HostSpec,
    MigrationEnd,
    MovesAs,
    QemuSource,
    ResetBy,
    ShutdownBy,
    role_name,
)
from bootmatrix.run.guest import Guest
from bootmatrix.run.runner import keep_logs
from bootmatrix.run.steps import do_step, is_down
from bootmatrix.run.steps.upgrade_host import install
from bootmatrix.run.steps.upgrade_nvram import stage
from bootmatrix.steps.base import GuestState, Platform, Role, Scenario, Step, StepError
from bootmatrix.steps.clear_nvram import ClearNvram
from bootmatrix.steps.enrol_keys import EnrolKeys
from bootmatrix.steps.fill_variables import FillVariables
from bootmatrix.steps.guest_flash import GuestFlash
from bootmatrix.steps.guest_flash_power_loss import GuestFlashPowerLoss
from bootmatrix.steps.migrate import Migrate
from bootmatrix.steps.migration_begins import MigrationBegins
from bootmatrix.steps.migration_fails import CUT_WITHIN, MigrationFails
from bootmatrix.steps.replace_disk import ReplaceDisk
from bootmatrix.steps.reset import Reset
from bootmatrix.steps.shutdown import Shutdown
from bootmatrix.steps.start import Start
from bootmatrix.steps.suspend import Suspend
from bootmatrix.steps.upgrade_host import UpgradeHost
from bootmatrix.steps.upgrade_nvram import UpgradeNvram
from bootmatrix.steps.write_boot_entry import KEYS, WriteBootEntry
from bootmatrix.steps.write_variable import WriteVariable
from bootmatrix.witnesses.observation import StepObserved
from bootmatrix.witnesses.refusal import Refusal

E = TypeVar("E", bound=StrEnum)


@dataclass(frozen=True)
class Seen:
    """What was seen of one step, with firmware builds by name.

    ``console`` is what the serial console said and ``rom`` what the ROM's bytes are: the name
    of a known build, else the printed text or ``sha256:...``; None where nothing was seen.
    ``up``: the guest said that it is there, and it did what it was told to; ``late``: so it did,
    but long after the usual time for a boot. ``disk`` is the label of the disk it booted from.
    """

    up: bool
    console: str | None
    rom: str | None
    disk: str | None
    refusal: Refusal | None
    seconds: float
    late: bool
    observed: StepObserved

    @property
    def firmware(self) -> str:
        """The firmware that ran. Raises AssertionError where the witnesses do not say it."""
        if self.refusal is not None:
            raise AssertionError(f"QEMU refused it: {self.refusal}")
        if self.observed.failed is not None:
            raise AssertionError(self.observed.failed)
        if not self.up:
            raise AssertionError(f"the guest is not up; its console said {self.console}")
        if self.rom is not None and self.console not in (None, self.rom):
            raise AssertionError(f"the console says {self.console}, the ROM is {self.rom}")
        name = self.rom or self.console
        if name is None:
            raise AssertionError("no witness named a firmware")
        return name


class LabGuest:
    """One guest and the hosts it can live on; every step says what was seen.

    ``guest.vm`` is the QEMU process in which it runs, with ``vm.monitor`` (QMP) and
    ``vm.console`` for what has no step of its own.
    """

    def __init__(
        self, guest: Guest, firmware: KnownFirmware, builds: Builds, usual: float
    ) -> None:
        self._guest = guest
        self._usual = usual
        self._firmware = firmware
        self._builds = builds
        self._hosts = {host.name: index for index, host in enumerate(guest.setup.hosts)}
        self._leaves: int | None = None  # for which host, while its firmware still runs
        self._ended: HarnessError | None = None

    @property
    def vm(self) -> VM:
        """The QEMU process in which the guest runs."""
        return self._guest.able(QemuMachine).vm

    def start(self, host: str | None = None, *, leaves_for: str | None = None) -> Seen:
        """Boot in a new process on a host (default: the first).

        With ``leaves_for``, a host, it is watched no further than to the firmware's name: migrate
        it there ``during_post``.
        """
        return self._do(Start(0 if host is None else self._index(host)), leaves_for)

    def reset(self, by: str = "monitor", *, leaves_for: str | None = None) -> Seen:
        """Boot in the same process; ``by`` monitor, cf9, keyboard, triple-fault, ...

        ``leaves_for`` as in ``start``.
        """
        return self._do(Reset(_choice(ResetBy, by)), leaves_for)

    def migrate(
        self, host: str, channel: str = "unix", *, during_post: bool = False,
        moves_as: str = "running", capabilities: Sequence[str] = (),
        parameters: Mapping[str, str | int] = MappingProxyType({}), recovers: bool = False,
    ) -> Seen:
        """Move the running guest to a host, live, through unix, tcp or file.

        ``during_post``: its firmware still runs (``leaves_for``), and it is seen to come up there.
        ``moves_as``: it is paused, or suspended, when it moves, and goes on there.
        ``capabilities`` and ``parameters`` are those of a migration that QEMU has. ``recovers``:
        by postcopy, whose connection breaks half-way, and another.
        """
        if isinstance(capabilities, str):
            raise UserError(f"capabilities: must be a list of names, not {capabilities!r}")
        return self._do(Migrate(
            self._index(host), _choice(Channel, channel), during_post, _choice(MovesAs, moves_as),
            tuple(capabilities), tuple(parameters.items()), recovers))

    def migration_begins(self, host: str) -> Seen:
        """Begin to move the guest, and hold that back: ``migrate`` to that host lets it arrive."""
        return self._do(MigrationBegins(self._index(host)))

    def migration_fails(
        self, host: str, by: str = "cancelled", seed: int = 0, within: int = CUT_WITHIN
    ) -> Seen:
        """Begin to move the guest, which ends half-way; ``by`` cancelled, destination-killed, ...

        ``seed`` says where a stream is cut, in its first bytes ``within``: ``observed.ended``.
        """
        return self._do(MigrationFails(self._index(host), _choice(MigrationEnd, by), seed,
                                       within))

    def suspend(self) -> Seen:
        """Let the guest suspend itself to RAM, and wake it up: no boot. Linux guests alone."""
        return self._do(Suspend())

    def shutdown(self, by: str = "monitor") -> Seen:
        """End the guest's process, or, ``by`` guest, let it shut itself down."""
        return self._do(Shutdown(_choice(ShutdownBy, by)))

    def write_variable(self) -> Seen:
        """Let the guest write its variable and its boot entry: ``observed.wrote``. UEFI alone."""
        return self._do(WriteVariable())

    def fill_variables(self) -> Seen:
        """Let the guest fill its variable store: ``observed.wrote``. UEFI alone."""
        return self._do(FillVariables())

    def write_boot_entry(self, by: str = "boot-order") -> Seen:
        """Let the guest write an entry for another program on its disk, and put it first.

        ``by`` boot-next it is for the next boot alone. ``observed.boot.up.program`` is what was
        started. UEFI alone.
        """
        return self._do(WriteBootEntry(_choice(BootBy, by, tuple(KEYS))))

    def enrol_keys(self) -> Seen:
        """Let the guest enrol Secure Boot keys: ``observed.answer.setup_mode`` is then "0"."""
        return self._do(EnrolKeys())

    def guest_flash(self) -> Seen:
        """Let the guest program its flash with its image: ``Lab.guest(flash=...)``."""
        return self._do(GuestFlash(0))  # which host's is for a matrix to say

    def guest_flash_power_loss(self) -> Seen:
        """The same, and power is lost meanwhile. Raises UserError where there is none to cut."""
        return self._do(GuestFlashPowerLoss(0))

    def upgrade_host(self, host: str, firmware: str) -> Seen:
        """Replace the firmware file on a host by a known build."""
        index, build = self._index(host), self._builds.named_firmware(firmware)
        step = UpgradeHost(index, firmware_of=index)  # it is of no host of this guest
        self._check(step, in_order=False)
        self._guest.begin(step)
        return self._seen(self._done(partial(install, self._guest, index, build)))

    def upgrade_nvram(self, firmware: str) -> Seen:
        """Stage a known build in the guest's nvram."""
        build = self._builds.named_firmware(firmware)
        step = UpgradeNvram(firmware_of=0)  # as above
        self._check(step, in_order=False)
        self._guest.begin(step)
        return self._seen(self._done(partial(stage, self._guest, build)))

    def clear_nvram(self) -> Seen:
        """Empty the guest's nvram; the guest must not run."""
        return self._do(ClearNvram())

    def replace_disk(self) -> Seen:
        """Put another disk file (label B) in the place of the guest's (label A)."""
        return self._do(ReplaceDisk())

    def _index(self, host: str) -> int:
        if host not in self._hosts:
            raise UserError(f"no such host: {host!r}", hint="hosts: " + ", ".join(self._hosts))
        return self._hosts[host]

    def _do(self, step: Step, leaves_for: str | None = None) -> Seen:
        following = None
        if leaves_for is not None:
            if not self._guest.setup.post_ms:
                raise UserError("this guest's firmware is over before it can leave",
                                hint="make it with long_post=True")
            following = Migrate(self._index(leaves_for), during_post=True)
        self._check(step)
        if following is not None:
            state = self._state
            step.advance(state)
            if wrong := following.problem(replace(state, booting=True)):
                raise UserError(f"leaves_for: {self._by_build(wrong)}")
        try:
            return self._seen(self._done(partial(do_step, self._guest, step, following)))
        finally:
            self._leaves = following.host if following is not None else None

    def _check(self, step: Step, *, in_order: bool = True) -> None:
        """Raise UserError for what a matrix file would be refused for, HarnessError for no guest.

        A step that names no host of this guest's is not asked for its place (``in_order``).
        """
        if self._ended is not None:
            raise HarnessError(f"this guest has ended: {self._ended}") from self._ended
        setup, state = self._guest.setup, self._state
        if self._leaves is not None and not (
                isinstance(step, Migrate) and step.during_post and step.host == self._leaves):
            host = setup.hosts[self._leaves].name
            raise UserError(f"{step.kind}: this guest's firmware still runs, as it was told that "
                            "it leaves", hint=f"migrate({host!r}, during_post=True)")
        if in_order and (wrong := _mistake(step, state)):
            raise UserError(f"{step.kind}: {self._by_build(wrong)}")
        platform = Platform(setup.board, setup.hosts, setup.guest.kind)
        cannot = chain(step.unsupported(platform, state.host),
                       unsupported.in_mode(step, setup.migration))
        if why := next(cannot, None):
            raise UserError(f"{step.kind} cannot be done to this guest: {why}")

    def _done(self, deed: Callable[[], StepObserved]) -> StepObserved:
        """Do it; who had the guest when the rig broke has none any more."""
        try:
            return deed()
        except HarnessError as error:
            self._ended = error
            raise

    def _by_build(self, text: str) -> str:
        """With hosts as they are called here, and not by their roles."""
        for index, host in enumerate(self._guest.setup.hosts):
            text = re.sub(rf"\b{role_name(index)}\b", host.name, text)
        return text

    @property
    def _state(self) -> GuestState:
        """As it is, and not as its steps should have made it: one of them can have failed."""
        guest = self._guest
        return GuestState(
            host=guest.host or 0, started=bool(guest.launched), running=guest.host is not None,
            booting=self._leaves is not None, coming=guest.coming.host if guest.coming else None)

    def _seen(self, step: StepObserved) -> Seen:
        boot = step.boot
        guest = boot.up if boot else step.answer
        printed = boot.banners[-1] if boot and boot.banners else None
        if printed is None and guest is not None:
            printed = guest.bios_version
        digest = boot.rom if boot else step.rom
        rom = self._firmware.by_bytes(digest) if digest else None
        console = None
        if printed:
            named = self._firmware.by_print(printed)
            # Where several builds print the same, the bytes tell which of them it is.
            console = rom if rom in named.candidates else named.name
        return Seen(
            up=guest is not None and not step.went_round and not is_down(step),
            console=console,
            rom=rom,
            disk=guest.disk if guest else None,
            refusal=step.refusal,
            seconds=step.seconds,
            late=boot is not None and boot.up is not None and boot.seconds > self._usual,
            observed=step,
        )


def _mistake(step: Step, state: GuestState) -> str | None:
    """What is wrong with a step: a matrix file would be refused for it, too."""
    try:
        for option in step.options:
            if not isinstance(option, Role):
                option.read((option.name,), option.written(getattr(step, option.field)))
    except StepError as error:
        return f"{error.where[0]}: {error}"
    if step.running and not state.running:
        return "the guest does not run; start it first"
    return step.problem(state)


@dataclass(frozen=True)
class Made:
    """Where to look at a guest: ``processes`` are its QEMUs as in a record, the last one the last.

    ``consoles`` has a directory for each of them while the guest is there, ``logs`` afterwards.
    """

    processes: Sequence[Mapping[str, Any]]
    consoles: Path
    logs: Path


class Lab:
    """Makes guests. Leaving it ends them; their logs stay below ``directory``.

    ``made`` are those that it has made.
    """

    def __init__(self, builds: Builds, engine: Engine, directory: Path) -> None:
        self._builds = builds
        self._engine = engine
        self._directory = directory
        self._opened = ExitStack()
        self.made: list[Made] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End all guests."""
        self._opened.close()

    def guest(
        self,
        *builds: str | QemuSource,
        machine: str,
        firmware: Mapping[str, str | FirmwareSource] | None = None,
        seconds: float = 10.0,
        patience: float | None = None,
        flash: str | None = None,
        long_post: bool = False,
        **axes: str | int,
    ) -> LabGuest:
        """A guest that can live on hosts with these QEMU builds; a host is named as its build.

        ``firmware`` gives a host another firmware build than the one beside its QEMU, ``flash`` is
        the known build that the guest finds to program its flash with. ``long_post``: a BIOS waits
        for a key, so that there is time to migrate the guest meanwhile. ``axes`` are those of a
        matrix file (docs/matrix-file.md) but the scenario: ``policy`` (stock, if not given),
        ``disk`` (ide), ``arch``, ``guest``, ``cpu``, ``smp``, ``nic``, ...
        A boot is late after ``seconds``, and given up after ``patience``, by default two minutes
        or more (see bootmatrix.model.Cell). Images that are missing are built. Raises UserError for
        a name that there is not, or a build of the user's own that is none.
        """
        names = [str(build) for build in builds]
        if not names:
            raise UserError("a guest of no build", hint='name one: guest("debian-sid", ...)')
        for host in firmware or ():
            if host not in names:
                raise UserError(f"firmware for {host!r}, which is no host of this guest",
                                hint="hosts: " + ", ".join(names))
        if seconds <= 0 or (patience is not None and patience <= 0):
            raise UserError(f"seconds={seconds}, patience={patience}: nothing boots in no time")
        values = _parsed({"machine": machine, "policy": "stock", "disk": "ide"} | axes)
        arch = values.get("arch", Arch.X86_64)
        specs = tuple(
            HostSpec(str(build), build, (firmware or {}).get(str(build)), arch)
            for build in builds
        )
        cell = Cell(
            specs, scenario=Scenario("by-hand", ()), seconds=seconds, patience=patience, **values)
        self._builds.prepare(specs)
        hosts = [self._builds.host(spec) for spec in specs]
        moves = tuple(Migrate(index) for index in range(1, len(hosts)))
        if why := unsupported.reason(replace(cell, scenario=Scenario("by-hand", moves)), hosts):
            raise UserError(f"there can be no such guest: {why}")
        setup = setup_of(cell, hosts, image_store.cache_home()).patient(cell.longest)
        setup.post_ms = POST_MS if long_post else 0
        if flash is not None:
            setup.flash = self._builds.named_firmware(flash)
        number = len(self.made) + 1
        scratch, logs = self._directory / f"guest-{number}", self._directory / f"logs-{number}"
        scratch.mkdir(parents=True)
        self._opened.callback(remove_tree, scratch)
        self._opened.callback(keep_logs, scratch, logs)
        there = QemuHosts(self._engine, setup, scratch)
        guest = self._opened.enter_context(Guest(there))
        self.made.append(Made(there.processes, there.scratch.private, logs))
        known = self._builds.known_firmware(hosts, machine)
        return LabGuest(guest, known, self._builds, seconds)


def _choice(kind: type[E], word: str, accepted: Collection[E] = ()) -> E:
    values = accepted or tuple(kind)
    if word not in values:
        raise UserError(f"no such choice: {word!r}", hint=f"accepted: {', '.join(values)}")
    return kind(word)


def _parsed(axes: Mapping[str, str | int]) -> dict[str, Any]:
    """The values of axes as a cell has them. Raises UserError."""
    accepted = ", ".join(name for name in AXES if name != "scenario")
    for name in axes:
        if name == "scenario" or name not in AXES:
            raise UserError(f"no such axis of a guest: {name}", hint=f"accepted: {accepted}")
    return {name: _value(AXES[name], value) for name, value in axes.items()}


def _value(axis: Axis, value: str | int) -> Any:
    try:
        return axis.parse(value)
    except ValueError as error:
        kind = GuestKind if axis.type == AnyGuest else axis.type
        if isinstance(kind, type) and issubclass(kind, StrEnum):
            raise UserError(f"{axis.name}: no such choice: {value!r}",
                            hint=f"accepted: {', '.join(kind)}") from None
        raise UserError(str(error)) from None
