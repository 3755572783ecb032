"""What was covered, what is rare, and what never was."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from bootmatrix.explore.coverage import Coverage, features
from bootmatrix.explore.lives import World
from helpers.explored import life, world


@pytest.fixture
def there(tmp_path: Path) -> World:
    return world(tmp_path)


def test_what_is_in_a_life(there: World) -> None:
    found = list(features(life(
        there, ["start", "replace-disk", {"migrate": {"as": "paused"}}, "reset"], 0, 1)))
    assert [name for kind, name in found if kind == "pair of steps"] == [
        "start, replace-disk", "replace-disk, migrate as paused", "migrate as paused, reset"]
    assert [name for kind, name in found if kind == "step, policy and QEMUs"] == [
        "start, stock, 5.2.0", "replace-disk, stock, 5.2.0",
        "migrate as paused, stock, 5.2.0 to 11.1.3", "reset, stock, 11.1.3"]
    assert ("steps between boots", "2") in found


def test_what_was_never_had_is_rare(there: World) -> None:
    coverage = Coverage()
    one, other = (life(there, ["start", kind], 0) for kind in ("reset", "shutdown"))
    first = coverage.rarity(one)
    coverage.add(one, 2)
    coverage.add(one, 2)
    assert coverage.rarity(one) < coverage.rarity(other) < first == coverage.rarity(one) * 3


def test_what_was_not_done_is_not_covered(there: World) -> None:
    coverage = Coverage()
    coverage.add(life(there, ["start", "reset", "shutdown"], 0), 2)
    assert coverage.had("pair of steps") == 1


def test_a_refusal_is_covered(there: World) -> None:
    coverage = Coverage()
    steps = [{"step": "migrate", "outcome": "refused: device-state: it says much"}]
    coverage.add(life(there, ["start", "migrate"], 0, 1), 2, cast(Any, {"steps": steps}))
    assert coverage.counts["refusal", "migrate: device-state"] == 1


def test_what_could_have_come_and_never_did(there: World) -> None:
    coverage = Coverage()
    begun = life(there, ["start"], 0)
    coverage.offered(begun, begun.possible("reset"))
    coverage.add(begun.then(begun.possible("reset")[0]), 2)
    assert "start, reset by cf9" in coverage.never("pair of steps")
    assert "start, reset" not in coverage.never("pair of steps")


def test_two_workers_together_and_as_data(there: World) -> None:
    one, other = Coverage(), Coverage()
    lived = life(there, ["start", "reset"], 0)
    one.add(lived, 2)
    other.add(lived, 2)
    other.offered(lived, lived.possible("shutdown"))
    one.merge(other)
    assert one.counts["pair of steps", "start, reset"] == 2
    read = Coverage.read(one.plain)
    assert read == one
    with pytest.raises(ValueError, match="no coverage"):
        Coverage.read({})
