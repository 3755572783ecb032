"""What a bisection has tried is kept, and believed only if it is its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bootmatrix.diagnose.bisect import (
    judged,
    printable,
)
from bootmatrix.diagnose.tried import Answer, Tried, alone
from bootmatrix.errors import UserError


def test_a_damaged_or_foreign_state(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    Tried(path, {"n": 1}).keep("a", Answer("pass", ""))
    assert Tried(path, {"n": 1}).answers == {"a": Answer("pass", "")}
    with pytest.raises(UserError, match="the state of another bisection"):
        Tried(path, {"n": 2})
    path.write_text(path.read_text()[:20])
    with pytest.raises(UserError, match=r"no state of a bisection.*--fresh"):
        Tried(path, {"n": 1})


def test_only_lasting_answers_are_remembered(tmp_path: Path) -> None:
    tried = Tried(tmp_path / "state.json", {})
    broke = judged({"verdict": "error", "reason": "FileExistsError"}, "1")
    tried.keep("broke", broke)
    tried.keep("silent", Answer("silent", "", content="2"))
    assert tried.like("1") is None
    assert set(Tried(tried.path, {}).answers) == {"silent"}


def test_one_at_a_time(tmp_path: Path) -> None:
    with alone(tmp_path / "work"), pytest.raises(
            UserError, match=f"already running, as process {os.getpid()}"), \
            alone(tmp_path / "work"):
        raise AssertionError("both have it")
    with alone(tmp_path / "work"):
        pass


def test_what_others_wrote_holds_no_escapes() -> None:
    assert printable("a\x1b]0;x\x07b\x9bé") == "a?]0;x?b?é"
