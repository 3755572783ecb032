"""What an exploration keeps, whoever is killed and whoever else writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.errors import UserError
from bootmatrix.explore.answers import PASSED, LifeOutcome
from bootmatrix.explore.coverage import Coverage
from bootmatrix.explore.failures import Failure, KnownFailure
from bootmatrix.explore.home import Home, Lines, check_same

FAILURE = Failure("silent", "reset", "not a byte", "pc-q35", "seabios-1")


def test_workers_know_what_others_have_found(tmp_path: Path) -> None:
    one, other = Home(tmp_path, 0), Home(tmp_path, 1)
    one.keep("p", ["start", "reset"], LifeOutcome(1, FAILURE))
    assert other.answer("p", ["start", "reset", "reset"]) == LifeOutcome(1, FAILURE)
    one.forget("p", ["start", "reset"])
    assert other.answer("p", ["start", "reset"]) is None
    other.keep("p", ["start", "reset"], PASSED)
    assert one.answer("p", ["start", "reset"]) == PASSED
    one.add(KnownFailure(FAILURE, ("start", "reset"), "finding-1"))
    assert [seen.name for seen in other.seen] == ["finding-1"]


def test_one_worker_looks_at_a_way_to_fail(tmp_path: Path) -> None:
    one, other = Home(tmp_path, 0), Home(tmp_path, 1)
    assert one.claim(FAILURE)
    assert one.claim(FAILURE)
    assert not other.claim(FAILURE)
    one.unclaim()
    assert other.claim(FAILURE)
    other.close()
    assert one.claim(FAILURE), "who has ended looks at nothing"


def test_another_run_goes_on_from_it(tmp_path: Path) -> None:
    first = Home(tmp_path, 0)
    first.keep("p", ["start"], PASSED)
    coverage = Coverage()
    coverage.counts["place", "q35"] += 2
    coverage.possible.add(("place", "q35"))
    first.ended(0, coverage)
    first.close()
    again = Home(tmp_path, 0)
    assert again.answer("p", ["start"]) == PASSED
    assert again.session == 1
    assert Home(tmp_path, 1).session == 0
    assert again.coverage() == coverage == again.all_coverage()


def test_the_half_of_a_line_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_bytes(b'{"a": 1}\n{"b": ')
    lines = Lines(file)
    lines.add({"c": 2})
    assert list(lines.new()) == [{"a": 1}, {"c": 2}]
    assert list(lines.new()) == []
    file.write_bytes(file.read_bytes() + b'{"d": ')
    assert list(lines.new()) == [], "it is being written"


def test_answers_of_another_version_are_none(tmp_path: Path) -> None:
    home = Home(tmp_path, 0)
    Lines(tmp_path / "explore" / "answers.jsonl").add({"place": "p", "way": ["start"]})
    Lines(tmp_path / "explore" / "seen.jsonl").add({"failure": 3})
    assert home.answer("p", ["start"]) is None
    assert home.seen == []


def test_findings_are_numbered(tmp_path: Path) -> None:
    homes = Home(tmp_path, 0), Home(tmp_path, 1)
    names = [home.new_finding()[0] for home in (*homes, homes[0])]
    assert names == ["finding-1", "finding-2", "finding-3"]
    for name in ("finding-2", "finding-10", "finding-1"):
        homes[0].tell(name, {"name": name})
    assert [one["name"] for one in homes[1].all_findings()] == [
        "finding-1", "finding-2", "finding-10"]


def test_only_the_same_command_goes_on(tmp_path: Path) -> None:
    assert not check_same(tmp_path, {"matrix": "m", "seed": 7})
    assert check_same(tmp_path, {"matrix": "m", "seed": 7})
    with pytest.raises(UserError, match="was begun with seed 7, and not 8"):
        check_same(tmp_path, {"matrix": "m", "seed": 8})
