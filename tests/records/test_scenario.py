"""The scenario of a record: held by it since schema 2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.diagnose.lookup import from_records
from bootmatrix.errors import UserError
from bootmatrix.records.scenario import scenario_of
from bootmatrix.report.decision import decide
from bootmatrix.steps.library import LIBRARY, parse, written
from helpers.records import record
from records.test_schema_1 import NoBuilds

OWN = ["start", {"upgrade-host": {"host": "source", "firmware-of": "destination"}}, "reset"]


def with_steps(steps: list[Any], **values: Any) -> Any:
    return record(**values) | {"scenario_steps": steps}


@pytest.mark.parametrize("name", LIBRARY)
def test_what_is_written_is_what_was_run(name: str) -> None:
    steps = list(map(written, LIBRARY[name].steps))
    assert json.loads(json.dumps(steps)) == steps
    found = scenario_of(with_steps(steps, scenario="of-my-own"))
    assert found is not None
    assert (found.name, found.steps) == ("of-my-own", LIBRARY[name].steps)


def test_a_record_of_schema_1_means_the_librarys() -> None:
    assert scenario_of(record(scenario="chain")) is LIBRARY["chain"]
    assert scenario_of(record(scenario="of-my-own")) is None


@pytest.mark.parametrize("steps", [[], ["reset"], ["start", {"migrate": {"to": 3}}], [{}]])
def test_steps_that_make_no_sense_are_none(steps: list[Any], tmp_path: Path) -> None:
    spoilt = with_steps(steps, scenario="chain")
    assert scenario_of(spoilt) is None
    assert decide([spoilt])
    with pytest.raises(UserError, match="does not hold its steps"):
        again(spoilt, tmp_path)


def again(one: Any, tmp_path: Path) -> Any:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(one) + "\n")
    return from_records(one["cell"]["id"], path, NoBuilds())  # type: ignore[arg-type]


def test_a_scenario_of_ones_own_is_run_again_from_its_record(tmp_path: Path) -> None:
    cell = again(with_steps(OWN, scenario="of-my-own"), tmp_path)
    assert cell.scenario == parse("of-my-own", OWN)


def test_a_cell_with_fewer_hosts_than_its_steps_go_to_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="its scenario goes to 3 hosts, and it has 2"):
        again(with_steps(list(map(written, LIBRARY["chain"].steps))), tmp_path)


def test_what_an_upgrade_brought_is_known_in_a_scenario_of_ones_own() -> None:
    one = with_steps(OWN, scenario="of-my-own", policy="stock") | {"steps": [
        {"step": "start", "outcome": "ok", "host": "source"},
        {"step": "upgrade-host", "outcome": "ok", "host": "source"},
        {"step": "reset", "outcome": "ok", "host": "source"},
    ]}  # fmt: skip
    (row,) = decide([one])
    assert str(row.behind) == "1 of 1"
    del one["scenario_steps"]
    (row,) = decide([one])
    assert str(row.behind) == "not tried"
