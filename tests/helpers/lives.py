"""The policies' models on random lives, and what must hold in each of them.

model.md numbers the invariants.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from bootmatrix.boards import Loader
from bootmatrix.model import DEFAULT_MACHINE
from bootmatrix.policies.base import (
    FIRST_DISK,
    SECOND_DISK,
    HostFacts,
    PolicyModel,
    VariablesExpected,
)
from bootmatrix.policies.guest_owned import GuestOwned
from bootmatrix.policies.machine_owned import MachineOwned
from bootmatrix.steps.base import Step
from bootmatrix.steps.clear_nvram import ClearNvram
from bootmatrix.steps.guest_flash import GuestFlash
from bootmatrix.steps.migrate import Migrate
from bootmatrix.steps.plan import Expected, apply
from bootmatrix.steps.replace_disk import ReplaceDisk
from bootmatrix.steps.reset import Reset
from bootmatrix.steps.shutdown import Shutdown
from bootmatrix.steps.start import Start
from bootmatrix.steps.upgrade_host import UpgradeHost
from bootmatrix.steps.upgrade_nvram import UpgradeNvram
from bootmatrix.steps.write_variable import WriteVariable

Q35 = "pc-q35-5.2"

# Host 0 has firmware A, host 1 has B; host 2 only lends its firmware C to upgrade the others.
HOSTS = (
    HostFacts("5.2.0", "pc-i440fx-5.2", "A"),
    HostFacts("11.1.3", "pc-i440fx-11.1", "B"),
    HostFacts("10.0.2", "pc-i440fx-10.0", "C"),
)
START, RESET, SHUTDOWN = Start(0), Reset(), Shutdown()
START_B, MIGRATE = Start(1), Migrate(1)
WRITE, CLEAR, MIGRATE_BACK = WriteVariable(), ClearNvram(), Migrate(0)
REPLACE_A = UpgradeHost(0, firmware_of=2)
REPLACE_B = UpgradeHost(1, firmware_of=2)
COLUMNS = {
    "first start": (START,),
    "reset, never migrated": (START, RESET),
    "reset after a migration": (START, MIGRATE, RESET),
    "later start": (START, SHUTDOWN, START_B),
    "reset, file replaced": (START, REPLACE_A, RESET),
    # what the columns say when they are combined
    "migration, no reset": (START, MIGRATE),
    "later start after a migration": (START, MIGRATE, SHUTDOWN, START_B),
    "reset, replaced, migrated": (START, MIGRATE, REPLACE_B, RESET),
    "reset, replaced before P": (START, REPLACE_B, MIGRATE, RESET),
    "later start, file replaced": (START, REPLACE_A, SHUTDOWN, START),
}


def loaded(loader: Loader) -> list[HostFacts]:
    """The hosts, whose firmware QEMU takes in that way."""
    return [replace(host, loader=loader) for host in HOSTS]


@dataclass(frozen=True)
class Life:
    """A guest's hosts, its machine type, and steps that make sense one after the other."""

    hosts: tuple[HostFacts, ...]
    machine: str
    steps: tuple[Step, ...]


_NVRAM_STEPS = (UpgradeNvram, GuestFlash, ClearNvram)
# Steps that lead somewhere stand twice: a life has more of them.
_RUNNING: tuple[type[Step], ...] = (
    Reset, Migrate, Shutdown, Reset, Migrate, Shutdown,
    UpgradeHost, ReplaceDisk, UpgradeNvram, GuestFlash, WriteVariable,
)  # fmt: skip
_SHUT_DOWN: tuple[type[Step], ...] = (
    Start, Start, Start, UpgradeHost, ReplaceDisk, UpgradeNvram, ClearNvram,
)  # fmt: skip
# One step of a life before it is made to fit: which kind, and two numbers to choose hosts by.
_CHOICES = st.tuples(st.integers(0, 19), st.integers(0, 3), st.integers(0, 2))


