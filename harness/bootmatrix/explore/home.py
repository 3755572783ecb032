"""What an exploration keeps in its run's directory, which its workers share, and goes on from.

All of it is data, a JSON object a line or a file. Whoever is killed in the middle of a line leaves
a half, which is no answer and no finding.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bootmatrix.errors import UserError
from bootmatrix.explore.answers import Answers, LifeOutcome
from bootmatrix.explore.coverage import Coverage
from bootmatrix.explore.failures import Failure, KnownFailure
from bootmatrix.files import given_file

PLACE, FINDINGS = "explore", "findings"
_ASKED = "asked.json"
_MOST = 1 << 30


class Lines:
    """A file of JSON objects, a line each, which several processes add to and read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            os.write(self._file, b"\n")  # behind the half of a line that somebody has left
        self._read = 0

    def add(self, data: Mapping[str, Any]) -> None:
        """Add a line, in one step."""
        os.write(self._file, json.dumps(data).encode() + b"\n")

    def new(self) -> Iterator[dict[str, Any]]:
        """The lines that are there since this was asked last, whoever has added them."""
        size = os.fstat(self._file).st_size
        if size <= self._read or size > _MOST:
            return
        text = os.pread(self._file, size - self._read, self._read)
        whole = text.rfind(b"\n") + 1
        self._read += whole
        for line in text[:whole].splitlines():
            try:
                data = json.loads(line)
            except ValueError:
                continue
            if isinstance(data, dict):
                yield data

    def close(self) -> None:
        """Close it."""
        os.close(self._file)


