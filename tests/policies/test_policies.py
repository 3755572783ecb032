"""The policies as pure models: the tables of model.md, cell by cell.

A policy's invariants, on random lives, are in the file of its name. 3 (the destination's nvram file
equals the source's) and 9 (fw_cfg) need real QEMUs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given

from bootmatrix.boards import Loader
from bootmatrix.model import DEFAULT_MACHINE
from bootmatrix.policies import Policy
from bootmatrix.policies.base import (
    Swap,
    VariablesExpected,
)
from bootmatrix.policies.guest_owned import GuestOwned
from bootmatrix.policies.guest_owned_versioned import GuestOwnedVersioned
from bootmatrix.policies.machine_owned import MachineOwned
from bootmatrix.policies.reread import Reread
from bootmatrix.policies.stock import Stock
from bootmatrix.steps.base import Step, StepError
from bootmatrix.steps.fill_variables import FillVariables
from bootmatrix.steps.library import validate
from bootmatrix.steps.plan import plan
from bootmatrix.steps.reset import Reset
from bootmatrix.steps.start import Start
from bootmatrix.steps.suspend import Suspend
from helpers.lives import (
    CLEAR,
    COLUMNS,
    HOSTS,
    MIGRATE,
    MIGRATE_BACK,
    Q35,
    REPLACE_A,
    RESET,
    SHUTDOWN,
    START,
    START_B,
    WRITE,
    Life,
    lives,
    loaded,
)

# ---- the table "Policies" of model.md, cell by cell --------------------------------------------

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


@pytest.mark.parametrize("loader", [Loader.ROM, Loader.FLASH])
@pytest.mark.parametrize(("column", "policy", "firmware"), list(_cells()))
def test_table(column: str, policy: str, firmware: str, loader: Loader) -> None:
    last = plan(Policy(policy), loaded(loader), Q35, COLUMNS[column])[-1]
    assert last.firmware == firmware
    assert last.refusal is None
    assert last.boots == (isinstance(last.step, (Start, Reset)))


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


# ---- the table "Variables" of model.md, cell by cell -------------------------------------------

VARIABLE_LIVES = {
    "start": (START,),
    "write": (START, WRITE),
    "write, reset": (START, WRITE, RESET),
    "suspend and fill count nothing": (START, WRITE, Suspend(), FillVariables()),
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
        planned = plan(policy, loaded(loader), Q35, VARIABLE_LIVES[name])
        expected = _variables(of_nvram if policy.keeps_nvram else of_host)
        assert planned[-1].variables == expected, name


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
        how = policy.model.mechanism(loader)
        assert (how.nvram, how.swap, how.clears_on_move) == (nvram, swap, clears)
        assert how.nvram == policy.keeps_nvram


# ---- random lives ------------------------------------------------------------------------------


@given(lives(nvram_steps=True))
def test_the_lives_are_valid_scenarios(life: Life) -> None:
    # Hosts that no step names are the one thing that a scenario must not have and a life may.
    first = Start(len(life.hosts) - 1)
    used = (Start(host) for host in range(len(life.hosts)))
    everywhere = [step for start in used for step in (start, SHUTDOWN)]
    validate((*everywhere, *life.steps))
    with pytest.raises(StepError):
        validate((first, *life.steps))  # started twice


@pytest.mark.parametrize("policy", list(Policy))
def test_a_policy_is_called_as_its_model_and_plans_by_it(policy: Policy) -> None:
    names = {
        "stock": Stock,
        "guest-owned": GuestOwned,
        "guest-owned-versioned": GuestOwnedVersioned,
        "machine-owned": MachineOwned,
        "reread": Reread,
    }
    assert policy.model is names[policy.value]


# ---- a real board's chip ----------------------------------------------------------------------

_CLEARED = (START, SHUTDOWN, CLEAR, START)


@pytest.mark.parametrize(("policy", "steps", "ran"), [
    *((policy, (START, REPLACE_A, RESET), ["A", "C"])
      for policy in ("stock", "guest-owned", "guest-owned-versioned", "reread")),
    ("machine-owned", (START, REPLACE_A, RESET), ["A", "A"]),
    ("machine-owned", (START, REPLACE_A, SHUTDOWN, START), ["A", "C"]),
    *((policy, (START, SHUTDOWN, START_B), ["A", "A"]) for policy in ("stock", "guest-owned")),
    *((policy, (START, SHUTDOWN, START_B), ["A", "B"]) for policy in ("machine-owned", "reread")),
    ("stock", (REPLACE_A, START), ["C"]),
    ("guest-owned", (START, REPLACE_A, *_CLEARED[1:]), ["A", "C"]),
], ids=str)
def test_what_a_chip_makes_a_board_boot(
    policy: str, steps: Sequence[Step], ran: list[str]
) -> None:
    expected = plan(Policy(policy), loaded(Loader.CHIP), "board", steps)
    assert [one.firmware for one in expected if one.boots] == ran
    assert Policy(policy).model.mechanism(Loader.CHIP).swap is Swap.NOTHING


@pytest.mark.parametrize("policy", ["stock", "guest-owned", "reread"])
def test_an_upgrade_is_in_the_chip_before_it_runs(policy: str) -> None:
    upgraded = plan(Policy(policy), loaded(Loader.CHIP), "board", (START, REPLACE_A))[-1]
    assert (upgraded.firmware, upgraded.rom) == ("A", "C")
