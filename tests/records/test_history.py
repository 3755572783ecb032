"""Many runs in one file: since when a cell fails, which are flaky, how long they take."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import struct
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.errors import UserError
from bootmatrix.records.history import History, VerdictChange, digest_of, is_history
from helpers.records import of_two_matrices, record

CELL = record()["cell"]["id"]
BAD: dict[str, Any] = {"verdict": "silent", "reason": "nothing\nat all"}


def added(history: History, day: int, *records: Any, label: str = "") -> bool:
    return history.add(records, digest=f"run {day} {label}", time=f"2026-01-{day:02}",
                       label=label or f"v{day}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "h.sqlite"


def test_a_run_is_added_once(path: Path) -> None:
    with History(path, create=True) as history:
        assert added(history, 1, record())
        assert not added(history, 1, record(), record(policy="stock"))
        assert history.runs() == [("2026-01-01", "v1", 1, 0)]
    with History(path) as history:
        assert len(history.runs()) == 1


def test_runs_are_in_the_order_of_time_and_count_each_cell_once(path: Path) -> None:
    with History(path, create=True) as history:
        added(history, 2, record(), record(**BAD), record(policy="stock", verdict="error"))
        added(history, 1, record(policy="stock", verdict="unsupported"))
        assert history.runs() == [("2026-01-01", "v1", 1, 0), ("2026-01-02", "v2", 2, 2)]


def test_a_cell_that_failed_in_several_repeats_is_one_bad_cell(path: Path) -> None:
    with History(path, create=True) as history:
        added(history, 1, *(record() | BAD | {"repeat": n} for n in range(3)), record("sid trixie"))
        assert history.runs() == [("2026-01-01", "v1", 2, 1)]


def test_since_when_a_cell_is_as_it_is(path: Path) -> None:
    with History(path, create=True) as history:
        added(history, 4, record(verdict="silent", reason="again"))
        added(history, 3, record(**BAD))
        added(history, 1, record())
        added(history, 2, record(policy="stock", verdict="blocked", reason="x"))
        assert history.changes() == [
            VerdictChange(CELL, "2026-01-03", "v3", "pass", "silent", "again"),
            VerdictChange(record(policy="stock")["cell"]["id"], "2026-01-02", "v2", "never run",
                   "blocked", "x"),
        ]


@pytest.mark.parametrize(("last", "told"), [
    ({}, False), ({"verdict": "unsupported"}, False), ({"verdict": "error"}, True),
    ({"verdict": "silent", "known": "why"}, True), ({"known": "why"}, False),
])
def test_a_last_verdict_of_passing_is_no_change(
    path: Path, last: dict[str, Any], *, told: bool
) -> None:
    with History(path, create=True) as history:
        added(history, 1, record(**BAD))
        added(history, 2, record(**last))
        assert bool(history.changes()) is told


def test_equal_builds_with_several_verdicts_are_flaky(path: Path) -> None:
    with History(path, create=True) as history:
        added(history, 1, record(), record("bullseye trixie", "stock"))
        added(history, 2, record(**BAD), record("bullseye trixie", "stock"))
        added(history, 3, record(**BAD))
        other = record("bullseye trixie", "stock", **BAD)
        other["cell"]["source"]["firmware"] = "seabios-9"
        added(history, 4, other)  # of another build: no wonder
        assert history.flaky() == [(CELL, {"pass": 1, "silent": 2}, "5.2.0 → 11.1.3")]


def test_how_cells_do_by_their_builds(path: Path) -> None:
    with History(path, create=True) as history:
        added(history, 1, record() | {"seconds": 1.0}, record(**BAD, policy="stock"))
        added(history, 2, record() | {"seconds": None})
        firmware = "seabios-1.14.0-2 → seabios-1.17.0-1"
        assert history.trend() == [
            ("5.2.0 → 11.1.3", firmware, "v1", 2, 1, pytest.approx(0.7)),
            ("5.2.0 → 11.1.3", firmware, "v2", 1, 1, None),
        ]
        stock = record(policy="stock")["cell"]["id"]
        assert history.times() == {
            ("m.yaml", CELL): 1.0, ("m.yaml", stock): pytest.approx(0.4)}


def test_what_a_cell_did_each_time(path: Path) -> None:
    with History(path, create=True) as history:
        added(history, 2, record(**BAD) | {"seconds": 3.0})
        added(history, 1, record())
        builds = ("5.2.0 → 11.1.3", "seabios-1.14.0-2 → seabios-1.17.0-1")
        assert history.cell(CELL) == [
            ("2026-01-01", "v1", "pass", "", 0.4, *builds),
            ("2026-01-02", "v2", "silent", "nothing", 3.0, *builds),
        ]
        assert history.cell(f"m.yaml::{CELL}") == history.cell(CELL)
        assert history.cell("none") == []


def test_cells_of_two_matrices_with_one_id_are_two(path: Path) -> None:
    with History(path, create=True) as history:
        added(history, 1, *of_two_matrices())
        assert history.times() == {("a.yaml", CELL): 1.0, ("b.yaml", CELL): 9.0}
        assert [change.cell for change in history.changes()] == [f"b.yaml::{CELL}"]
        assert [row[2] for row in history.cell(f"b.yaml::{CELL}")] == ["silent"]
        with pytest.raises(UserError, match=r"is one of a\.yaml and one of b\.yaml"):
            history.cell(CELL)


def test_flaky_are_the_same_bytes_alone(path: Path) -> None:
    def built(digest: str, **values: Any) -> Any:
        one = record(**values)
        one["cell"]["source"]["digest"] = digest
        return one

    with History(path, create=True) as history:
        added(history, 1, built("0f"))
        added(history, 2, built("1f", **BAD))
        assert history.flaky() == []
        added(history, 3, built("1f"))
        assert [(cell, verdicts) for cell, verdicts, _ in history.flaky()] == [
            (CELL, {"pass": 1, "silent": 1})]


def test_a_history_of_version_1_is_gone_on_with(path: Path) -> None:
    with History(path, create=True) as history:
        added(history, 1, record())
    db = sqlite3.connect(path)
    db.executescript("ALTER TABLE results DROP COLUMN bytes; PRAGMA user_version = 1;")
    db.close()
    with History(path) as history:
        added(history, 2, record(**BAD))
        assert len(history.cell(CELL)) == 2


def test_what_is_no_history(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such history"):
        History(tmp_path / "none")
    text = tmp_path / "text"
    text.write_text("x" * 5000)
    with pytest.raises(UserError, match="cannot read this history: file is not a database"):
        History(text)
    for name, script in (("other", "CREATE TABLE t (x);"), ("newer", "PRAGMA user_version = 3;")):
        db = sqlite3.connect(tmp_path / name)
        db.executescript(script)
        db.close()
        with pytest.raises(UserError, match="no history of bootmatrix, or one of another version"):
            History(tmp_path / name)
    assert not is_history(text)
    with History(tmp_path / "made", create=True):
        assert is_history(tmp_path / "made")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UserError, match="fifo: is no regular file"):
        is_history(tmp_path / "fifo")
    with pytest.raises(UserError, match="cannot be read: No such file"):
        is_history(tmp_path / "none")


def test_a_history_that_is_damaged_later(path: Path) -> None:
    with History(path, create=True) as history:
        added(history, 1, record())
        db = sqlite3.connect(path)
        db.executescript("DROP TABLE results;")
        db.close()
        with pytest.raises(UserError, match="cannot read this history: no such table: results"):
            history.runs()
        with pytest.raises(UserError, match="cannot add to this history: no such table: results"):
            added(history, 2, record())
        db = sqlite3.connect(path)
        assert db.execute("SELECT COUNT(*) FROM runs").fetchone() == (1,), "whole or not at all"
        db.close()


def test_a_run_is_known_by_the_bytes_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    file.write_bytes(b"x")
    assert digest_of(file) == hashlib.sha256(b"x").hexdigest()


@pytest.mark.parametrize("planted", [
    "DROP TABLE results; CREATE VIEW results AS WITH RECURSIVE r(run) AS (SELECT 1 UNION ALL "
    "SELECT run FROM r) SELECT run, '' matrix, '' cell, 'pass' verdict, '' outcome, '' reason, "
    "0.0 seconds, '' qemu, '' firmware, '' bytes FROM r",
    "ALTER TABLE results ADD COLUMN more GENERATED ALWAYS AS (hex(zeroblob(500000000))) VIRTUAL",
    "DROP INDEX by_cell; CREATE INDEX by_cell ON results(hex(cell))",
    "CREATE TRIGGER t AFTER INSERT ON runs BEGIN DELETE FROM runs; END",
    "ALTER TABLE runs ADD COLUMN c TEXT CHECK (length(hex(zeroblob(50000000))))",
    "PRAGMA writable_schema = ON; INSERT INTO sqlite_master VALUES ('trigger', 'sqlite_x', 'runs', "
    "0, 'CREATE TRIGGER sqlite_x AFTER INSERT ON runs BEGIN DELETE FROM runs; END')",
    "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = replace(sql, 'verdict TEXT NOT "
    "NULL', 'verdict TEXT NOT NULL CHECK (length(hex(verdict)))') WHERE name = 'results'",
])
def test_what_a_stranger_lets_a_history_compute_is_not_computed(path: Path, planted: str) -> None:
    with History(path, create=True) as history:
        added(history, 1, record())
    with sqlite3.connect(path) as db:
        db.executescript(planted)
    db.close()
    with pytest.raises(UserError, match="no history of bootmatrix"):
        History(path)


def hot_journal(path: Path, victim: Path) -> bytes:
    """What a crash leaves, of a transaction over several databases with a super-journal."""
    content = path.read_bytes()
    size = int.from_bytes(content[16:18])
    check = sum(content[size - 200:0:-200]) & 0xFFFFFFFF
    header = bytes.fromhex("d9d505f920a163d7") + struct.pack(
        ">IIIII", 1, 0, len(content) // size, 512, size)
    name = os.fsencode(victim)
    return (header.ljust(512, b"\0") + struct.pack(">I", 1) + content[:size]
            + struct.pack(">I", check) + struct.pack(">I", (1 << 30) // size + 1) + name
            + struct.pack(">II", len(name), sum(name)) + header[:8])


def test_a_stranger_s_journal_removes_nothing(path: Path, tmp_path: Path) -> None:
    with History(path, create=True) as history:
        added(history, 1, record())
    victim, journal = tmp_path / "victim", path.with_name("h.sqlite-journal")
    victim.write_text("precious")
    hostile = hot_journal(path, victim)
    journal.write_bytes(hostile)
    link = tmp_path / "link.sqlite"
    link.symlink_to(path)
    for named in (path, link):
        for create in (False, True):
            with pytest.raises(UserError, match=r"h\.sqlite-journal beside it is none that boot"):
                History(named, create=create)
    assert victim.read_text() == "precious"
    sqlite3.connect(path).execute("SELECT * FROM runs").connection.close()
    assert not victim.exists(), "it is what SQLite would have done"


def test_what_a_run_is_called_is_there_once_for_all_its_results(path: Path) -> None:
    """A row of 40 bytes would take 8 KB: the longest label and time, in the widest characters."""
    with History(path, create=True) as history:
        added(history, 1, record(), record(policy="stock"), record(), record("sid trixie"),
              label="x" * 1000)
        (c, d) = (label for _, _, label, *_ in history.trend())
        assert c is d
        one, other = history.cell(CELL)
        assert one[0] is other[0]
        assert one[1] is other[1]
        (a, *_), (b, *_), _ = history.trends().values()
        assert a[0] is b[0]
        groups = list(history._by_cell().values())
        assert groups[0][0][1] is groups[1][0][1]


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, why in ((tmp_path / "fifo", "no regular file"), (Path("/dev/full"), "no regular fi"),
                      (tmp_path, "is a directory")):
        for create in (False, True):
            with pytest.raises(UserError, match=why):
                History(name, create=create)


@pytest.mark.parametrize("size", [4096, 0])
def test_a_stranger_s_journal_makes_no_history_larger(path: Path, size: int) -> None:
    """SQLite gives a file the size that the journal names: terabytes, of a few bytes."""
    with History(path, create=True) as history:
        added(history, 1, record())
    header = bytes.fromhex("d9d505f920a163d7") + struct.pack(">IIIII", 0, 0, 1 << 20, 512, size)
    path.with_name("h.sqlite-journal").write_bytes(header.ljust(1024, b"\0"))
    before = path.stat().st_size
    with pytest.raises(UserError, match=r"h\.sqlite-journal beside it is none that boot"):
        History(path)
    assert path.stat().st_size == before


def test_who_only_looks_makes_no_tables(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(UserError, match="no history of bootmatrix"):
        History(path)
    assert path.stat().st_size == 0


@pytest.mark.parametrize("beside", ["-journal", "-wal", "-shm"])
def test_what_is_beside_a_history(path: Path, beside: str) -> None:
    with History(path, create=True) as history:
        added(history, 1, record())
    other = path.with_name(path.name + beside)
    os.mkfifo(other)
    with pytest.raises(UserError, match=f"h.sqlite{beside} beside it is no regular file"):
        History(path)
    other.unlink()
    other.write_bytes(b"x" * 512)
    if beside == "-journal":
        with History(path) as history:
            assert len(history.runs()) == 1
    else:
        with pytest.raises(UserError, match="is none that bootmatrix has left"):
            History(path)


def test_a_run_that_was_killed_as_it_was_added_is_not_there(path: Path, tmp_path: Path) -> None:
    with History(path, create=True) as history:
        added(history, 1, record())
    db = sqlite3.connect(path)
    db.execute("PRAGMA cache_size = 1")
    db.execute("BEGIN")
    db.executemany("INSERT INTO runs(digest, time, label) VALUES (?, '', ?)",
                   [(str(number), "x" * 500) for number in range(500)])
    crashed = tmp_path / "crashed.sqlite"
    for beside in ("", "-journal"):
        crashed.with_name(crashed.name + beside).write_bytes(
            path.with_name(path.name + beside).read_bytes())
    db.close()
    assert len(crashed.read_bytes()) > 100_000, "it had begun to be written"
    with History(crashed) as history:
        assert len(history.runs()) == 1
        assert added(history, 2, record())


def test_what_stands_once_and_is_told_often_is_short(path: Path) -> None:
    with History(path, create=True) as history:
        added(history, 1, record(), label="x" * 5000)
        assert history.runs()[0][1] == "x" * 1000
    with sqlite3.connect(path) as db:
        db.execute("UPDATE runs SET label = ?", ("x" * 1001,))
    db.close()
    with pytest.raises(UserError, match="no history of bootmatrix"):
        History(path)
    with sqlite3.connect(path) as db:  # of a text SQLite counts what is before a NUL
        db.execute("UPDATE runs SET label = ?", ("\0" + "x" * 1001,))
    db.close()
    with pytest.raises(UserError, match="no history of bootmatrix"):
        History(path)
