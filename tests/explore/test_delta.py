"""The steps that a failed life needs, with nothing that would run them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bootmatrix.explore.delta import needed
from bootmatrix.explore.lives import Life, World
from bootmatrix.explore.lives import said as said_of
from helpers.explored import life, world


@pytest.fixture
def there(tmp_path: Path) -> World:
    return world(tmp_path)


LONG = ["start", "reset", "replace-disk", "migrate", {"reset": {"by": "cf9"}}, "shutdown",
        {"start": {"on": "host-3"}}, "reset", "replace-disk", {"migrate": {"to": "destination"}},
        {"reset": {"by": "cf9"}}, "replace-disk", "reset", "replace-disk", "shutdown",
        {"start": {"on": "source"}}, "replace-disk", "reset", {"reset": {"by": "cf9"}},
        "replace-disk", "shutdown"]


def shrunk(one: Life, fails: Callable[[Sequence[str]], bool]) -> tuple[Life, list[Life]]:
    """What is left of a life where those with these kinds of steps fail, and what was tried."""
    tried: list[Life] = []

    def ask(other: Life) -> Life | None:
        tried.append(other)
        kinds = [step.kind for step in other.steps]
        return next((other.first(number) for number in range(1, len(kinds) + 1)
                     if fails(kinds[:number])), None)

    return needed(one, ask, lambda of, kind: of.possible(kind)), tried


def has(*kinds: str) -> Callable[[Sequence[str]], bool]:
    """Whether these kinds are there in their order."""

    def fails(there: Sequence[str]) -> bool:
        rest = iter(there)
        return all(kind in rest for kind in kinds)

    return fails


def test_a_start_and_what_fails_is_tried_first(there: World) -> None:
    found, tried = shrunk(life(there, LONG, 0, 1, 2), has("start", "shutdown"))
    assert found.way == ("start on h0", "shutdown")
    assert len(tried) == 1


def test_one_step_between_is_soon_found(there: World) -> None:
    found, tried = shrunk(life(there, LONG, 0, 1, 2), has("start", "migrate", "shutdown"))
    assert found.way == ("start on h0", "migrate to h1", "shutdown")
    assert sum(len(one.steps) for one in tried) < 30


def test_each_step_that_is_left_is_needed(there: World) -> None:
    core = ("migrate", "reset", "shutdown", "start", "reset", "shutdown")
    found, tried = shrunk(life(there, LONG, 0, 1, 2), has(*core))
    assert [step.kind for step in found.steps] == ["start", *core]
    assert len(tried) < 60


def test_no_try_is_longer_and_each_makes_sense(there: World) -> None:
    whole = life(there, LONG, 0, 1, 2)
    _, tried = shrunk(whole, has("replace-disk", "migrate", "migrate", "shutdown"))
    for one in tried:
        assert len(one.steps) < len(whole.steps)
        assert one.impossible is None
        assert one.steps[-1].kind == "shutdown"


def test_hosts_are_those_that_are_left(there: World) -> None:
    """The roles are counted anew: what was the third host is the first here."""
    whole = life(there, ["start", "migrate", "shutdown", {"start": {"on": "host-3"}}, "reset"],
                 2, 0, 1)

    def fails(other: Life) -> Life | None:
        last = other.hosts[other.state.host].name
        return other if other.steps[-1].kind == "reset" and last == "h1" else None

    found = needed(whole, fails, lambda of, kind: of.possible(kind))
    assert found.way == ("start on h1", "reset")
    assert said_of(found.steps[0], found.hosts) == "start on h1"


def test_what_fails_alone_stays_as_it_is(there: World) -> None:
    whole = life(there, ["start", "reset"], 0)
    assert needed(whole, lambda other: None, lambda of, kind: of.possible(kind)) == whole
