"""Records of many runs in one SQLite file: when a cell first failed, which are flaky, trends."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import struct
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Self

from bootmatrix.errors import UserError
from bootmatrix.files import given_file
from bootmatrix.records.merged import Key, key, meant, whole_name
from bootmatrix.records.model import Record
from bootmatrix.records.outcome import outcome_of
from bootmatrix.records.words import hosts_of

_VERSION = 2
_TABLES = """
CREATE TABLE runs (id INTEGER PRIMARY KEY, digest TEXT UNIQUE NOT NULL, time TEXT NOT NULL,
                   label TEXT NOT NULL);
CREATE TABLE results (run INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
                      matrix TEXT NOT NULL, cell TEXT NOT NULL, verdict TEXT NOT NULL,
                      outcome TEXT NOT NULL, reason TEXT NOT NULL, seconds REAL,
                      qemu TEXT NOT NULL, firmware TEXT NOT NULL,
                      bytes TEXT NOT NULL DEFAULT '');
CREATE INDEX by_cell ON results(cell, run);
"""
_NEW_COLUMN = ", bytes TEXT NOT NULL DEFAULT ''"  # since version 2
LONGEST = 60
"""Seconds for all that one command asks of a history. Chosen: no history that long was here."""
_STEPS = 10_000  # of SQLite's between two looks at the clock
_LONGEST_TEXT = 128 << 10  # bytes
_LONGEST_LABEL = 1000  # characters
# How a rollback journal begins (SQLite's "Database File Format", 3): behind the magic the third is
# the size that the database had, in pages, and the last that of a page, in bytes. One that names a
# super-journal ends with the magic, too.
_MAGIC, _HEADER = bytes.fromhex("d9d505f920a163d7"), struct.Struct(">8s5I")
_LARGEST_PAGE = 65536  # bytes


@dataclass(frozen=True)
class VerdictChange:
    """A cell whose verdict became another in a run. ``cell`` is its id, or its whole name."""

    cell: str
    time: str
    label: str
    before: str
    verdict: str
    reason: str


class History:
    """The file, which is made where it is missing. Raises UserError if it is none of ours."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        try:
            with given_file.open_regular(path, sys.maxsize):
                pass
        except given_file.Missing:
            if not create:
                raise UserError("no such history", file=path,
                                hint="bootmatrix history add RECORDS") from None
        except given_file.Unreadable as error:
            raise UserError(str(error), file=path) from None
        self._path = path
        # SQLite takes the journal beside the file that a link leads to.
        real = Path(os.path.realpath(path))
        _check_journal(real)
        try:
            real.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(real)
        except (sqlite3.Error, OSError) as error:
            raise UserError(f"cannot read this history: {error}", file=path) from None
        try:
            self._make_ready(create=create)
        except BaseException as error:
            self._db.close()
            if isinstance(error, sqlite3.Error):
                raise UserError(f"cannot read this history: {error}", file=path) from None
            raise

    def _make_ready(self, *, create: bool) -> None:
        """Make the tables where there are none. Raises UserError for somebody else's."""
        # A stranger's file can hold one long text in each of a million rows, and be small.
        self._db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_TEXT)
        end = monotonic() + LONGEST
        self._db.set_progress_handler(lambda: monotonic() > end, _STEPS)
        self._db.execute("PRAGMA foreign_keys = ON")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        empty = version == 0 and not self._db.execute("SELECT 1 FROM sqlite_master").fetchone()
        if create and empty:
            self._db.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {_VERSION}; COMMIT")
        elif version not in (1, _VERSION) or not self._is_ours():
            raise UserError("no history of bootmatrix, or one of another version", file=self._path)
        elif version == 1:  # which did not tell builds of one name apart
            self._db.executescript(f"BEGIN; ALTER TABLE results ADD COLUMN {_NEW_COLUMN[2:]}; "
                                   f"PRAGMA user_version = {_VERSION}; COMMIT")

    def _is_ours(self) -> bool:
        """Whether there is nothing but our tables, as we make them.

        A stranger's view, trigger, constraint or computed column need never end.
        """
        # Those without a text are SQLite's own, for a UNIQUE.
        found = {_one_line(sql) for sql, in self._db.execute(
            "SELECT sql FROM sqlite_master WHERE NOT (type = 'index' AND sql IS NULL)")}
        ours = {_one_line(sql) for sql in _TABLES.split(";") if sql.strip()}
        # What stands once in a small file would be there once for each result of its run.
        return found in (ours, {sql.replace(_NEW_COLUMN, "") for sql in ours}) and not (
            self._db.execute("SELECT 1 FROM runs WHERE max(length(label), length(time)) > ? "
                             "OR instr(label || time, char(0))",
                             (_LONGEST_LABEL,)).fetchone())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()

    def add(self, records: Iterable[Record], *, digest: str, time: str, label: str) -> bool:
        """Add a run; whether it was not there yet. ``time`` is ISO 8601, and orders the runs."""
        try:
            with self._db:
                if self._db.execute("SELECT 1 FROM runs WHERE digest = ?", (digest,)).fetchone():
                    return False
                run = self._db.execute("INSERT INTO runs(digest, time, label) VALUES (?, ?, ?)",
                                       (digest, time, label[:_LONGEST_LABEL])).lastrowid
                self._db.executemany("INSERT INTO results VALUES (?,?,?,?,?,?,?,?,?,?)",
                                     (_row(run, record) for record in records))
        except sqlite3.Error as error:
            raise UserError(f"cannot add to this history: {error}", file=self._path) from None
        return True

    def runs(self) -> list[tuple[str, str, int, int]]:
        """(time, label, cells, of these bad), the oldest first."""
        return self._rows("""
            SELECT time, label, COUNT(DISTINCT matrix || ':' || cell),
                   COUNT(DISTINCT CASE WHEN outcome IN ('failed', 'error')
                                  THEN matrix || ':' || cell END)
            FROM runs JOIN results ON run = runs.id GROUP BY runs.id ORDER BY time, runs.id""")

    def cell(self, cell: str) -> list[tuple[str, str, str, str, float | None, str, str]]:
        """(time, label, verdict, reason, seconds, QEMUs, firmware) of each time a cell ran.

        It is given by its id, or as MATRIX::ID. Raises UserError where several matrices have it.
        """
        runs = self._runs()
        return [(*runs[run], *row) for run, *row in self._rows("""
            SELECT runs.id, verdict, reason, seconds, qemu, firmware
            FROM results JOIN runs ON runs.id = run WHERE matrix = ? AND cell = ? ORDER BY time,
            runs.id, results.rowid""", *(meant(cell, self._cells(), self._path) or ("", cell)))]

    def changes(self) -> list[VerdictChange]:
        """For each cell whose last verdict is none of passing: since when it is so."""
        changes = []
        named = self._names()
        for about, group in self._by_cell().items():
            last = group[-1]
            if last[4] not in ("failed", "error", "known"):
                continue
            first = len(group) - 1
            while first and group[first - 1][2] == last[2]:
                first -= 1
            before = group[first - 1][2] if first else "never run"
            changes.append(VerdictChange(named[about], group[first][0], group[first][1], before,
                                         last[2], last[3]))
        return changes

    def flaky(self) -> list[tuple[str, dict[str, int], str]]:
        """(cell, how often each verdict came, QEMUs) where the same bytes gave several verdicts."""
        found: dict[tuple[str, ...], dict[str, int]] = {}
        for *about, verdict, number in self._rows("""
                SELECT matrix, cell, qemu, firmware, bytes, verdict, COUNT(*) FROM results
                GROUP BY matrix, cell, qemu, firmware, bytes, verdict ORDER BY cell, verdict"""):
            found.setdefault(tuple(about), {})[verdict] = number
        named = self._names()
        return [(named[matrix, cell], verdicts, qemu)
                for (matrix, cell, qemu, *_), verdicts in found.items() if len(verdicts) > 1]

    def trend(self) -> list[tuple[str, str, str, int, int, float | None]]:
        """(QEMUs, firmware, label, cells, passed, mean seconds) by builds and run."""
        runs = self._runs()
        return [(qemu, firmware, runs[run][1], *row) for qemu, firmware, run, *row in self._rows("""
            SELECT qemu, firmware, runs.id, COUNT(*), SUM(verdict = 'pass'), AVG(seconds)
            FROM results JOIN runs ON runs.id = run
            GROUP BY qemu, firmware, runs.id ORDER BY qemu, firmware, time, runs.id""")]

    def trends(
        self, but: Iterable[Record] = ()
    ) -> dict[Key, list[tuple[str, str, str, float | None]]]:
        """Of each cell, the oldest first: (the run's label or time, verdict, firmware, seconds).

        Without a run all of whose results are among those ``but``, which tell of it already. It
        can be there as a copy with other bytes: the seconds tell.
        """
        known = {(*key(record), record["verdict"], record.get("seconds")) for record in but}
        rows = self._rows("""
            SELECT matrix, cell, runs.id, verdict, firmware, seconds
            FROM results JOIN runs ON runs.id = run ORDER BY time, runs.id, results.rowid""")
        others = {run for matrix, cell, run, verdict, _, seconds in rows
                  if seconds is None or (matrix, cell, verdict, seconds) not in known}
        found: dict[Key, list[tuple[str, str, str, float | None]]] = {}
        runs = self._runs()
        for matrix, cell, run, *row in rows:
            if run in others:
                time, label = runs[run]
                found.setdefault((matrix, cell), []).append((label or time, *row))
        return found

    def times(self) -> dict[Key, float]:
        """The mean seconds of each cell."""
        return {(matrix, cell): seconds for matrix, cell, seconds in self._rows("""
            SELECT matrix, cell, AVG(seconds) FROM results WHERE seconds IS NOT NULL
            GROUP BY matrix, cell""")}

    def _runs(self) -> dict[int, tuple[str, str]]:
        """Time and label of each run, once: what a result's run is called it shares with others."""
        return {run: (time, label) for run, time, label in self._rows(
            "SELECT id, time, label FROM runs")}

    def _by_cell(self) -> dict[Key, list[tuple[Any, ...]]]:
        groups: dict[Key, list[tuple[Any, ...]]] = {}
        runs = self._runs()
        for matrix, cell, run, *row in self._rows("""
                SELECT matrix, cell, runs.id, verdict, reason, outcome
                FROM results JOIN runs ON runs.id = run
                ORDER BY matrix, cell, time, runs.id, results.rowid"""):
            groups.setdefault((matrix, cell), []).append((*runs[run], *row))
        return groups

    def names(self) -> list[str]:
        """What its cells are called."""
        return list(self._names().values())

    def _cells(self) -> list[Key]:
        return self._rows("SELECT DISTINCT matrix, cell FROM results")

    def _names(self) -> dict[Key, str]:
        """What each cell is called: by its id, unless several matrices have that."""
        every = self._cells()
        ids = Counter(cell for _, cell in every)
        return {about: about[1] if ids[about[1]] == 1 else whole_name(about) for about in every}

    def _rows(self, query: str, *values: str) -> list[Any]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise UserError(f"cannot read this history: {error}", file=self._path) from None


