"""The policies as pure models: model.md's table cell by cell, its invariants on random lives.

Invariants 3 (the destination's nvram file equals the source's) and 9 (fw_cfg) need real QEMUs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from harness.boards import Loader
from harness.model import DEFAULT_MACHINE, Policy, Step, StepKind
from harness.policies import (
    FIRST_DISK,
    SECOND_DISK,
    Expected,
    GuestOwned,
    GuestOwnedVersioned,
    HostFacts,
    MachineOwned,
    PolicyModel,
    Reread,
    Stock,
    Swap,
    VariablesExpected,
    mechanism,
    model,
    plan,
)
from harness.policies import _Process as Process
from harness.policies import _Store as Store
from harness.scenarios import LIBRARY, StepError, applies_to, validate

K = StepKind
Q35 = "pc-q35-5.2"

# ---- the table "Policies" of model.md, cell by cell --------------------------------------------

# Host 0 has firmware A, host 1 has B; host 2 only lends its firmware C to upgrade the others.
HOSTS = (
    HostFacts("5.2.0", "pc-i440fx-5.2", "A"),
    HostFacts("11.1.3", "pc-i440fx-11.1", "B"),
    HostFacts("10.0.2", "pc-i440fx-10.0", "C"),
)
START, RESET, SHUTDOWN = Step(K.START, 0), Step(K.RESET), Step(K.SHUTDOWN)
START_B, MIGRATE = Step(K.START, 1), Step(K.MIGRATE, 1)
REPLACE_A = Step(K.UPGRADE_HOST, 0, firmware_of=2)
REPLACE_B = Step(K.UPGRADE_HOST, 1, firmware_of=2)
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
TABLE = """
                              | stock | guest-owned | guest-owned-versioned | machine-owned | reread