class Home:
    """The answers, the ways to fail that are known, and the findings of an exploration."""

    def __init__(self, run_dir: Path, worker: int) -> None:
        self._run_dir = run_dir
        self._place = run_dir / PLACE
        self.findings = run_dir / FINDINGS
        (self._place / "claims").mkdir(parents=True, exist_ok=True)
        self.findings.mkdir(exist_ok=True)
        self.lives = self._place / f"hypothesis-{worker}"
        self._session_file = self._place / f"session-{worker}"
        self._coverage_file = self._place / f"coverage-{worker}.json"
        self._answer_lines = Lines(self._place / "answers.jsonl")
        self._seen_lines = Lines(self._place / "seen.jsonl")
        self._answers = Answers()
        self._seen: list[KnownFailure] = []
        self._claims: dict[str, int] = {}

    def close(self) -> None:
        """Let go of all of it."""
        self._answer_lines.close()
        self._seen_lines.close()
        for held in self._claims.values():
            os.close(held)
        self._claims.clear()

    # -- answers ---------------------------------------------------------------------------------

    def answer(self, place: str, way: Sequence[str]) -> LifeOutcome | None:
        """What became of a life, as far as anybody knows."""
        for line in self._answer_lines.new():
            self._take(line)
        return self._answers.of(place, way)

    def _take(self, line: Mapping[str, Any]) -> None:
        try:
            place, way = str(line["place"]), [str(step) for step in line["way"]]
            if line.get("forget"):
                self._answers.forget(place, way)
                return
            failed = line["failed"]
            answer = LifeOutcome() if failed is None else LifeOutcome(
                int(failed), Failure(**line["failure"]))
        except (KeyError, TypeError, ValueError):
            return  # of another version
        self._answers.add(place, way, answer)

    def keep(self, place: str, way: Sequence[str], answer: LifeOutcome) -> None:
        """Keep what became of a life."""
        self._answer_lines.add({
            "place": place, "way": list(way), "failed": answer.failed,
            "failure": answer.failure and answer.failure.plain})

    def forget(self, place: str, way: Sequence[str]) -> None:
        """Let go of a failure that did not happen again."""
        self._answer_lines.add({"place": place, "way": list(way), "forget": True})

    # -- ways to fail ----------------------------------------------------------------------------

    @property
    def seen(self) -> list[KnownFailure]:
        """The ways to fail that need no more looking at."""
        for line in self._seen_lines.new():
            try:
                self._seen.append(KnownFailure.read(line))
            except ValueError:
                continue
        return self._seen

    def add(self, seen: KnownFailure) -> None:
        """One more of them."""
        self._seen_lines.add(seen.plain)

    def claim(self, failure: Failure) -> bool:
        """Have a way to fail for oneself, to look at it; another worker may have it."""
        name = hashlib.sha256(repr(failure).encode()).hexdigest()[:16]
        if name in self._claims:
            return True
        held = os.open(self._place / "claims" / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
            return False
        self._claims[name] = held
        return True

    def unclaim(self) -> None:
        """Let go of what is looked at."""
        for held in self._claims.values():
            os.close(held)
        self._claims.clear()

    # -- findings --------------------------------------------------------------------------------

    def new_finding(self) -> tuple[str, Path]:
        """A name that no finding has, and the file that it is written to, empty until then."""
        number = 1
        while True:
            path = self.findings / f"finding-{number}.yaml"
            try:
                path.open("x").close()
            except FileExistsError:
                number += 1
            else:
                return path.stem, path

    def tell(self, name: str, data: Mapping[str, Any]) -> None:
        """Keep what is said of a finding."""
        given_file.replace(self.findings / f"{name}.json",
                           json.dumps(data, indent=1).encode() + b"\n")

    def all_findings(self) -> list[dict[str, Any]]:
        """What is said of all findings, in their order."""
        found = []
        for path in self.findings.glob("finding-*.json"):
            data = _object(path)
            if data is not None:
                found.append(data)
        return sorted(found, key=lambda one: int(str(one["name"]).rpartition("-")[2]))

    def also(self, name: str, way: Sequence[str]) -> None:
        """A finding was met with other builds."""
        data = _object(self.findings / f"{name}.json")
        if data is not None:  # what the matrix declares has none
            self.tell(name, data | {"also": [*data.get("also", []), list(way)]})

    # -- how far it has come ---------------------------------------------------------------------

    @property
    def session(self) -> int:
        """The search that this worker is at, from 0."""
        try:
            return int(self._session_file.read_text())
        except (OSError, ValueError):
            return 0

    def ended(self, session: int, coverage: Coverage) -> None:
        """A search is over; its coverage is kept."""
        self.covered(coverage)
        given_file.replace(self._session_file, f"{session + 1}\n".encode())

    def covered(self, coverage: Coverage) -> None:
        """Keep what this worker has covered."""
        given_file.replace(self._coverage_file, json.dumps(coverage.plain).encode() + b"\n")

    def coverage(self) -> Coverage:
        """What it has covered before."""
        return _coverage(self._coverage_file)

    def all_coverage(self) -> Coverage:
        """What all workers have covered."""
        whole = Coverage()
        for path in self._place.glob("coverage-*.json"):
            whole.merge(_coverage(path))
        return whole


def _coverage(path: Path) -> Coverage:
    try:
        return Coverage.read(_object(path) or {})
    except ValueError:
        return Coverage()


def _object(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(given_file.read(path, _MOST))
    except (given_file.Unreadable, ValueError):
        return None
    return data if isinstance(data, dict) else None


def write_coverage(run_dir: Path, coverage: Coverage) -> None:
    """All that was covered, and all that never was, for whoever wants to read it."""
    given_file.replace(run_dir / "coverage.json",
                       json.dumps(coverage.plain, indent=1).encode() + b"\n")


def _word(value: object) -> str:
    words = value if isinstance(value, list) else [value]
    return " ".join(map(str, words)) or "nothing"


def check_same(run_dir: Path, asked: Mapping[str, Any]) -> bool:
    """Whether an exploration goes on in this directory; what it was asked is kept in a new one.

    Raises UserError where what is there was asked something else.
    """
    path = run_dir / PLACE / _ASKED
    before = _object(path)
    if before is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        given_file.replace(path, json.dumps(dict(asked)).encode() + b"\n")
        return False
    for key, value in asked.items():
        if before.get(key, value) != value:
            raise UserError(f"was begun with {key} {_word(before[key])}, and not {_word(value)}",
                            file=run_dir, hint="give another --run-dir")
    return True