def _row(run: int | None, record: Record) -> tuple[Any, ...]:
    hosts: Sequence[Any] = list(hosts_of(record))
    matrix, cell = key(record)
    return (
        run, matrix, cell, record["verdict"], outcome_of(record).value,
        (str(record["reason"]).splitlines() or [""])[0], record.get("seconds"),
        " → ".join(str(host.get("qemu")) for host in hosts),
        " → ".join(str(host.get("firmware")) for host in hosts),
        " ".join(f"{host.get('digest')} {host.get('firmware_sha256')}" for host in hosts),
    )


def _check_journal(path: Path) -> None:
    """Raise UserError for what SQLite must not take for the journal of a history.

    As it opens one it plays back what a crash has left beside it, and removes the file that a
    journal names as that of several databases: a stranger's can name any file of the user's.
    """
    for beside in ("-journal", "-wal", "-shm"):
        journal = path.with_name(path.name + beside)
        try:
            with given_file.open_regular(journal, sys.maxsize) as file:
                if beside == "-journal":
                    header = _HEADER.unpack(file.read(_HEADER.size).ljust(_HEADER.size, b"\0"))
                    file.seek(max(0, file.seek(0, os.SEEK_END) - len(_MAGIC)))
                    # The history has only grown since: it is cut to what it was.
                    was = header[3] * (header[5] or _LARGEST_PAGE) if header[0] == _MAGIC else 0
                    now = path.stat().st_size if path.exists() else 0
                    if file.read() != _MAGIC and was <= now:
                        continue  # a run of `history add` was killed
            what = "is none that bootmatrix has left"
        except given_file.Missing:
            continue
        except given_file.Unreadable as error:
            what = str(error)
        raise UserError(f"{journal.name} beside it {what}", file=path, hint="it is not opened")


def is_history(path: Path) -> bool:
    """Whether a file is a SQLite one. Raises UserError if it cannot be read."""
    try:
        with given_file.open_regular(path, sys.maxsize) as file:  # a database of any size
            return file.read(16) == b"SQLite format 3\0"
    except given_file.Unreadable as error:
        raise UserError(str(error), file=path) from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", file=path) from None


def digest_of(path: Path) -> str:
    """The sha256 of a file, by which a run that is added twice is known."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _one_line(sql: object) -> str:
    return " ".join(str(sql).split())