@st.composite
def lives(draw: st.DrawFn, nvram_steps: bool = False, longest: int = 12) -> Life:
    """2 to 4 hosts with distinct versions and firmwares, and a sequence of valid steps."""
    count = draw(st.integers(2, 4))
    machine = draw(st.sampled_from((Q35, "pc-i440fx-5.2", DEFAULT_MACHINE, DEFAULT_MACHINE)))
    # Versions that differ in the last number only share a default machine type.
    share_default = draw(st.booleans())
    hosts = tuple(
        HostFacts(
            version=f"9.0.{index}" if share_default else f"{index + 5}.2.0",
            default_machine="pc-i440fx-9.0" if share_default else f"pc-i440fx-{index + 5}.2",
            firmware=f"firmware-{index}",
            loader=Loader.FLASH,
        )
        for index in range(count)
    )
    first = draw(st.integers(0, count - 1))
    here: int | None = first
    steps: list[Step] = [Start(first)]
    cleared = disk_replaced = False
    for which, one, other in draw(st.lists(_CHOICES, min_size=1, max_size=longest)):
        kinds = _SHUT_DOWN if here is None else _RUNNING
        kind = kinds[which % len(kinds)]
        if kind is Migrate and machine == DEFAULT_MACHINE and not share_default and one:
            kind = Shutdown  # a refusal ends a life: not in most of them
        if kind in _NVRAM_STEPS and (not nvram_steps or cleared):
            continue
        if kind is ReplaceDisk and disk_replaced:
            continue
        host = one % count
        if kind is Start:
            here = host
            cleared = False
            steps.append(Start(host))
        elif kind is Migrate:
            assert here is not None
            here = (here + 1 + other % (count - 1)) % count
            steps.append(Migrate(here))
        elif kind is UpgradeHost:
            steps.append(UpgradeHost(host, (host + 1 + other % (count - 1)) % count))
        elif kind is UpgradeNvram:
            steps.append(UpgradeNvram(host))
        elif kind is GuestFlash:
            steps.append(GuestFlash(count - 1))  # one image is all that a QEMU offers
        else:
            steps.append(kind())
        if kind is Shutdown:
            here = None
        cleared |= kind is ClearNvram
        disk_replaced |= kind is ReplaceDisk
    return Life(hosts, machine, tuple(steps))


# A model as ``model`` makes it; the mutants below are others.
Make = Callable[[Sequence[HostFacts], str], PolicyModel]
Property = Callable[[Make, Life], None]


@dataclass(frozen=True)
class Moment:
    """One step of a life: the model's word on it, and what a bystander sees of the world.

    ``before`` is the firmware and ``files`` the firmware files by host, both as they were when
    the step was done. ``launch_files`` are those of the moment the process was launched.
    """

    step: Step
    planned: Expected
    before: str | None
    files: tuple[str, ...]
    launch_files: tuple[str, ...]
    guest: PolicyModel


def walk(make: Make, life: Life) -> Iterator[Moment]:
    """Tell the model of each step, up to one that QEMU must refuse."""
    guest = make(life.hosts, life.machine)
    files = launch_files = tuple(host.firmware for host in life.hosts)
    for step in life.steps:
        before = guest.running
        if isinstance(step, (Start, Migrate)):
            launch_files = files
        planned = apply(guest, step)
        yield Moment(step, planned, before, files, launch_files, guest)
        if planned.refusal:
            return
        if isinstance(step, UpgradeHost):
            assert step.host is not None
            assert step.firmware_of is not None
            changed = list(files)
            changed[step.host] = life.hosts[step.firmware_of].firmware
            files = tuple(changed)


def twin(guest: PolicyModel) -> PolicyModel:
    """Another guest that has lived the same life so far."""
    return copy.deepcopy(guest)


def never_changes_by_itself(make: Make, life: Life) -> None:
    """1. guest-owned: no sequence of steps without upgrade-nvram, guest-flash or clear-nvram
    changes the firmware."""
    first = None
    for moment in walk(make, life):
        if isinstance(moment.step, _NVRAM_STEPS):
            return
        first = first or moment.planned.firmware
        assert moment.planned.firmware in (None, first)


def written_once(make: Make, life: Life) -> None:
    """2. guest-owned: nvram is written with firmware once; a second start on any host leaves it
    byte for byte alone."""
    nvram: str | None = None
    asked = True  # the first start initialises it
    for moment in walk(make, life):
        guest = moment.guest
        assert isinstance(guest, GuestOwned)
        if isinstance(moment.step, _NVRAM_STEPS):
            asked = True
        if not asked:
            assert guest.nvram == nvram
        if moment.planned.boots:
            asked = False
        nvram = guest.nvram


def reset_is_a_restart(make: Make, life: Life) -> None:
    """6. machine-owned and reread: a reset gives the same firmware as shutdown + start (for
    machine-owned: as long as the host's file was not replaced after launch). guest-owned too."""
    for moment in walk(make, life):
        here = moment.guest.process
        if here is None or moment.planned.refusal or isinstance(moment.step, UpgradeHost):
            continue
        replaced = moment.files[here.host] != moment.launch_files[here.host]
        if isinstance(moment.guest, MachineOwned) and replaced:
            continue
        reset, restarted = twin(moment.guest), twin(moment.guest)
        apply(restarted, SHUTDOWN)
        start = Start(here.host)
        assert apply(reset, RESET).firmware == apply(restarted, start).firmware


def a_reset_keeps_the_disk(make: Make, life: Life) -> None:
    """8. A reset does not reopen block devices: after the disk file was renamed away and another
    put in its place, a reset boots the old disk, a start the new one."""
    file = disk = FIRST_DISK
    for moment in walk(make, life):
        if isinstance(moment.step, ReplaceDisk):
            file = SECOND_DISK
        if isinstance(moment.step, (Start, Migrate)) and not moment.planned.refusal:
            disk = file  # a new process opens the file of that moment
        assert moment.planned.disk == (None if moment.planned.host is None else disk)


