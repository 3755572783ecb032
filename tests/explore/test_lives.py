"""Which steps can come next in a life, and what a life is called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.cell import Cell
from bootmatrix.explore.lives import Life, Next, World, places_of, said, sort_of, unusual
from bootmatrix.matrix import unsupported
from bootmatrix.model import BoardSource, HostSpec, MigrationMode, ResetBy, SavedSource
from bootmatrix.steps import STEPS
from bootmatrix.steps.base import StepError
from bootmatrix.steps.library import LIBRARY, parse, validate
from bootmatrix.steps.migrate import Migrate
from bootmatrix.steps.reset import Reset
from bootmatrix.steps.start import Start
from helpers.explored import SPECS, cells, life, nexts, world


@pytest.fixture
def there(tmp_path: Path) -> World:
    return world(tmp_path)


def test_a_life_begins_with_a_start_on_any_host(there: World) -> None:
    empty = Life(there, there.places[0])
    assert {kind for kind in STEPS if empty.possible(kind)} == {"start"}
    assert nexts(empty, "start") == [(Start(0), "h0"), (Start(0), "h1"), (Start(0), "h2")]


def test_where_no_life_can_begin_the_first_place_says_why(tmp_path: Path) -> None:
    assert world(tmp_path / "some").nowhere is None
    none = world(tmp_path / "none", [replace(cell, machine="pc-q35-99.0") for cell in cells()])
    assert none.nowhere is not None
    assert "has no machine pc-q35-99.0" in none.nowhere


def test_steps_need_what_a_step_list_needs(there: World) -> None:
    on = life(there, ["start"], 0)
    off = life(there, ["start", "shutdown"], 0)
    assert not on.possible("start")
    assert nexts(off, "start")[0] == (Start(0), "")
    assert on.possible("reset")
    assert not off.possible("reset")
    assert not on.possible("clear-nvram"), "stock has no nvram"
    owned = life(there, ["start", "shutdown"], 0, policy="guest-owned")
    assert owned.possible("clear-nvram")
    assert not on.possible("suspend"), "a boot sector cannot"


def test_the_kinds_of_a_large_matrix_are_not_asked_for_place_by_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Cell] = []
    reason = unsupported.reason

    def counted(cell: Cell, *others: Any) -> str | None:
        asked.append(cell)
        return reason(cell, *others)

    monkeypatch.setattr(unsupported, "reason", counted)

    def asks(cpus: int) -> tuple[int, tuple[str, ...]]:
        asked.clear()
        made = [replace(cell, smp=number) for number in range(1, cpus + 1) for cell in cells()]
        kinds = world(tmp_path / str(cpus), made).kinds
        return len(asked), kinds

    few, kinds = asks(1)
    many, same = asks(12)
    assert kinds == same
    assert many < 10 * few, "there are twelve times as many places, which are asked less each"


@pytest.mark.parametrize("kind", sorted(STEPS))
def test_each_that_is_possible_passes_the_check_of_step_lists(there: World, kind: str) -> None:
    lives = [Life(there, there.places[0])] + [
        life(there, raw, 0, 1, policy=policy)
        for policy in ("stock", "guest-owned")
        for raw in (["start", "migrate"], ["start", "migration-begins"],
                    ["start", "migrate", "shutdown"])]
    for one in lives:
        for next_ in one.possible(kind):
            longer = one.then(next_)
            validate(longer.steps)
            assert longer.impossible is None


def test_a_migration_goes_to_a_host_that_is_there_or_comes_in(there: World) -> None:
    plain = [(step, new) for step, new in nexts(life(there, ["start"], 1), "migrate")
             if not unusual(step)]
    assert plain == [(Migrate(1), "h0"), (Migrate(1), "h2")]
    back = [step for step, new in nexts(life(there, ["start", "migrate"], 1, 0), "migrate")
            if not new and not unusual(step)]
    assert back == [Migrate(0)]


def test_only_where_the_matrix_goes(tmp_path: Path) -> None:
    there = world(tmp_path, cells(routes=["01", "12"]))
    one = life(there, ["start"], 0)
    assert {new for _, new in nexts(one, "migrate")} == {"h1"}
    assert life(there, ["start", "migrate"], 0, 1).possible("migrate")[0].step.roles != (0,)


def test_where_a_scenario_goes_back_a_life_can(tmp_path: Path) -> None:
    there_and_back = [replace(cell, scenario=LIBRARY["ping-pong"]) for cell in
                      cells(routes=["01"])]
    there = world(tmp_path, there_and_back)
    assert Migrate(0) in [step for step, _ in nexts(
        life(there, ["start", "migrate"], 0, 1), "migrate")]


def test_what_changes_nothing_is_not_done_twice_in_a_row(there: World) -> None:
    assert life(there, ["start"], 0).possible("replace-disk")
    assert not life(there, ["start", "replace-disk"], 0).possible("replace-disk")
    assert life(there, ["start", "reset"], 0).possible("reset")


def test_nothing_follows_what_qemu_must_refuse(tmp_path: Path) -> None:
    unversioned = [replace(cell, machine="default") for cell in cells()]
    there = world(tmp_path, unversioned)
    # Each fake has the same default machine: nothing is refused.
    assert not life(there, ["start", "migrate"], 0, 1).is_over
    one = SPECS[1]
    build = there.builds[one]
    builds = {**there.builds, one: replace(
        build, qemu=replace(build.qemu, default_machine="pc-i440fx-9.0"))}
    refusing = replace(there, builds=builds)
    over = life(refusing, ["start", "migrate"], 0, 1)
    assert over.is_over
    assert not any(over.possible(kind) for kind in STEPS)


def test_a_mode_of_migration_is_that_of_lives_that_migrate(tmp_path: Path) -> None:
    there = world(tmp_path, [replace(cell, migration=MigrationMode.MULTIFD) for cell in cells()])
    stays = life(there, ["start", "reset"], 0)
    goes = life(there, ["start", "migrate"], 2, 1)
    assert stays.cell().migration is MigrationMode.PRECOPY
    assert goes.cell().migration is MigrationMode.MULTIFD
    assert stays.impossible is None


def test_the_first_steps_of_a_life_have_their_hosts_alone(there: World) -> None:
    whole = life(there, ["start", "reset", "migrate", "reset"], 2, 0)
    assert whole.first(2).hosts == (SPECS[2],)
    assert whole.first(3).hosts == (SPECS[2], SPECS[0])
    assert whole.first(2).way == whole.way[:2]


def test_a_step_by_its_hosts_and_by_its_sort(there: World) -> None:
    assert said(Migrate(1), SPECS) == "migrate to h1"
    assert said(Start(0), SPECS[2:]) == "start on h2"
    assert sort_of(Reset(ResetBy.CF9)) == "reset by cf9"
    (_, step, _) = parse("own", ["start", {"migrate": {"during-post": True}}, "reset"]).steps
    assert sort_of(step) == "migrate during-post"
    assert said(step, SPECS) == "migrate to h1 during-post"
    assert [unusual(one) for one in (Migrate(1), step, Reset(ResetBy.CF9))] == [0, 1, 1]


def test_boards_and_saved_guests_are_left_out_and_told() -> None:
    board = HostSpec("lab", BoardSource(env=Path("bench.yaml")))
    saved = HostSpec("old", SavedSource(guest="ab" * 32))
    (plain,) = cells(["stock"], ["01"])
    places, left_out = places_of([
        replace(plain, hosts=(board,)), replace(plain, hosts=(saved, SPECS[0])), plain])
    assert [list(place.hosts) for place in places] == [[SPECS[0], SPECS[1]]]
    assert left_out == ["lab: a real board has no life that could be made up",
                        "old: a saved guest has no life that could be made up"]


def test_a_step_list_that_makes_no_sense_has_no_state(there: World) -> None:
    with pytest.raises(StepError):
        Life(there, there.places[0], SPECS[:1], (Reset(),)).state  # noqa: B018


def test_a_new_host_gets_the_next_role(there: World) -> None:
    one = life(there, ["start"], 1).then(Next(Migrate(1), SPECS[2]))
    assert one.hosts == (SPECS[1], SPECS[2])
    assert one.way == ("start on h1", "migrate to h2")
