"""Lives that hypothesis makes up and shrinks, with nothing that would run them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bootmatrix.explore import machine
from bootmatrix.explore.coverage import Coverage
from bootmatrix.explore.failures import Failure
from bootmatrix.explore.lives import Life, World
from bootmatrix.explore.machine import Enough, LifeFailed, Wishes, explore, failed
from bootmatrix.steps import STEPS
from bootmatrix.steps.library import validate
from helpers.explored import world

FAILURE = Failure("silent", "reset", "not a byte", "pc-i440fx", "seabios-1")


@pytest.fixture
def there(tmp_path: Path) -> World:
    return world(tmp_path / "images")


def lived(
    there: World, home: Path, live: Callable[[Life], float], seed: int = 7, lives: int = 60
) -> LifeFailed | None:
    wishes = Wishes(there, lambda life, kind: life.possible(kind), live)
    return explore(wishes, seed, 12, lives, home)


def test_each_life_makes_sense_and_all_sorts_come(there: World, tmp_path: Path) -> None:
    kinds: set[str] = set()
    policies = set()
    coverage = Coverage()

    def live(life: Life) -> float:
        validate(life.steps)
        assert life.impossible is None
        kinds.update(step.kind for step in life.steps)
        policies.add(life.place.point.policy)
        rare = coverage.rarity(life)
        coverage.add(life, len(life.steps))
        return rare

    assert lived(there, tmp_path, live, lives=100) is None
    cannot = {"suspend", "write-variable", "fill-variables", "write-boot-entry",
              "enrol-keys"}  # a boot sector
    assert kinds == set(STEPS) - cannot == set(there.kinds)
    assert len(policies) == 2


def test_one_seed_makes_the_same_lives(there: World, tmp_path: Path) -> None:
    def ways(seed: int, name: str) -> list[tuple[str, ...]]:
        found: list[tuple[str, ...]] = []

        def live(life: Life) -> float:
            found.append(life.way)
            return 0.0

        lived(there, tmp_path / name, live, seed, 20)
        return found

    assert ways(7, "a") == ways(7, "b") != ways(8, "c")


def test_a_failure_is_shrunk_to_its_core(there: World, tmp_path: Path) -> None:
    def live(life: Life) -> float:
        kinds = [step.kind for step in life.steps]
        if "migrate" in kinds and "reset" in kinds[kinds.index("migrate"):]:
            raise failed(life, FAILURE)
        return 0.0

    found = lived(there, tmp_path, live)
    assert found is not None
    assert found.failure == FAILURE
    assert found.life.way == ("start on h0", "migrate to h1", "reset")
    assert found.life.place.point.policy == "stock", "the first value of each axis that will do"


def test_a_failure_does_not_shrink_into_another(there: World, tmp_path: Path) -> None:
    other = Failure("late", "start", "after 33 s", "pc-i440fx", "seabios-1")
    current: list[Failure] = []

    def live(life: Life) -> float:
        kinds = [step.kind for step in life.steps]
        failure = None
        if len(kinds) > 3 and "replace-disk" in kinds:
            failure = FAILURE
        elif kinds.count("start") > 1:
            failure = other
        if failure is not None and failure in (current or [failure]):
            current[:] = [failure]
            raise failed(life, failure)
        return 0.0

    found = lived(there, tmp_path, live)
    assert found is not None
    kinds = [step.kind for step in found.life.steps]
    if found.failure == FAILURE:
        assert len(kinds) == 4
        assert "replace-disk" in kinds
    else:
        assert kinds == ["start", "shutdown", "start"]


def test_enough_ends_it_at_once(there: World, tmp_path: Path) -> None:
    lives = []

    def live(life: Life) -> float:
        lives.append(life)
        if len(lives) == 3:
            raise Enough
        return 0.0

    with pytest.raises(Enough):
        lived(there, tmp_path, live)
    assert len(lives) == 3


def without_another_disk(life: Life) -> float:
    """Lives in which the disk is replaced fail."""
    if any(step.kind == "replace-disk" for step in life.steps):
        raise failed(life, FAILURE)
    return 0.0


def test_a_failed_life_is_tried_first_the_next_time(there: World, tmp_path: Path) -> None:
    first = lived(there, tmp_path, without_another_disk)
    assert first is not None
    ways = []

    def again(life: Life) -> float:
        ways.append(life.way)
        return 0.0

    lived(there, tmp_path, again, seed=8, lives=5)
    assert ways[0] == first.life.way


def test_what_no_life_could_follow_is_no_mistake(there: World, tmp_path: Path) -> None:
    """Where no step is possible any more, the life is as long as it is."""
    wishes = Wishes(there, lambda life, kind: () if life.steps else life.possible(kind),
                    lambda life: float(len(life.steps)))
    assert explore(wishes, 7, 12, 5, tmp_path) is None


def test_no_life_is_longer_than_it_may_be(there: World, tmp_path: Path) -> None:
    lengths: set[int] = set()

    def live(life: Life) -> float:
        lengths.add(len(life.steps))
        return float(len(life.steps))

    lived(there, tmp_path, live)
    assert max(lengths) == 12


def test_what_is_kept_of_other_lives_is_nothing_to_shrink(
    there: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hypothesis keeps lives by the source of what makes them up, which somebody may change."""
    monkeypatch.setattr(machine, "DirectoryBasedExampleDatabase", lambda place: None)

    found = lived(there, tmp_path, without_another_disk)
    assert found is not None
    assert found.life.way == ("start on h0", "replace-disk")