def only_a_boot_changes_it(make: Make, life: Life) -> None:
    """Between a migration and the next reset every policy leaves `running` alone."""
    for moment in walk(make, life):
        if not moment.planned.boots and not isinstance(moment.step, Shutdown):
            assert moment.planned.firmware == moment.before


def refused_without_a_common_default(make: Make, life: Life) -> None:
    """With machine type `default` a live migration between versions is refused by QEMU itself."""
    here: int | None = None
    for moment in walk(make, life):
        refusal = None
        if isinstance(moment.step, Migrate) and life.machine == DEFAULT_MACHINE:
            assert here is not None
            assert moment.step.host is not None
            if life.hosts[here].default_machine != life.hosts[moment.step.host].default_machine:
                refusal = "machine-type"
        assert moment.planned.refusal == refusal
        if refusal:  # it stays where it was
            assert (moment.planned.host, moment.planned.firmware) == (here, moment.before)
        here = moment.planned.host


def staged_until_the_next_boot(make: Make, life: Life) -> None:
    """upgrade-nvram stages a build, guest-flash programs one; it becomes `running` at the next
    reset or start, never before. clear-nvram makes the next start initialise it again."""
    nvram: str | None = None
    staged: str | None = None
    flashed: str | None = None
    for moment in walk(make, life):
        if isinstance(moment.step, UpgradeNvram):
            assert moment.step.firmware_of is not None
            staged = life.hosts[moment.step.firmware_of].firmware
        if isinstance(moment.step, GuestFlash):
            assert moment.step.firmware_of is not None
            flashed = life.hosts[moment.step.firmware_of].firmware
            assert moment.planned.rom == flashed  # at once, though it does not run yet
        if isinstance(moment.step, ClearNvram):
            nvram = staged = flashed = None
        if moment.planned.boots:
            if nvram is None:
                assert moment.planned.host is not None
                nvram = moment.files[moment.planned.host]
            nvram, staged, flashed = staged or flashed or nvram, None, None
        if moment.planned.firmware is not None:
            assert moment.planned.firmware == nvram


def variables_change_by_boots_and_writes_alone(make: Make, life: Life) -> None:
    """A boot counts once, a write is of that boot; nothing else touches a guest's variables."""
    had: VariablesExpected | None = None
    for moment in walk(make, life):
        found = moment.planned.variables
        if had is not None and found is not None and not isinstance(moment.step, Start):
            if isinstance(moment.step, Reset):
                had = replace(had, boots=had.boots + 1)
            elif isinstance(moment.step, WriteVariable):
                had = replace(had, value=f"boot-{had.boots}")
            assert found == had
        assert (found is None) == (moment.planned.host is None)
        had = found


def _found_at_a_start(make: Make, life: Life, *, everywhere: bool) -> None:
    files: dict[int, VariablesExpected] = {}
    had: VariablesExpected | None = None
    made = 0
    for moment in walk(make, life):
        if isinstance(moment.step, ClearNvram):
            files.clear()
        if moment.planned.variables is None:
            continue
        assert moment.planned.host is not None
        where = 0 if everywhere else moment.planned.host
        if isinstance(moment.step, Start):
            made += where not in files
            file = files.get(where, VariablesExpected(made, 0, "", lost=False))
            # Lost is what was written elsewhere, or before.
            lost = had is not None and (had.lost or file != replace(had, lost=False))
            assert moment.planned.variables == replace(file, boots=file.boots + 1, lost=lost)
        had = moment.planned.variables
        files[where] = replace(had, lost=False)


def a_start_finds_what_is_on_that_host(make: Make, life: Life) -> None:
    """The store is a file of each host, which a migration overwrites."""
    _found_at_a_start(make, life, everywhere=False)


def a_start_finds_what_the_guest_left(make: Make, life: Life) -> None:
    """The store is in the nvram, and the nvram is where the guest is."""
    _found_at_a_start(make, life, everywhere=True)


EVERY = (
    a_reset_keeps_the_disk, only_a_boot_changes_it, refused_without_a_common_default,
    variables_change_by_boots_and_writes_alone,
)  # fmt: skip


def search(check: Property, make: Make, nvram_steps: bool, lives_tried: int = 100) -> None:
    """Try a property on random lives, always the same ones; it raises what it finds."""

    @settings(
        max_examples=lives_tried, deadline=None, database=None, derandomize=True,
        report_multiple_bugs=False, phases=(Phase.generate,),
    )  # fmt: skip
    @given(lives(nvram_steps=nvram_steps))
    def try_one(life: Life) -> None:
        check(make, life)

    try_one()


def named(value: Any) -> str | None:
    return getattr(value, "__name__", None)