first start                   | A     | A           | A                     | A             | A
reset, never migrated         | A     | A           | A                     | A             | A
reset after a migration       | A     | A           | A                     | B             | B
later start                   | B     | A           | A                     | B             | B
reset, file replaced          | A     | A           | A                     | A             | C
migration, no reset           | A     | A           | A                     | A             | A
later start after a migration | B     | A           | A                     | B             | B
reset, replaced, migrated     | A     | A           | A                     | B             | C
reset, replaced before P      | A     | A           | A                     | C             | C
later start, file replaced    | C     | A           | A                     | C             | C
"""


def _cells() -> Iterator[tuple[str, str, str]]:
    lines = TABLE.strip("\n").split("\n")
    heading, *rows = ([cell.strip() for cell in line.split("|")] for line in lines)
    for row in rows:
        for policy, firmware in zip(heading[1:], row[1:], strict=True):
            yield row[0], policy, firmware


def loaded(loader: Loader) -> list[HostFacts]:
    """The hosts, whose firmware QEMU takes in that way."""
    return [replace(host, loader=loader) for host in HOSTS]


@pytest.mark.parametrize("loader", [Loader.ROM, Loader.FLASH])
@pytest.mark.parametrize(("column", "policy", "firmware"), list(_cells()))
def test_table(column: str, policy: str, firmware: str, loader: Loader) -> None:
    last = plan(Policy(policy), loaded(loader), Q35, COLUMNS[column])[-1]
    assert last.firmware == firmware
    assert last.refusal is None
    assert last.boots == (last.step.kind in (K.START, K.RESET))


def test_the_table_is_whole() -> None:
    cells = list(_cells())
    assert {column for column, _, _ in cells} == set(COLUMNS)
    assert {policy for _, policy, _ in cells} == {policy.value for policy in Policy}


@pytest.mark.parametrize(
    ("policy", "firmware"),
    [
        (Policy.STOCK, "B"),
        (Policy.GUEST_OWNED, "A"),
        (Policy.GUEST_OWNED_VERSIONED, "B"),  # "but if the machine type is default ..."
        (Policy.MACHINE_OWNED, "B"),
        (Policy.REREAD, "B"),
    ],
)
def test_table_later_start_without_a_machine_type(policy: Policy, firmware: str) -> None:
    assert plan(policy, HOSTS, DEFAULT_MACHINE, COLUMNS["later start"])[-1].firmware == firmware


@pytest.mark.parametrize(
    ("loader", "migrated", "replaced", "later", "restarted", "replaced_restarted"),
    [
        (Loader.ROM, "A", "A", "B", "B", "C"),
        (Loader.FLASH, "A", "A", "B", "B", "C"),
        # stock-qemu.md: the file is rewritten at every reset, as the process read it
        (Loader.MEMORY, "B", "A", "B", "B", "C"),
        # ... and a writable flash overwrites the copy of it that the destination has
        (Loader.WRITABLE_FLASH, "A", "A", "B", "A", "A"),
    ],
)
def test_stock_is_not_the_same_for_every_loader(
    loader: Loader, migrated: str, replaced: str, later: str, restarted: str,
    replaced_restarted: str,
) -> None:
    ran = [
        plan(Policy.STOCK, loaded(loader), Q35, COLUMNS[column])[-1].firmware
        for column in ("reset after a migration", "reset, file replaced", "later start",
                       "later start after a migration", "later start, file replaced")
    ]  # fmt: skip
    assert ran == [migrated, replaced, later, restarted, replaced_restarted]


def test_an_upgrade_that_brings_another_layout_brings_another_file() -> None:
    hosts = [replace(HOSTS[0], loader=Loader.FLASH), *loaded(Loader.WRITABLE_FLASH)[1:]]
    told = plan(Policy.STOCK, hosts, Q35, (START, REPLACE_A, SHUTDOWN, START))
    assert told[-1].firmware == "C"
    assert told[-1].variables == VariablesExpected(2, 1, "", lost=True)


# ---- the table "Variables" of model.md, cell by cell -------------------------------------------

WRITE = Step(K.WRITE_VARIABLE)
MIGRATE_BACK, CLEAR = Step(K.MIGRATE, 0), Step(K.CLEAR_NVRAM)
VARIABLE_LIVES = {
    "start": (START,),
    "write": (START, WRITE),
    "write, reset": (START, WRITE, RESET),
    "suspend and fill count nothing": (START, WRITE, Step(K.SUSPEND), Step(K.FILL_VARIABLES)),
    "write, migrate": (START, WRITE, MIGRATE),
    "write, migrate, reset": (START, WRITE, MIGRATE, RESET),
    "write, migrate, restart": (START, WRITE, MIGRATE, SHUTDOWN, START_B),
    "there and back": (START, WRITE, MIGRATE, RESET, MIGRATE_BACK, RESET),
    "move": (START, WRITE, SHUTDOWN, START_B),
    "move, reset": (START, WRITE, SHUTDOWN, START_B, RESET),
    "move there and back": (START, WRITE, SHUTDOWN, START_B, SHUTDOWN, START),
    "migrate, then start at home": (START, WRITE, MIGRATE, RESET, WRITE, SHUTDOWN, START),
    "migrate over an older store": (START_B, SHUTDOWN, START, WRITE, MIGRATE, SHUTDOWN, START_B),
    "host upgrade, restart": (START, WRITE, REPLACE_A, SHUTDOWN, START),
}
# store, boots, value, lost: of the policies whose store is a file of the host | of the nvram
VARIABLES = """
start                          | 1 1 -      kept | 1 1 -      kept
write                          | 1 1 boot-1 kept | 1 1 boot-1 kept
write, reset                   | 1 2 boot-1 kept | 1 2 boot-1 kept
suspend and fill count nothing | 1 1 boot-1 kept | 1 1 boot-1 kept
write, migrate                 | 1 1 boot-1 kept | 1 1 boot-1 kept
write, migrate, reset          | 1 2 boot-1 kept | 1 2 boot-1 kept
write, migrate, restart        | 1 2 boot-1 kept | 1 2 boot-1 kept
there and back                 | 1 3 boot-1 kept | 1 3 boot-1 kept
move                           | 2 1 -      lost | 1 2 boot-1 kept
move, reset                    | 2 2 -      lost | 1 3 boot-1 kept
move there and back            | 1 2 boot-1 lost | 1 3 boot-1 kept
migrate, then start at home    | 1 2 boot-1 lost | 1 3 boot-2 kept
migrate over an older store    | 2 2 boot-1 lost | 1 3 boot-2 kept
host upgrade, restart          | 1 2 boot-1 kept | 1 2 boot-1 kept
"""


def _variables(words: str) -> VariablesExpected:
    store, boots, value, fate = words.split()
    return VariablesExpected(int(store), int(boots), value.strip("-") and value, fate == "lost")


@pytest.mark.parametrize("loader", [Loader.FLASH, Loader.WRITABLE_FLASH])
@pytest.mark.parametrize("policy", list(Policy))
def test_table_of_variables(policy: Policy, loader: Loader) -> None:
    rows = [[part.strip() for part in row.split("|")] for row in VARIABLES.strip().splitlines()]
    assert [row[0] for row in rows] == list(VARIABLE_LIVES)
    for name, of_host, of_nvram in rows:
        told = plan(policy, loaded(loader), Q35, VARIABLE_LIVES[name])
        expected = _variables(of_nvram if policy.keeps_nvram else of_host)
        assert told[-1].variables == expected, name


@pytest.mark.parametrize("policy", [Policy.GUEST_OWNED, Policy.GUEST_OWNED_VERSIONED])
def test_a_cleared_nvram_has_lost_its_variables(policy: Policy) -> None:
    told = plan(policy, loaded(Loader.FLASH), Q35, (START, WRITE, SHUTDOWN, CLEAR, START))
    assert told[-1].variables == VariablesExpected(2, 1, "", lost=True)


def test_the_nvram_that_clears_itself_loses_its_variables_too() -> None:
    hosts, policy = loaded(Loader.FLASH), Policy.GUEST_OWNED_VERSIONED
    moved = plan(policy, hosts, DEFAULT_MACHINE, VARIABLE_LIVES["move"])[-1]
    assert (moved.firmware, moved.variables) == ("B", VariablesExpected(2, 1, "", lost=True))


def test_upgrading_the_nvram_keeps_the_variables() -> None:
    steps = (START, WRITE, Step(K.UPGRADE_NVRAM, firmware_of=1), RESET)
    last = plan(Policy.GUEST_OWNED, loaded(Loader.FLASH), Q35, steps)[-1]
    assert (last.firmware, last.variables) == ("B", VariablesExpected(1, 2, "boot-1", lost=False))


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("loader", [Loader.ROM, Loader.MEMORY])
def test_without_flash_there_is_no_store(policy: Policy, loader: Loader) -> None:
    told = plan(policy, loaded(loader), Q35, (START, MIGRATE, RESET, SHUTDOWN, START_B))
    assert [each.variables for each in told] == [None] * 5


def test_a_guest_that_is_down_has_no_variables() -> None:
    told = plan(Policy.STOCK, loaded(Loader.FLASH), Q35, (START, SHUTDOWN))
    assert [each.variables is None for each in told] == [False, True]


def test_what_a_host_without_a_store_does_not_have_is_not_lost() -> None:
    hosts = [replace(HOSTS[0], loader=Loader.FLASH), *HOSTS[1:]]
    told = plan(Policy.STOCK, hosts, Q35, (START, SHUTDOWN, START_B, SHUTDOWN, START))
    assert told[2].variables is None
    assert told[4].variables == VariablesExpected(1, 2, "", lost=False)


def test_what_a_plan_tells_of_each_step() -> None:
    steps = (START, Step(K.REPLACE_DISK), MIGRATE, RESET, SHUTDOWN, START_B)
    told = plan(Policy.MACHINE_OWNED, HOSTS, Q35, steps)
    assert told == (
        Expected(steps[0], 0, True, "A", FIRST_DISK, rom="A"),
        Expected(steps[1], 0, False, "A", FIRST_DISK, rom="A"),
        Expected(steps[2], 1, False, "A", SECOND_DISK, rom="A"),
        Expected(steps[3], 1, True, "B", SECOND_DISK, rom="B"),
        Expected(steps[4], None, False, None, None),
        Expected(steps[5], 1, True, "B", SECOND_DISK, rom="B"),
    )


def test_a_plan_tells_what_fw_cfg_must_say() -> None:
    hosts = [replace(host, label=f"label {host.firmware}") for host in HOSTS]
    told = plan(Policy.STOCK, hosts, Q35, (START, MIGRATE, RESET, SHUTDOWN, START))
    assert [each.label for each in told] == ["label A", "label B", "label B", None, "label A"]


@pytest.mark.parametrize(("policy", "in_rom", "after"), [
    (Policy.STOCK, "A", "A"),
    (Policy.GUEST_OWNED, "C", "C"),
    (Policy.GUEST_OWNED_VERSIONED, "C", "C"),
    (Policy.MACHINE_OWNED, "A", "B"),
    (Policy.REREAD, "A", "B"),
])
def test_what_a_guest_flashes_is_in_the_rom_at_once_and_runs_later(
    policy: Policy, in_rom: str, after: str
) -> None:
    flash = Step(K.GUEST_FLASH, firmware_of=2)
    told = plan(policy, HOSTS, Q35, (START, flash, MIGRATE, RESET))
    assert [each.firmware for each in told] == ["A", "A", "A", after]
    assert [each.rom for each in told] == ["A", in_rom, in_rom, after]


@pytest.mark.parametrize("policy", [policy for policy in Policy if not policy.keeps_nvram])
def test_without_an_nvram_there_is_none_to_upgrade_or_clear(policy: Policy) -> None:
    for step in (Step(K.UPGRADE_NVRAM, firmware_of=1), Step(K.CLEAR_NVRAM)):
        with pytest.raises(NotImplementedError, match="no nvram"):
            plan(policy, HOSTS, Q35, (START, SHUTDOWN, step))


def test_clear_nvram_initialises_again_with_the_file_of_that_host() -> None:
    steps = (START, SHUTDOWN, Step(K.CLEAR_NVRAM), START_B, SHUTDOWN, START)
    for policy in (Policy.GUEST_OWNED, Policy.GUEST_OWNED_VERSIONED):
        told = plan(policy, HOSTS, Q35, steps)
        assert [each.firmware for each in told if each.boots] == ["A", "B", "B"]


def test_versioned_compares_with_the_stamp_and_not_with_the_last_host() -> None:
    # B's firmware came at the move to B; a start on B again is no move, one on A is.
    steps = (START, SHUTDOWN, START_B, SHUTDOWN, START_B, RESET, SHUTDOWN, START)
    told = plan(Policy.GUEST_OWNED_VERSIONED, HOSTS, DEFAULT_MACHINE, steps)
    assert [each.firmware for each in told if each.boots] == ["A", "B", "B", "B", "A"]


@pytest.mark.parametrize(
    ("policy", "nvram", "swap", "clears"),
    [
        (Policy.STOCK, False, Swap.NOTHING, False),
        (Policy.GUEST_OWNED, True, Swap.STAGED, False),
        (Policy.GUEST_OWNED_VERSIONED, True, Swap.STAGED, True),
        (Policy.MACHINE_OWNED, False, Swap.LAUNCHED, False),
        (Policy.REREAD, False, Swap.FILE, False),
    ],
)
def test_mechanism(policy: Policy, nvram: bool, swap: Swap, clears: bool) -> None:
    for loader in (Loader.ROM, Loader.FLASH):
        how = mechanism(policy, loader)
        assert (how.nvram, how.swap, how.clears_on_move) == (nvram, swap, clears)
        assert how.nvram == policy.keeps_nvram


def test_where_stock_is_machine_owned_nothing_is_swapped() -> None:
    assert mechanism(Policy.MACHINE_OWNED, Loader.MEMORY) == mechanism(Policy.STOCK)
    assert mechanism(Policy.REREAD, Loader.MEMORY).swap is Swap.FILE
    hosts = loaded(Loader.MEMORY)
    for steps in COLUMNS.values():
        assert (
            plan(Policy.STOCK, hosts, "isapc", steps)[-1].firmware
            == plan(Policy.MACHINE_OWNED, hosts, "isapc", steps)[-1].firmware
        )


# ---- random lives ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Life:
    """A guest's hosts, its machine type, and steps that make sense one after the other."""

    hosts: tuple[HostFacts, ...]
    machine: str
    steps: tuple[Step, ...]


