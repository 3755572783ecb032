"""``bootmatrix schema`` prints the schema that matrix files are checked by."""

from __future__ import annotations

import json

import pytest

from bootmatrix.cli.main import main
from bootmatrix.matrix.expansion import json_schema


def test_it_is_json_and_the_one_that_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(json_schema()))
