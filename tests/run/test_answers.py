"""Answers in files: what is damaged, or of another version, is not there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from bootmatrix.run import answers
from bootmatrix.steps.migrate import Migrate
from bootmatrix.witnesses.observation import StepObserved
from bootmatrix.witnesses.probe_line import ProbeLine

SEEN = (StepObserved(Migrate(1), 0.5, 1, answer=ProbeLine("here", 1, 3)),)


@pytest.mark.parametrize("key", ["here", "answer"])
def test_what_another_version_wrote_is_none(tmp_path: Path, key: str) -> None:
    answers.write(tmp_path, "k", SEEN)
    data = json.loads((tmp_path / "k.json").read_bytes().partition(b"\n")[2])
    data[0][key] = data[0].pop("answer")
    text = json.dumps(data).encode()
    (tmp_path / "k.json").write_bytes(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
    assert answers.read(tmp_path, "k") == (SEEN if key == "answer" else None)