_NVRAM_STEPS = (K.UPGRADE_NVRAM, K.GUEST_FLASH, K.CLEAR_NVRAM)
# Steps that lead somewhere stand twice: a life has more of them.
_RUNNING = (
    K.RESET, K.MIGRATE, K.SHUTDOWN, K.RESET, K.MIGRATE, K.SHUTDOWN,
    K.UPGRADE_HOST, K.REPLACE_DISK, K.UPGRADE_NVRAM, K.GUEST_FLASH, K.WRITE_VARIABLE,
)  # fmt: skip
_SHUT_DOWN = (
    K.START, K.START, K.START, K.UPGRADE_HOST, K.REPLACE_DISK, K.UPGRADE_NVRAM, K.CLEAR_NVRAM,
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
    here: int | None = draw(st.integers(0, count - 1))
    steps = [Step(K.START, here)]
    cleared = disk_replaced = False
    for which, one, other in draw(st.lists(_CHOICES, min_size=1, max_size=longest)):
        kinds = _SHUT_DOWN if here is None else _RUNNING
        kind = kinds[which % len(kinds)]
        if kind is K.MIGRATE and machine == DEFAULT_MACHINE and not share_default and one:
            kind = K.SHUTDOWN  # a refusal ends a life: not in most of them
        if kind in _NVRAM_STEPS and (not nvram_steps or cleared):
            continue
        if kind is K.REPLACE_DISK and disk_replaced:
            continue
        host = firmware_of = None
        if kind is K.START:
            here = host = one % count
            cleared = False
        elif kind is K.MIGRATE:
            assert here is not None
            here = host = (here + 1 + other % (count - 1)) % count
        elif kind is K.UPGRADE_HOST:
            host = one % count
            firmware_of = (host + 1 + other % (count - 1)) % count
        elif kind is K.UPGRADE_NVRAM:
            firmware_of = one % count
        elif kind is K.GUEST_FLASH:
            firmware_of = count - 1  # one image is all that a QEMU offers
        elif kind is K.SHUTDOWN:
            here = None
        cleared |= kind is K.CLEAR_NVRAM
        disk_replaced |= kind is K.REPLACE_DISK
        steps.append(Step(kind, host, firmware_of=firmware_of))
    return Life(hosts, machine, tuple(steps))


@given(lives(nvram_steps=True))
def test_the_lives_are_valid_scenarios(life: Life) -> None:
    # Hosts that no step names are the one thing that a scenario must not have and a life may.
    first = Step(K.START, len(life.hosts) - 1)
    used = (Step(K.START, host) for host in range(len(life.hosts)))
    everywhere = [step for start in used for step in (start, SHUTDOWN)]
    validate((*everywhere, *life.steps))
    with pytest.raises(StepError):
        validate((first, *life.steps))  # started twice


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
    told: Expected
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
        if step.kind in (K.START, K.MIGRATE):
            launch_files = files
        told = guest.apply(step)
        yield Moment(step, told, before, files, launch_files, guest)
        if told.refusal:
            return
        if step.kind is K.UPGRADE_HOST:
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
        if moment.step.kind in _NVRAM_STEPS:
            return
        first = first or moment.told.firmware
        assert moment.told.firmware in (None, first)


def written_once(make: Make, life: Life) -> None:
    """2. guest-owned: nvram is written with firmware once; a second start on any host leaves it
    byte for byte alone."""
    nvram: str | None = None
    asked = True  # the first start initialises it
    for moment in walk(make, life):
        guest = moment.guest
        assert isinstance(guest, GuestOwned)
        if moment.step.kind in _NVRAM_STEPS:
            asked = True
        if not asked:
            assert guest.nvram == nvram
        if moment.told.boots:
            asked = False
        nvram = guest.nvram


def versioned_moves(make: Make, life: Life) -> None:
    """4. versioned: move without -M to another version: new firmware; with -M: old firmware;
    same version: old firmware."""
    firmware: str | None = None
    stamp: str | None = None
    for moment in walk(make, life):
        if moment.step.kind in _NVRAM_STEPS:
            return
        if moment.step.kind is K.START:
            assert moment.step.host is not None
            version = life.hosts[moment.step.host].version
            if stamp is None or (life.machine == DEFAULT_MACHINE and version != stamp):
                firmware, stamp = moment.files[moment.step.host], version
        if moment.told.firmware is not None:
            assert moment.told.firmware == firmware


def new_from_the_reset_on(make: Make, life: Life) -> None:
    """5. machine-owned: old firmware until the first reset after the migration, new firmware
    from it on."""
    expected = None
    for moment in walk(make, life):
        if moment.told.boots:
            assert moment.told.host is not None
            expected = moment.launch_files[moment.told.host]  # image(P)
        if moment.told.firmware is not None:
            assert moment.told.firmware == expected


def reset_is_a_restart(make: Make, life: Life) -> None:
    """6. machine-owned and reread: a reset gives the same firmware as shutdown + start (for
    machine-owned: as long as the host's file was not replaced after launch). guest-owned too."""
    for moment in walk(make, life):
        here = moment.guest.process
        if here is None or moment.told.refusal or moment.step.kind is K.UPGRADE_HOST:
            continue
        replaced = moment.files[here.host] != moment.launch_files[here.host]
        if isinstance(moment.guest, MachineOwned) and replaced:
            continue
        reset, restarted = twin(moment.guest), twin(moment.guest)
        restarted.apply(SHUTDOWN)
        start = Step(K.START, here.host)
        assert reset.apply(RESET).firmware == restarted.apply(start).firmware


def file_of_that_moment(make: Make, life: Life) -> None:
    """7. reread: the file on disk at that moment runs."""
    for moment in walk(make, life):
        if moment.told.boots:
            assert moment.told.host is not None
            assert moment.told.firmware == moment.files[moment.told.host]


def a_reset_keeps_the_disk(make: Make, life: Life) -> None:
    """8. A reset does not reopen block devices: after the disk file was renamed away and another
    put in its place, a reset boots the old disk, a start the new one."""
    file = disk = FIRST_DISK
    for moment in walk(make, life):
        if moment.step.kind is K.REPLACE_DISK:
            file = SECOND_DISK
        if moment.step.kind in (K.START, K.MIGRATE) and not moment.told.refusal:
            disk = file  # a new process opens the file of that moment
        assert moment.told.disk == (None if moment.told.host is None else disk)


def only_a_boot_changes_it(make: Make, life: Life) -> None:
    """Between a migration and the next reset every policy leaves `running` alone."""
    for moment in walk(make, life):
        if not moment.told.boots and moment.step.kind is not K.SHUTDOWN:
            assert moment.told.firmware == moment.before


def refused_without_a_common_default(make: Make, life: Life) -> None:
    """With machine type `default` a live migration between versions is refused by QEMU itself."""
    here: int | None = None
    for moment in walk(make, life):
        refusal = None
        if moment.step.kind is K.MIGRATE and life.machine == DEFAULT_MACHINE:
            assert here is not None
            assert moment.step.host is not None
            if life.hosts[here].default_machine != life.hosts[moment.step.host].default_machine:
                refusal = "machine-type"
        assert moment.told.refusal == refusal
        if refusal:  # it stays where it was
            assert (moment.told.host, moment.told.firmware) == (here, moment.before)
        here = moment.told.host


def staged_until_the_next_boot(make: Make, life: Life) -> None:
    """upgrade-nvram stages a build, guest-flash programs one; it becomes `running` at the next
    reset or start, never before. clear-nvram makes the next start initialise it again."""
    nvram: str | None = None
    staged: str | None = None
    flashed: str | None = None
    for moment in walk(make, life):
        if moment.step.kind is K.UPGRADE_NVRAM:
            assert moment.step.firmware_of is not None
            staged = life.hosts[moment.step.firmware_of].firmware
        if moment.step.kind is K.GUEST_FLASH:
            assert moment.step.firmware_of is not None
            flashed = life.hosts[moment.step.firmware_of].firmware
            assert moment.told.rom == flashed  # at once, though it does not run yet
        if moment.step.kind is K.CLEAR_NVRAM:
            nvram = staged = flashed = None
        if moment.told.boots:
            if nvram is None:
                assert moment.told.host is not None
                nvram = moment.files[moment.told.host]
            nvram, staged, flashed = staged or flashed or nvram, None, None
        if moment.told.firmware is not None:
            assert moment.told.firmware == nvram


def stock_keeps_what_it_started_with(make: Make, life: Life) -> None:
    """stock (pc, q35 with -bios): first start file(H), resets unchanged, later start file(H)."""
    running = None
    for moment in walk(make, life):
        if moment.step.kind is K.START:
            assert moment.step.host is not None
            running = moment.files[moment.step.host]
        if moment.told.firmware is not None:
            assert moment.told.firmware == running


def variables_change_by_boots_and_writes_alone(make: Make, life: Life) -> None:
    """A boot counts once, a write is of that boot; nothing else touches a guest's variables."""
    had: VariablesExpected | None = None
    for moment in walk(make, life):
        found = moment.told.variables
        if had is not None and found is not None and moment.step.kind is not K.START:
            if moment.step.kind is K.RESET:
                had = replace(had, boots=had.boots + 1)
            elif moment.step.kind is K.WRITE_VARIABLE:
                had = replace(had, value=f"boot-{had.boots}")
            assert found == had
        assert (found is None) == (moment.told.host is None)
        had = found


def _found_at_a_start(make: Make, life: Life, *, everywhere: bool) -> None:
    files: dict[int, VariablesExpected] = {}
    had: VariablesExpected | None = None
    made = 0
    for moment in walk(make, life):
        if moment.step.kind is K.CLEAR_NVRAM:
            files.clear()
        if moment.told.variables is None:
            continue
        assert moment.told.host is not None
        where = 0 if everywhere else moment.told.host
        if moment.step.kind is K.START:
            made += where not in files
            file = files.get(where, VariablesExpected(made, 0, "", lost=False))
            # Lost is what was written elsewhere, or before.
            lost = had is not None and (had.lost or file != replace(had, lost=False))
            assert moment.told.variables == replace(file, boots=file.boots + 1, lost=lost)
        had = moment.told.variables
        files[where] = replace(had, lost=False)


def a_start_finds_what_is_on_that_host(make: Make, life: Life) -> None:
    """The store is a file of each host, which a migration overwrites."""
    _found_at_a_start(make, life, everywhere=False)


def a_start_finds_what_the_guest_left(make: Make, life: Life) -> None:
    """The store is in the nvram, and the nvram is where the guest is."""
    _found_at_a_start(make, life, everywhere=True)


def with_a_machine_type(check: Property) -> Property:
    """The property for guests that name one; versioned is guest-owned then."""

    def checked(make: Make, life: Life) -> None:
        check(make, replace(life, machine=Q35) if life.machine == DEFAULT_MACHINE else life)

    checked.__doc__, checked.__name__ = check.__doc__, check.__name__
    return checked


EVERY = (
    a_reset_keeps_the_disk, only_a_boot_changes_it, refused_without_a_common_default,
    variables_change_by_boots_and_writes_alone,
)  # fmt: skip
PROPERTIES: dict[type[PolicyModel], tuple[Property, ...]] = {
    Stock: (stock_keeps_what_it_started_with, a_start_finds_what_is_on_that_host, *EVERY),
    GuestOwned: (
        never_changes_by_itself, written_once, reset_is_a_restart, staged_until_the_next_boot,
        a_start_finds_what_the_guest_left, *EVERY,
    ),
    GuestOwnedVersioned: (
        versioned_moves,
        *map(with_a_machine_type, (
            never_changes_by_itself, written_once, reset_is_a_restart, staged_until_the_next_boot,
            a_start_finds_what_the_guest_left,
        )),
        *EVERY,
    ),
    MachineOwned: (
        new_from_the_reset_on, reset_is_a_restart, a_start_finds_what_is_on_that_host, *EVERY,
    ),
    Reread: (
        file_of_that_moment, reset_is_a_restart, a_start_finds_what_is_on_that_host, *EVERY,
    ),
}  # fmt: skip


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


def _named(value: Any) -> str | None:
    return getattr(value, "__name__", None)


@pytest.mark.parametrize(
    ("make", "check"),
    [(make, check) for make, checks in PROPERTIES.items() for check in checks],
    ids=_named,
)
def test_invariant(make: type[PolicyModel], check: Property) -> None:
    search(check, make, nvram_steps=False)
    if issubclass(make, GuestOwned):
        search(check, make, nvram_steps=True)


@pytest.mark.parametrize("policy", list(Policy))
def test_the_models_that_are_checked_are_those_that_plan(policy: Policy) -> None:
    names = {
        "stock": Stock,
        "guest-owned": GuestOwned,
        "guest-owned-versioned": GuestOwnedVersioned,
        "machine-owned": MachineOwned,
        "reread": Reread,
    }
    assert type(model(policy, HOSTS, Q35)) is names[policy.value]
    assert set(names.values()) == set(PROPERTIES)


def test_invariant_6_does_not_hold_for_stock() -> None:
    """6, last sentence: "stock does not: that difference is a column of the report"."""
    with pytest.raises(AssertionError):
        search(reset_is_a_restart, Stock, nvram_steps=False)
    reset = plan(Policy.STOCK, HOSTS, Q35, (START, MIGRATE, RESET))
    restart = plan(Policy.STOCK, HOSTS, Q35, (START, MIGRATE, SHUTDOWN, START_B))
    assert (reset[-1].firmware, restart[-1].firmware) == ("A", "B")


def test_invariant_6_needs_a_machine_type_under_versioned() -> None:
    # Two versions with one default machine type: the migration works, and is a move without -M.
    hosts = (HostFacts("9.0.1", "pc-i440fx-9.0", "A"), HostFacts("9.0.2", "pc-i440fx-9.0", "B"))
    policy = Policy.GUEST_OWNED_VERSIONED
    reset = plan(policy, hosts, DEFAULT_MACHINE, (START, MIGRATE, RESET))
    restart = plan(policy, hosts, DEFAULT_MACHINE, (START, MIGRATE, SHUTDOWN, START_B))
    assert (reset[-1].firmware, restart[-1].firmware) == ("A", "B")


# ---- proof that the properties can fail --------------------------------------------------------


class MachineKeepsRunning(MachineOwned):
    def at_reset(self, process: Process) -> str:
        assert self.running is not None
        return self.running


class MachineRereads(MachineOwned):
    def at_reset(self, process: Process) -> str:
        return self.files[process.host]


class MachineSwapsAtTheMigration(MachineOwned):
    def apply(self, step: Step) -> Expected:
        told = super().apply(step)
        if step.kind is K.MIGRATE and self.process is not None and not told.refusal:
            self.running = self.process.image
            return replace(told, firmware=self.running)
        return told


class RereadKeepsTheImage(Reread):
    def at_reset(self, process: Process) -> str:
        return process.image


class RereadForgetsUpgrades(Reread):
    def at_reset(self, process: Process) -> str:
        return self.hosts[process.host].firmware


class GuestInitialisesAtEachStart(GuestOwned):
    def at_start(self, host: int) -> str:
        self.nvram = None
        return super().at_start(host)


class GuestTakesTheHostsAtAReset(GuestOwned):
    def at_reset(self, process: Process) -> str:
        return process.image


class GuestWritesItsNvramBehindItsBack(GuestOwned):
    def at_start(self, host: int) -> str:
        running = super().at_start(host)
        self.nvram = self.files[host]
        return running


class GuestUpgradesAtOnce(GuestOwned):
    def upgrade_nvram(self, firmware: str) -> None:
        self.nvram = self.running = firmware


class GuestUpgradesOnlyAtAStart(GuestOwned):
    def at_reset(self, process: Process) -> str:
        assert self.nvram is not None
        return self.nvram


class GuestLosesTheUpgradeInAMigration(GuestOwned):
    def apply(self, step: Step) -> Expected:
        if step.kind is K.MIGRATE:
            self.staged = None
        return super().apply(step)


class GuestNeverClears(GuestOwned):
    def clear_nvram(self) -> None:
        pass


class VersionedNeverClears(GuestOwnedVersioned):
    at_start = GuestOwned.at_start


class VersionedClearsAlways(GuestOwnedVersioned):
    def at_start(self, host: int) -> str:
        if self.stamp != self.hosts[host].version:
            self.clear_nvram()
        return GuestOwned.at_start(self, host)


class VersionedKeepsTheFirstStamp(GuestOwnedVersioned):
    def clear_nvram(self) -> None:
        stamp = self.stamp
        super().clear_nvram()
        self.stamp = stamp

    def _initialise(self, host: int) -> None:
        self.nvram = self.files[host]
        self.stamp = self.stamp or self.hosts[host].version


class VersionedComparesWithTheLastHost(GuestOwnedVersioned):
    def at_start(self, host: int) -> str:
        running = super().at_start(host)
        self.stamp = self.hosts[-1].version
        return running


class StockReloads(Stock):
    def at_reset(self, process: Process) -> str:
        return process.image


class ResetReopensTheDisk(Stock):
    def apply(self, step: Step) -> Expected:
        if step.kind is K.RESET and self.process is not None:
            self.process.disk = self.disk_file
        return super().apply(step)


class StartKeepsTheDisk(Stock):
    def _launch(self, host: int) -> Process:
        return replace(super()._launch(host), disk=FIRST_DISK)


class MigrationLeavesTheVariables(Stock):
    def carry_store(self, host: int, store: Store) -> Store:
        return self.store_at(host) or store


class MigrationMovesTheVariables(Stock):
    def carry_store(self, host: int, store: Store) -> Store:
        self.stores[host, self.loaders[host]] = store  # the file that stays behind goes on, too
        return store


class StartTakesTheTemplate(Reread):
    def store_at(self, host: int) -> Store | None:
        return self._new_store(host)


class NobodyMissesAnything(MachineOwned):
    def _misses(self, found: Store | None) -> bool:
        return False


class MigrationCountsAsABoot(Stock):
    def carry_store(self, host: int, store: Store) -> Store:
        return replace(super().carry_store(host, store), boots=store.boots + 1)


class GuestLeavesItsVariables(GuestOwned):
    def store_at(self, host: int) -> Store | None:
        return PolicyModel.store_at(self, host)


class GuestClearsTheFirmwareAlone(GuestOwned):
    def clear_nvram(self) -> None:
        self.nvram = self.staged = self.stamp = None

    def _initialise(self, host: int) -> None:
        store = self.nvram_store
        super()._initialise(host)
        self.nvram_store = store or self.nvram_store


class NeverRefused(Stock):
    def _refusal(self, here: int, there: int) -> str | None:
        return None


class RefusedBetweenVersions(Stock):
    def _refusal(self, here: int, there: int) -> str | None:
        differ = self.hosts[here].version != self.hosts[there].version
        return "machine-type" if differ else None


def test_a_planted_upgrade_at_once_is_caught_by_what_runs_between_boots() -> None:
    with pytest.raises(AssertionError):
        search(only_a_boot_changes_it, GuestUpgradesAtOnce, nvram_steps=True)


@pytest.mark.parametrize(
    ("mutant", "check"),
    [
        (GuestInitialisesAtEachStart, never_changes_by_itself),
        (GuestTakesTheHostsAtAReset, never_changes_by_itself),
        (GuestInitialisesAtEachStart, written_once),
        (GuestWritesItsNvramBehindItsBack, written_once),
        (VersionedNeverClears, versioned_moves),
        (VersionedClearsAlways, versioned_moves),
        (VersionedKeepsTheFirstStamp, versioned_moves),
        (VersionedComparesWithTheLastHost, versioned_moves),
        (MachineKeepsRunning, new_from_the_reset_on),
        (MachineRereads, new_from_the_reset_on),
        (MachineSwapsAtTheMigration, new_from_the_reset_on),
        (MachineKeepsRunning, reset_is_a_restart),
        (RereadKeepsTheImage, reset_is_a_restart),
        (GuestInitialisesAtEachStart, reset_is_a_restart),
        (GuestTakesTheHostsAtAReset, reset_is_a_restart),
        (RereadKeepsTheImage, file_of_that_moment),
        (RereadForgetsUpgrades, file_of_that_moment),
        (ResetReopensTheDisk, a_reset_keeps_the_disk),
        (StartKeepsTheDisk, a_reset_keeps_the_disk),
        (MachineSwapsAtTheMigration, only_a_boot_changes_it),
        (NeverRefused, refused_without_a_common_default),
        (RefusedBetweenVersions, refused_without_a_common_default),
        (GuestUpgradesAtOnce, staged_until_the_next_boot),
        (GuestUpgradesOnlyAtAStart, staged_until_the_next_boot),
        (GuestLosesTheUpgradeInAMigration, staged_until_the_next_boot),
        (GuestNeverClears, staged_until_the_next_boot),
        (StockReloads, stock_keeps_what_it_started_with),
        (MigrationCountsAsABoot, variables_change_by_boots_and_writes_alone),
        (MigrationLeavesTheVariables, variables_change_by_boots_and_writes_alone),
        (MigrationMovesTheVariables, a_start_finds_what_is_on_that_host),
        (StartTakesTheTemplate, a_start_finds_what_is_on_that_host),
        (NobodyMissesAnything, a_start_finds_what_is_on_that_host),
        (GuestLeavesItsVariables, a_start_finds_what_the_guest_left),
        (GuestClearsTheFirmwareAlone, a_start_finds_what_the_guest_left),
    ],
    ids=_named,
)
def test_a_planted_defect_is_caught(mutant: type[PolicyModel], check: Property) -> None:
    nvram_steps = check in (staged_until_the_next_boot, a_start_finds_what_the_guest_left)
    with pytest.raises(AssertionError):
        search(check, mutant, nvram_steps, lives_tried=500)


# ---- the library -------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", list(Policy))
def test_every_scenario_of_the_library_has_a_plan(policy: Policy) -> None:
    for scenario in LIBRARY.values():
        if applies_to(scenario, policy):
            told = plan(policy, HOSTS, Q35, scenario.steps)
            assert len(told) == len(scenario.steps)
            assert any(each.boots for each in told)


@pytest.mark.parametrize("policy", list(Policy))
def test_a_plan_ends_at_the_refusal(policy: Policy) -> None:
    told = plan(policy, HOSTS, DEFAULT_MACHINE, LIBRARY["migrate-reset"].steps)
    assert [each.refusal for each in told] == [None, "machine-type"]
    assert (told[-1].host, told[-1].boots, told[-1].firmware) == (0, False, "A")
