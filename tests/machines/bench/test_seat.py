"""One holder at a time, and what outlasts it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bootmatrix.errors import BoardTaken
from bootmatrix.machines.bench.seat import Journal, Seat
from bootmatrix.model import BoardSource


def test_each_target_of_a_file_has_its_own(tmp_path: Path) -> None:
    one, two = (Seat.of(BoardSource(env=tmp_path / "env.yaml", target=name), tmp_path)
                for name in ("one", "two"))
    assert one.saved != two.saved
    same = Seat.of(BoardSource(env=tmp_path / "." / "env.yaml", target="one"), tmp_path)
    assert same.saved == one.saved


def test_another_process_does_not_have_it_meanwhile(tmp_path: Path) -> None:
    program = ("import sys; from pathlib import Path; "
               "from bootmatrix.machines.bench.seat import Seat; "
               "print(Seat(Path(sys.argv[1])).user)")

    def asked() -> str:
        return subprocess.run([sys.executable, "-c", program, tmp_path], check=True, text=True,
                              capture_output=True).stdout.strip()

    with Seat(tmp_path).held("the run in /tmp/x"):
        assert asked() == "the run in /tmp/x"
    assert asked() == "None"


def test_who_has_it_is_waited_for_as_long_as_is_said(tmp_path: Path) -> None:
    with Seat(tmp_path).held("a run"):
        for user, seconds in (("another", 0.1), ("", 0.0)):
            with pytest.raises(BoardTaken, match="it is used by a run"), \
                    Seat(tmp_path).held(user, seconds):
                raise AssertionError
        with pytest.raises(BoardTaken, match="the run was ended before the board was free"), \
                Seat(tmp_path).held("a run", 0.0, lambda: True):
            raise AssertionError


def test_others_of_the_same_run_are_waited_for_without_end(tmp_path: Path) -> None:
    asked = iter([False, False, True])
    with Seat(tmp_path).held("a run"), pytest.raises(BoardTaken, match="was ended"), \
            Seat(tmp_path).held("a run", 0.0, lambda: next(asked)):
        raise AssertionError
    assert next(asked, None) is None, "it went on to ask"


def test_what_is_noted_is_read_again(tmp_path: Path) -> None:
    seat = Seat(tmp_path)
    assert (seat.journal, seat.mark) == (None, "")
    seat.journal = Journal("ab", done=False, restore=True)
    seat.mark = "dead"
    again = Seat(tmp_path)
    assert (again.journal, again.mark) == (Journal("ab", done=False, restore=True), "dead")
    again.journal, again.mark = None, ""
    cleared = Seat(tmp_path)
    assert (cleared.journal, cleared.mark) == (None, "")


def test_a_journal_that_is_none_says_nothing(tmp_path: Path) -> None:
    for text in ("", "[]", "{}", '{"wanted": 1}'):
        (tmp_path / "journal.json").write_text(text)
        assert Seat(tmp_path).journal is None
