"""What a bisection has tried, in a file that outlives it; one at a time may write there."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bootmatrix
from bootmatrix.errors import UserError
from bootmatrix.files import given_file

_SCHEMA = 2
_LARGEST = 64 << 20


@dataclass(frozen=True)
class Answer:
    """What a candidate was found to be: a verdict with its record, or a reason to skip it.

    ``content`` is a digest of the builds that were run, "" where none was. ``lasting`` answers may
    be remembered: what broke for a reason of the moment is tried again the next time.
    ``confirmed``: it was run once more, with the same verdict.
    """

    verdict: str | None
    reason: str
    record: dict[str, Any] | None = None
    content: str = ""
    lasting: bool = True
    confirmed: bool = False

    @property
    def skipped(self) -> bool:
        """Whether nothing was learnt of the claim."""
        return self.verdict is None


@dataclass
class Tried:
    """The answers so far to one ``question``, by candidate. Raises UserError if it is no state.

    ``ends`` are what the names given for the ends stood for when the search began, until it has
    ended: a build command that checks revisions out moves HEAD.
    """

    path: Path
    question: dict[str, Any]
    answers: dict[str, Answer] = field(default_factory=dict)
    ends: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.path.exists():
            return
        try:
            known = json.loads(given_file.read(self.path, _LARGEST))
            same = known["schema"] == _SCHEMA and known["question"] == self.question
            answers = {name: Answer(**answer) for name, answer in known["answers"].items()}
            ends = {str(name): str(end) for name, end in known["ends"].items()}
        except (ValueError, TypeError, KeyError, AttributeError, given_file.Unreadable,
                RecursionError) as error:
            raise UserError(f"no state of a bisection ({error})", file=self.path,
                            hint="--fresh begins anew") from None
        if not same:
            raise UserError("this is the state of another bisection", file=self.path,
                            hint="--fresh begins anew; or give another --state")
        self.answers, self.ends = answers, ends

    def keep(self, name: str, answer: Answer) -> None:
        """Take an answer in, and remember it if it is a lasting one."""
        self.answers[name] = answer
        self._write()

    def began(self, ends: dict[str, str]) -> None:
        """Remember what the ends are."""
        self.ends = ends
        self._write()

    def ended(self) -> None:
        """The search is over: when it is asked for again, the names of its ends may have moved."""
        self.ends = {}
        self._write()

    def like(self, content: str) -> Answer | None:
        """The answer of a candidate that was the same build, byte for byte."""
        return next((answer for answer in self.answers.values()
                     if answer.content == content and answer.lasting), None)

    def _write(self) -> None:
        text = json.dumps({
            "schema": _SCHEMA, "question": self.question, "ends": self.ends,
            "answers": {name: vars(answer) for name, answer in self.answers.items()
                        if answer.lasting},
        }, indent=1) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot remember what was tried: {error.strerror}",
                            file=self.path) from None
        given_file.replace(self.path, text.encode())


def fingerprint(value: object) -> str:
    """Twelve hex digits that tell a question from others."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=repr).encode()).hexdigest()[:12]


def judge() -> str:
    """What tells this program from another version of it, which may judge otherwise."""
    sources = sorted(Path(bootmatrix.__file__).parent.rglob("*.py"))
    return fingerprint([hashlib.sha256(file.read_bytes()).hexdigest() for file in sources])


def state_home() -> Path:
    """Where the user's programs keep their state (XDG Base Directory Specification)."""
    home = os.environ.get("XDG_STATE_HOME", "")
    base = Path(home) if Path(home).is_absolute() else Path.home() / ".local" / "state"
    return base / "bootmatrix"


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Have a directory, which is made where it is missing, for this process alone.

    The kernel lets go of it when the process ends. Raises UserError where another has it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UserError(f"cannot be used: {error.strerror}", file=directory) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(lock, 20, 0).decode(errors="replace").strip()
            raise UserError(f"this bisection is already running, as process {owner or 'unknown'}",
                            file=directory) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(lock)
