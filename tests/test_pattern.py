"""Regular expressions of the user's, which must not take for ever."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from bootmatrix import pattern
from bootmatrix.errors import HarnessError
from bootmatrix.pattern import Pattern


def test_it_is_found_from_a_place_on() -> None:
    found = Pattern(r"login: |(\d+)").search(b"no 1 login: ", 4)
    assert found is not None
    assert (found.group(0), found.start()) == (b"login: ", 5)
    assert Pattern("x").search(b"no 1 login: ") is None


def test_a_point_is_any_byte() -> None:
    assert Pattern("a.b").search(b"a\nb")
    assert Pattern("\u00e4").search("\u00e4".encode())


@pytest.mark.parametrize(("text", "why"), [
    *((text, "position") for text in ("(", "[a", "a{2,1}", "(?P<x>a)(?P<x")),
    ("a{1000000000}", "more than 1000 times"), ("(ab){3,2000}", "more than 1000 times"),
    ("(" * 2000 + "a" + ")" * 2000, "nested too deeply"),
], ids=["open", "set", "turned", "name", "often", "range", "deep"])
def test_what_is_none(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Pattern(text)


@pytest.mark.parametrize(("text", "empty"), [
    ("x*", True), ("(?=[A-Z])", True), ("^", True), (r"\b", True), ("login: |", True),
    ("x+", False), ("(?<=l)ogin", False), ("^up$", False)])
def test_one_that_is_found_where_nothing_of_it_is_said(text: str, empty: bool) -> None:
    assert Pattern(text).is_empty is empty


def test_one_that_takes_all_memory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def search(said: bytes, start: int, timeout: float) -> None:
        raise MemoryError

    one = Pattern("a")
    monkeypatch.setattr(one, "_compiled", SimpleNamespace(search=search))
    with pytest.raises(HarnessError, match="'a' takes more memory than there is"):
        one.search(b"x")


def test_one_that_tries_too_much_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pattern, "_SECONDS", 0.2)
    begun = time.process_time()
    with pytest.raises(HarnessError, match=r"looked for in 60 bytes .* too many ways to match"):
        Pattern("(a|a)*[bc]d?x?$").search(b"a" * 59 + b"d")
    assert time.process_time() - begun < 30
